//! The catalog's rows and errors.

use super::scopes::Scopes;
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use schemas::rate::RateLimit;
use schemas::schedule::RetryPolicy;
use schemas::signature::compatible::SignatureHeader;
use schemas::target::{RequestOptions, Scheme, SecretText, TargetState, TlsOptions};
use schemas::time::Millis;
use schemas::verification::Verification;
use std::time::Duration;

/// Why the catalog could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The database is away or too slow; nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// No such thing, for this tenant.
    #[error("not found")]
    NotFound,
    /// It is there already.
    #[error("{0}")]
    Conflict(String),
    /// It is not as it was expected: see [`Catalog::expecting`](super::Catalog::expecting).
    #[error("changed meanwhile")]
    Changed,
    /// It is used by these subscriptions.
    #[error("in use by {} subscription(s)", .0.len())]
    InUse(Vec<SubscriptionId>),
    /// A reference to something that this tenant does not have.
    #[error("{field}: no such {what}")]
    Dangling {
        /// The field that refers.
        field: &'static str,
        /// What it should refer to.
        what: &'static str,
    },
}

/// One page of a list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows.
    pub limit: u32,
    /// Only rows with an id below this.
    pub before: Option<i64>,
}

/// A change of one field by PATCH: keep it, or set it (to null too, for optional fields).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The field was absent.
    #[default]
    Keep,
    /// The field was given.
    Set(T),
}

impl<T> Change<T> {
    /// The new value, given the old one.
    pub fn apply(self, old: T) -> T {
        match self {
            Self::Keep => old,
            Self::Set(new) => new,
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub name: Tenant,
    /// When it was made.
    pub created_at: Millis,
}

/// An API key, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: i64,
    /// The tenant it speaks for.
    pub tenant: Tenant,
    /// What it is for.
    pub name: String,
    /// The first characters of the key, to recognise it by.
    pub prefix: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ends; `None` for never.
    pub expires_at: Option<Millis>,
    /// When it was last used, to the minute; `None` for never.
    pub last_used_at: Option<Millis>,
    /// When it was made.
    pub created_at: Millis,
}

/// An API key to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// See [`KeyRow::name`].
    pub name: String,
    /// See [`KeyRow::scopes`].
    pub scopes: Scopes,
    /// See [`KeyRow::expires_at`].
    pub expires_at: Option<Millis>,
}

impl From<&str> for NewKey {
    /// A key for everything, for ever.
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scopes: Scopes::ALL,
            expires_at: None,
        }
    }
}

/// A target, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// The normalised address.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its own headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whom to write to when deliveries are given up: an e-mail address.
    pub contact: Option<String>,
    /// Whether it takes deliveries.
    pub state: TargetState,
    /// Why it is disabled, in words, where that was not by hand.
    pub disabled_reason: Option<String>,
    /// How often it may be sent to.
    pub rate_limit: Option<RateLimit>,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// Its own time limit for one attempt.
    pub timeout: Option<Duration>,
    /// How requests are signed, TLS, and how it proves itself.
    pub request: RequestOptions,
    /// When it last proved that it wants deliveries; `None` where it never did, or not at this address.
    pub verified_at: Option<Millis>,
    /// Why its last challenge proved nothing, in words.
    pub not_proved: Option<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// A target to make. The URL and headers are checked and normalised before they come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTarget {
    /// See [`Target::url`].
    pub url: String,
    /// See [`Target::description`].
    pub description: Option<String>,
    /// See [`Target::headers`].
    pub headers: Vec<(String, String)>,
    /// See [`Target::contact`].
    pub contact: Option<String>,
    /// See [`Target::state`].
    pub state: TargetState,
    /// See [`Target::rate_limit`].
    pub rate_limit: Option<RateLimit>,
    /// See [`Target::retry`].
    pub retry: Option<RetryPolicy>,
    /// See [`Target::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Target::request`].
    pub request: RequestOptions,
    /// The private key of the client certificate in `request.tls`, in PEM. Checked with it before.
    pub client_key: Option<SecretText>,
}

impl NewTarget {
    /// An active target with nothing but an address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            description: None,
            headers: Vec::new(),
            contact: None,
            state: TargetState::Active,
            rate_limit: None,
            retry: None,
            timeout: None,
            request: RequestOptions::default(),
            client_key: None,
        }
    }
}

/// A change of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPatch {
    /// See [`Target::url`].
    pub url: Change<String>,
    /// See [`Target::description`].
    pub description: Change<Option<String>>,
    /// See [`Target::headers`].
    pub headers: Change<Vec<(String, String)>>,
    /// See [`Target::contact`].
    pub contact: Change<Option<String>>,
    /// See [`Target::state`].
    pub state: Change<TargetState>,
    /// See [`Target::rate_limit`].
    pub rate_limit: Change<Option<RateLimit>>,
    /// See [`Target::retry`].
    pub retry: Change<Option<RetryPolicy>>,
    /// See [`Target::timeout`].
    pub timeout: Change<Option<Duration>>,
    /// See [`RequestOptions::schemes`].
    pub schemes: Change<Vec<Scheme>>,
    /// See [`RequestOptions::signature_headers`].
    pub signature_headers: Change<Vec<SignatureHeader>>,
    /// See [`RequestOptions::tls`]; with the private key of the client certificate, if there is one.
    pub tls: Change<Option<(TlsOptions, Option<SecretText>)>>,
    /// See [`RequestOptions::verification`].
    pub verification: Change<Verification>,
}

/// A filter: the event types somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its id.
    pub id: FilterId,
    /// What it is called.
    pub name: String,
    /// Patterns (see `schemas::pattern`), at least one.
    pub events: Vec<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// A subscription: this target gets what this filter wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The target.
    pub target: TargetId,
    /// The filter.
    pub filter: FilterId,
    /// Whether it counts.
    pub active: bool,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

/// Target, filter and subscription in one. Its id is the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The target's id.
    pub id: TargetId,
    /// The target's address.
    pub url: String,
    /// The patterns of all the target's active subscriptions' filters, sorted, without repeats.
    pub events: Vec<String>,
    /// Whether the target is disabled.
    pub disabled: bool,
    /// When the target was made.
    pub created_at: Millis,
    /// When the target was last changed.
    pub updated_at: Millis,
}

/// A row of the change feed: something of this tenant changed, so that which targets an event
/// matches may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// Its number: 1, 2, 3 and so on without gaps, in the order of the commits.
    pub seq: i64,
    /// The tenant.
    pub tenant: Tenant,
    /// The target whose details changed too, or that was made or deleted.
    pub target: Option<TargetId>,
}
