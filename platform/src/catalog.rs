//! Port: the catalog: tenants, keys, targets, filters, subscriptions.
//!
//! One implementation over `sqlx::Any`: SQLite and Postgres are reached with the same SQL. Every
//! call on a tenant's things takes the tenant first, so that forgetting it does not compile.
//!
//! The delivery path does not depend on it: consumer and dispatcher keep what they need in memory
//! and go on with that while the database is away.

pub mod types;

pub use types::*;
