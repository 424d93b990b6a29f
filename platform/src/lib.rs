//! The plumbing every service shares: configuration, telemetry, the service harness, and the ports.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the keys of `hookwright.toml`, their defaults and their errors |
//! | [`telemetry`] | logs and metrics |
//! | [`harness`] | signals, drain, health, and who dies with whom |
//! | [`clock`] | the time, real or driven by a test |
//! | [`batch`] | many small requests into few large ones |
//! | [`data_dir`] | the folder the embedded adapters live in, held by one process |
//! | [`sqlite`] | one thread that writes with group commit, others that read beside it |
//! | [`event_log`] | port: where events come in (Kafka, or SQLite) |
//! | [`delivery_queue`] | port: where deliveries wait (SQS, or SQLite) |
//! | [`payload_store`] | port: where large payloads lie (S3, or a directory) |
//! | [`aws`] | what SQS and S3 share: credentials, region, endpoint, HTTP client, errors in words |
//! | [`follow`] | what the delivery path remembers of the catalog, and how it hears of changes |
//! | [`announce`] | telling a tenant: operational events |
//! | [`prober`] | port: a request to a target that is no delivery, a challenge or a test |
//! | [`report`] | telling history, without waiting for it |
//! | [`catalog`] | tenants, keys, targets, filters, subscriptions (Postgres, or SQLite) |
//! | [`history`] | events, deliveries, attempts (Postgres, or SQLite) |
//! | [`replays`] | what tenants want sent again (Postgres, or SQLite) |
//! | [`tls`] | TLS towards a target: whom to trust, and who we are |
//! | [`plain`] | errors of the system in words |
//! | [`ports`] | the adapters a configuration asks for, opened |

pub mod announce;
pub mod aws;
pub mod batch;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod delivery_queue;
pub mod event_log;
pub mod follow;
pub mod harness;
pub mod history;
pub mod payload_store;
pub mod plain;
pub mod ports;
pub mod prober;
pub mod replays;
pub mod report;
pub mod secrets;
pub mod sqlite;
pub mod telemetry;
pub mod tls;
