//! The REST API over real connections, on a real SQLite catalog and the embedded event log.

mod addresses;
mod admin;
mod audit;
mod auth;
mod conditions;
mod cors;
mod document;
mod events;
mod history;
mod idempotency;
mod keys;
mod operations;
mod outages;
mod pages;
mod patches;
mod pressure;
mod problems;
mod replays;
mod resources;
mod stats;
mod target_requests;
mod targets;
mod tenancy;
mod transfer;
mod verification;
mod world;
