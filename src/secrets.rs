//! `hookwright secrets`: what is sealed in the database, and with which key.

use crate::admin;
use crate::cli::SecretsCommand;
use crate::failure::Failure;
use crate::terminal::say;
use platform::catalog::{Catalog, CatalogError, Resealed, SealedBy};
use platform::secrets::KeyId;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a run tells how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What is sealed with other keys than the one that seals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// With a key that is configured: how many values, and which keys.
    pub old: u64,
    old_keys: Vec<String>,
    /// With one that is not.
    pub lost: u64,
    lost_keys: Vec<String>,
}

impl Left {
    /// What is left, by what is sealed with which key.
    fn of(sealed: &SealedBy, seals: KeyId, opens: impl Fn(KeyId) -> bool) -> Self {
        let mut left = Self::default();
        for (key, count) in sealed {
            match key {
                Some(key) if *key == seals => {}
                Some(key) if opens(*key) => {
                    left.old += count;
                    left.old_keys.push(key.to_string());
                }
                Some(key) => {
                    left.lost += count;
                    left.lost_keys.push(key.to_string());
                }
                None => {
                    left.lost += count;
                    left.lost_keys.push("of a newer version".to_owned());
                }
            }
        }
        left
    }

    /// What a catalog has left.
    pub async fn look(catalog: &Catalog) -> Result<Self, CatalogError> {
        let sealed = catalog.sealed_by().await?;
        Ok(Self::of(&sealed, catalog.seals_with(), |key| catalog.opens(key)))
    }

    /// What needs a key of `secrets.old_keys`, in words; `None` where nothing does.
    pub fn old(&self) -> Option<String> {
        let keys = self.old_keys.join(", ");
        (self.old > 0).then(|| format!("an old key (id {keys}) is still needed for {}", values(self.old)))
    }

    /// What no key opens, in words; `None` where each has one.
    pub fn lost(&self) -> Option<String> {
        let keys = self.lost_keys.join(", ");
        (self.lost > 0).then(|| {
            format!(
                "a key that is not configured (id {keys}) is needed for {}: add it to secrets.old_keys",
                values(self.lost)
            )
        })
    }
}

fn values(count: u64) -> String {
    match count {
        1 => "1 value".to_owned(),
        many => format!("{many} values"),
    }
}

/// Runs one of the commands.
pub async fn run(command: SecretsCommand, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let SecretsCommand::Rotate = command;
    let catalog = admin::open(file, flags).await?;
    let away = |error: CatalogError| Failure::away("store.url", &error);
    say(&format!("key {} seals", catalog.seals_with()));
    let before = Left::look(&catalog).await.map_err(away)?;
    let mut last = Instant::now();
    let told = |done: Resealed| {
        if last.elapsed() >= TOLD_EVERY {
            last = Instant::now();
            say(&format!("{} of {} sealed anew", done.sealed, values(before.old)));
        }
    };
    let done = catalog.reseal(told).await.map_err(away)?;
    let left = Left::look(&catalog).await.map_err(away)?;
    say(&format!("{} sealed anew", values(done.sealed)));
    match (left.lost(), left.old()) {
        (Some(lost), _) => Err(Failure::unavailable(format!("secrets: {lost}"))),
        (None, Some(old)) => Err(Failure::unavailable(format!(
            "secrets: {old}: a process still seals with it; give all of them the new secrets.key, then run this again"
        ))),
        (None, None) => {
            say("nothing needs an old key: secrets.old_keys may be emptied");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::secrets::Sealer;

    #[test]
    fn what_is_left_is_told_by_whether_its_key_is_there() {
        let [new, old, lost] = [(); 3].map(|()| Sealer::random().0.seals_with());
        let look = |sealed: &[(Option<KeyId>, u64)]| {
            Left::of(&sealed.iter().copied().collect(), new, |key| {
                key == old || key == new
            })
        };
        let done = look(&[(Some(new), 7)]);
        assert_eq!((done.old(), done.lost()), (None, None));
        let some = look(&[(Some(new), 7), (Some(old), 1)]);
        assert_eq!(
            some.old(),
            Some(format!("an old key (id {old}) is still needed for 1 value"))
        );
        assert_eq!(some.lost(), None);
        let bad = look(&[(Some(lost), 2), (None, 1)]);
        let words = bad.lost().unwrap();
        assert!(
            words.contains("not configured") && words.contains("3 values"),
            "{words}"
        );
        assert!(
            words.contains(&lost.to_string()) && words.contains("newer version"),
            "{words}"
        );
    }
}
