//! What an API key may be used for.

use std::fmt;

/// One of the things an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Change the catalog and its secrets, send again, and read the audit log.
    Manage,
    /// Publish events.
    Publish,
    /// Look things up.
    Read,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Manage, Self::Publish, Self::Read];

    /// The scope's word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manage => "manage",
            Self::Publish => "publish",
            Self::Read => "read",
        }
    }

    /// The scope of a word.
    ///
    /// # Errors
    /// For any other word; says which there are.
    pub fn from_word(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        found.ok_or_else(|| format!("{word:?} is none of manage, publish and read"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an API key may be used for, in the order of [`Scope::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes([bool; 3]);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self([true; 3]);

    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0[scope as usize]
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// Reads what `Display` writes; `None` for anything else.
    pub(super) fn from_words(words: &str) -> Option<Self> {
        words.split(' ').map(|word| Scope::from_word(word).ok()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut chosen = [false; 3];
        for scope in scopes {
            chosen[scope as usize] = true;
        }
        Self(chosen)
    }
}

/// Their words, with a space between.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back_as_they_were_stored() {
        for chosen in 1..8_usize {
            let picked = |scope: &Scope| chosen >> (*scope as usize) & 1 == 1;
            let scopes: Scopes = Scope::ALL.into_iter().filter(picked).collect();
            assert_eq!(Scopes::from_words(&scopes.to_string()), Some(scopes));
            for scope in Scope::ALL {
                assert_eq!(scopes.has(scope), picked(&scope));
            }
        }
        assert_eq!(Scopes::from_words("manage publish read"), Some(Scopes::ALL));
        for broken in ["", "all", "read  manage", "read,manage"] {
            assert_eq!(Scopes::from_words(broken), None, "{broken}");
        }
    }
}
