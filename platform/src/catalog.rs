//! Port: the catalog: tenants, keys, targets, filters, subscriptions.
//!
//! One implementation over `sqlx::Any`: SQLite and Postgres are reached with the same SQL. Every
//! call on a tenant's things takes the tenant first, so that forgetting it does not compile; another
//! tenant's id is answered as if it did not exist.
//!
//! The delivery path does not depend on it: consumer and dispatcher keep what they need in memory,
//! go on with that while the database is away, and learn from the change feed what to forget.
//!
//! | module | holds |
//! |---|---|
//! | `tenants`, `keys`, `scopes`, `targets`, `target_secrets`, `filters`, `subscriptions`, `endpoints` | what the API does |
//! | `import` | all that a tenant has, read and brought in at once |
//! | `matching` | what the delivery path asks |
//! | `expected` | changes on a condition |
//! | `claims` | idempotency keys: changes that are made once |
//! | `audit`, `audited` | who changed what |
//! | `verification` | which targets are to prove themselves, and what came of it |
//! | `health`, `notices` | which targets fail, and what their owners are to be told |
//! | `changes`, `listen` | the change feed, and hearing of it at once |
//! | `migrate` | the tables |
//! | `data_keys` | master keys that a key service keeps the key of |
//! | `reseal` | what is sealed, brought under another key |
//! | `db`, `ids` | the database itself, the wall between tenants, and the numbers of what is made |

mod audit;
pub(crate) mod audited;
mod changes;
mod claims;
pub mod data_keys;
pub(crate) mod db;
mod endpoints;
mod expected;
mod filters;
mod health;
mod ids;
mod import;
mod keys;
mod listen;
mod matching;
mod migrate;
mod notices;
mod rates;
mod reseal;
pub mod scopes;
mod subscriptions;
mod target_secrets;
mod targets;
mod tenants;
pub mod types;
mod verification;

pub use audit::{Actor, AuditQuery, AuditRow};
pub use audited::AuditKind;
pub use claims::{CLAIMED, Claim, Claimed};
pub use db::PostgresOptions;
pub use expected::{Expected, Found};
pub use health::{Health, HealthChange};
pub use import::{
    Import, ImportError, ImportFilter, ImportSubscription, ImportTarget, Imported, Settled, Whole,
};
pub use notices::{News, NoticeKind, TargetNews};
pub use reseal::{Resealed, SealedBy};
pub use scopes::{Scope, Scopes};
pub use types::*;

use crate::clock::Clock;
use crate::secrets::Sealer;
use db::Db;
pub(crate) use db::from_json;
use ids::Ids;
use sqlx::AnyPool;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The catalog in its database. Cloned freely; clones share connections and version.
#[derive(Clone)]
pub struct Catalog {
    pub(crate) db: Db,
    sealer: Sealer,
    pub(crate) clock: Clock,
    ids: Arc<Ids>,
    newest: watch::Sender<i64>,
    actor: Actor,
    /// Told of each replay that this process makes.
    pub(crate) replays: Arc<Notify>,
    /// What its changes must find.
    expected: Option<Expected>,
    /// What its changes are made under.
    claim: Option<Claim>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog({:?})", self.db.dialect)
    }
}

impl Catalog {
    /// Opens `sqlite:PATH` (file and folder are made if absent) or `postgres://…`. Does not
    /// [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer within 5 s, or the URL is neither.
    pub async fn open(url: &str, sealer: Sealer, clock: Clock) -> Result<Self, CatalogError> {
        Self::open_with(url, sealer, clock, PostgresOptions::default()).await
    }

    /// [`open`](Self::open) with another use of a Postgres.
    ///
    /// # Errors
    /// The same.
    pub async fn open_with(
        url: &str,
        sealer: Sealer,
        clock: Clock,
        postgres: PostgresOptions,
    ) -> Result<Self, CatalogError> {
        Ok(Self {
            db: Db::open(url, postgres).await?,
            sealer,
            clock,
            ids: Arc::default(),
            newest: watch::Sender::new(0),
            actor: Actor::System,
            replays: Arc::default(),
            expected: None,
            claim: None,
        })
    }

    /// The connections; with SQLite those that read.
    #[must_use]
    pub fn pool(&self) -> &AnyPool {
        self.db.of_all()
    }

    /// The connections that write: with SQLite one of its own, with Postgres those of [`Catalog::pool`].
    #[must_use]
    pub fn writer(&self) -> &AnyPool {
        &self.db.writer
    }

    /// The next id of a target, filter, subscription, key, secret or replay.
    pub(crate) fn next_id(&self) -> i64 {
        self.ids.next(self.clock.now())
    }
}

/// How often an insert draws another id when its id was taken by another process meanwhile.
pub(crate) const ID_DRAWS: u32 = 8;

/// The error of an insert whose every id was taken: another process must be making thousands a second.
pub(crate) fn no_free_id() -> CatalogError {
    CatalogError::Unavailable("no free id; try again".to_owned())
}
