//! Port: history: the events, deliveries and attempts that were, for people to look up.
//!
//! Written by the recorder, read by the API; the delivery path never waits for it. One
//! implementation over `sqlx::Any`, as the [catalog](crate::catalog).

pub mod types;

pub use types::*;
