//! Port: history: the events, deliveries and attempts that were, for people to look up.
//!
//! Written by the recorder, read by the API; the delivery path never waits for it. One
//! implementation over `sqlx::Any`, in the [catalog](crate::catalog)'s database.
//!
//! | module | holds |
//! |---|---|
//! | `fold` | a batch of records as the rows it comes to |
//! | `write` | those rows, written in few statements |
//! | `read` | the API's questions |
//! | `resend` | what sending again asks |
//! | `expire` | what is too old, removed |

mod expire;
mod fold;
mod read;
mod resend;
pub mod types;
mod write;

pub use types::*;

use crate::catalog::Catalog;
use crate::catalog::db::Db;
use std::fmt;
use std::sync::Arc;
use write::Upserts;

/// History in its database. Cloned freely.
#[derive(Clone)]
pub struct History {
    db: Db,
    upserts: Arc<Upserts>,
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
            upserts: Arc::new(Upserts::new(catalog.db.dialect)),
        }
    }
}
