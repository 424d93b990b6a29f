//! Port: history: the events, deliveries and attempts that were, for people to look up.
//!
//! Written by the recorder, read by the API; the delivery path never waits for it. One
//! implementation over `sqlx::Any`, in the [catalog](crate::catalog)'s database.
//!
//! | module | holds |
//! |---|---|
//! | `fold` | a batch of records as the rows it comes to |
//! | `write` | those rows, written, and what really changed |
//! | `statement` | one statement for many rows |
//! | `tally`, `histogram` | what is counted of them, and in which cells |
//! | `settle` | that, written in the same transaction |
//! | `read` | the API's questions |
//! | `stats` | what is counted, read |
//! | `unmatched` | why an event went to nobody |
//! | `resend` | what sending again asks |
//! | `expire` | what is too old, removed |
//! | `days` | a day of attempts at a time, on Postgres |

mod days;
mod expire;
mod fold;
mod histogram;
mod read;
mod resend;
mod settle;
mod statement;
mod stats;
mod tally;
pub mod types;
mod unmatched;
mod write;

pub use histogram::Histogram;
pub use stats::{Bucket, GroupBy, StatsQuery, StatsRow};
pub use tally::Tally;
pub use types::*;
pub use unmatched::Unmatched;

use crate::catalog::Catalog;
use crate::catalog::db::Db;
use std::fmt;
use std::sync::Arc;
use write::Statements;

/// History in its database. Cloned freely.
#[derive(Clone)]
pub struct History {
    db: Db,
    statements: Arc<Statements>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({:?})", self.db.dialect)
    }
}

impl History {
    /// History beside the catalog, over its connections. [`Catalog::migrate`] makes its tables.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db.clone(),
            statements: Arc::new(Statements::new(catalog.db.dialect)),
        }
    }
}
