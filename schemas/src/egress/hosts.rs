//! Names that never leave a machine or a network, and those an operator allows.

use serde::Deserialize;
use std::fmt;
use url::Host;

/// Last labels under which nothing of the public internet is, and whose word that is. A name that is one of
/// them, or ends in one of them, is not a target's.
pub const SPECIAL: [(&str, &str); 16] = [
    ("localhost", "RFC 6761"),
    ("localdomain", "common use"),
    ("local", "RFC 6762"),
    ("internal", "ICANN, 2024"),
    ("arpa", "RFC 3172; home.arpa: RFC 8375"),
    ("home", "ICANN, 2018: never to be delegated"),
    ("corp", "ICANN, 2018: never to be delegated"),
    ("lan", "common use"),
    ("intranet", "RFC 6762, appendix G"),
    ("private", "RFC 6762, appendix G"),
    ("svc", "Kubernetes"),
    ("cluster.local", "Kubernetes"),
    ("test", "RFC 6761"),
    ("invalid", "RFC 6761"),
    ("onion", "RFC 7686"),
    ("alt", "RFC 9476"),
];

/// Whether a name, in lower case, is special.
#[must_use]
pub fn is_special(name: &str) -> bool {
    SPECIAL.iter().any(|(last, _)| is_or_ends_in(name, last))
}

fn is_or_ends_in(name: &str, last: &str) -> bool {
    name.strip_suffix(last)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A host an operator allows: a name, or `*.` and a name for all below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether a host, as it stands in a normalised URL, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if self.below {
            host.len() > self.name.len() && is_or_ends_in(host, &self.name)
        } else {
            host == self.name
        }
    }
}

/// Text that is not a host's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a host such as \"hooks.example.internal\" or \"*.example.internal\"; addresses belong into delivery.allow_networks"
)]
pub struct NotAHost(String);

impl TryFrom<String> for HostPattern {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        match Host::parse(name) {
            Ok(Host::Domain(name)) if !name.ends_with('.') && !name.contains('*') => Ok(Self { name, below }),
            Ok(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(NotAHost(text)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        f.write_str(&self.name)
    }
}
