//! Catalog and history, the same tests over SQLite and over the real Postgres.

mod audit;
mod changes;
mod claims;
mod endpoints;
mod expected;
mod filters;
mod health;
mod history;
mod history_lists;
mod history_order;
mod history_plans;
mod import;
mod isolation;
mod matching;
mod notices;
mod opening;
mod pages;
mod plans;
mod replays;
mod reseal;
mod stats;
mod store;
mod subscriptions;
mod targets;
mod tenants;
mod verification;
