//! What the services say to each other, and the decisions they share: pure data and pure functions.
//!
//! Services never import each other; they meet in these types, travelling through a log, a queue or a
//! table. Nothing here does I/O, reads a clock or draws a random number: time and chance are arguments.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | the names of things, and the ids that are derived rather than drawn |
//! | [`time`] | milliseconds since the epoch, and their RFC 3339 text |
//! | [`event`] | an event as accepted, and its place in the log |
//! | [`avro`] | the `WebhookEvent` schemas, framings, encoding and decoding |
//! | [`accept`] | from a decoded record to an accepted event |
//! | [`dead_letter`] | records that could not be read: place and reason, and marks of what was injected again |
//! | [`delivery`] | one event for one target: the message that waits in a queue |
//! | [`wire`] | a delivery as a queue message: body and one attribute |
//! | [`pack`] | many waiting deliveries in one object, and the message that waits for all of them |
//! | [`target`] | where deliveries go: address, headers, secrets, policy |
//! | [`rate`] | how often a target may be sent to |
//! | [`pattern`] | which event types a filter wants |
//! | [`history`] | what happened: the records of the attempts topic |
//! | [`outcome`] | what an answer means |
//! | [`notice`] | operational events: what hookwright itself has to tell a tenant |
//! | [`schedule`] | when to try again |
//! | [`signature`] | Standard Webhooks `v1` and `v1a`, and the headers of other senders |
//! | [`egress`] | which addresses may be dialled |
//! | [`verification`] | the challenge by which a target proves that it wants deliveries |

pub mod accept;
pub mod avro;
pub mod dead_letter;
pub mod delivery;
pub mod egress;
pub mod event;
pub mod history;
pub mod ids;
pub mod notice;
pub mod outcome;
pub mod pack;
pub mod pattern;
pub mod rate;
pub mod schedule;
pub mod signature;
pub mod target;
pub mod time;
pub mod verification;
pub mod wire;
