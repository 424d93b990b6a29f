//! What the ports promise, as tests, and each adapter held to it.
//!
//! A suite is a file of cases, each an async function over a *world*: what opens the adapter under
//! test, hands out names nobody else uses, and cleans up. To hold another adapter to a suite, write
//! its world and one line:
//!
//! ```ignore
//! mod queue {
//!     delivery_queue_suite!(crate::sqs::World::new().await);
//! }
//! ```

#[macro_use]
mod support;

#[macro_use]
mod delivery_queue;
#[macro_use]
mod event_log;
#[macro_use]
mod payload_store;

mod durability;
mod embedded;
mod intake;
mod kafka;
mod kafka_away;
mod kafka_group;
mod kafka_lookup;
mod kafka_members;
mod kms;
mod s3;
mod sqs;
mod sqs_faults;
