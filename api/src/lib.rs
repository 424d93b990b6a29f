//! The REST API: what tenants say they want delivered and where, and what became of it.
//!
//! ```text
//! request ─▶ auth, access ─▶ json / page ─▶ targets, filters, subscriptions, endpoints ─▶ catalog
//!             │                 ├─▶ events (POST) ─▶ publish ─▶ event log
//!             │                 ├─▶ events, deliveries, dead letters, stats (GET) ─▶ history
//!             │                 ├─▶ resend, replays, redrive ─▶ replays, which the consumer works on
//!             │                 └─▶ admin, keys, audit ─▶ catalog
//!             └─▶ problem: every refusal, as `application/problem+json`
//! ```
//!
//! The tenant comes from the API key and is the first argument of every catalog and history call.
//! `document` gathers the routes and describes them as they are: a route that is not described
//! does not exist. Publishing an event needs only the log: keys seen lately stay good while the
//! database is away (see `auth`).

mod access;
mod admin;
mod audit;
mod auth;
mod conditions;
mod config;
mod connections;
mod cors;
mod dead_letters;
mod deliveries;
mod docs;
mod document;
mod endpoints;
mod events;
mod filters;
mod history_query;
mod idempotency;
mod json;
mod keys;
mod outages;
mod pace;
mod page;
mod problem;
mod publish;
mod publish_once;
mod rate;
mod replays;
mod resend;
mod retry_policy;
mod slow_body;
mod stats;
mod subscriptions;
mod target_fields;
mod target_request;
mod targets;
mod text;
pub mod transfer;
mod verification;

pub use config::{Config, Encoding};
pub use connections::Patience;
pub use document::openapi;
pub use pace::Pace;
pub use problem::FieldError;

use auth::{Admin, Caller, Keys, Uses};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use outages::{Dependency, Outages};
use pace::Paces;
use platform::catalog::{Actor, Catalog};
use platform::clock::Clock;
use platform::event_log::{EventLog, LogError, NewRecord};
use platform::history::History;
use platform::prober::Prober;
use platform::replays::Replays;
use problem::Problem;
use publish_once::Published;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the API stands on.
#[derive(Clone)]
pub struct Parts {
    /// Tenants, keys, targets, filters, subscriptions.
    pub catalog: Catalog,
    /// Events, deliveries, attempts.
    pub history: History,
    /// What is to be sent again.
    pub replays: Replays,
    /// Where events go.
    pub log: Arc<dyn EventLog>,
    /// Asks targets.
    pub prober: Arc<dyn Prober>,
    /// The time.
    pub clock: Clock,
}

/// What every handler is given.
pub(crate) struct Server {
    pub config: Config,
    pub parts: Parts,
    pub keys: Keys,
    pub outages: Outages,
    /// Requests that go on when their client goes away.
    pub tasks: TaskTracker,
    /// How often keys have asked lately.
    pub paces: Paces,
    /// What was published under an idempotency key lately.
    pub published: Published,
    /// `/openapi.json`.
    pub document: bytes::Bytes,
}

impl Server {
    /// Whether this is the path that events are published to.
    fn publishes(&self, path: &str) -> bool {
        path.strip_prefix(&self.config.base_path) == Some("/webhooks/events")
    }

    /// The catalog, to change by this caller.
    fn by(&self, caller: &Caller) -> Catalog {
        self.parts.catalog.by(Actor::from(&caller.key))
    }

    /// The catalog, to change by an administrator.
    fn by_admin(&self, _: Admin) -> Catalog {
        self.parts.catalog.by(Actor::Admin)
    }

    /// Replays, to ask for by this caller.
    fn replays_by(&self, caller: &Caller) -> Replays {
        Replays::new(&self.by(caller))
    }

    /// Appends to the event log, and notes that it works.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.parts.log.append(topic, records).await?;
        self.outages.of(Dependency::EventLog).works();
        Ok(())
    }
}

/// The handlers' state.
pub(crate) type Shared = Arc<Server>;

/// Why the API stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The listening socket failed.
    #[error("the API cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

/// Serves the API until `shutdown`, then finishes the requests that run. The caller bounds how
/// long that may take.
///
/// # Errors
/// When the listening socket fails.
pub async fn run(
    config: Config,
    parts: Parts,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let address = listener.local_addr()?;
    let catalog = parts.catalog.clone();
    let (server, routes, uses) = server(&config, parts);
    let tasks = server.tasks.clone();
    let router = router(server, routes);
    tracing::info!(%address, base_path = %config.base_path, "api listening");
    tokio::select! {
        () = connections::serve(listener, router, config.patience, shutdown) => {}
        never = uses.note(catalog) => match never {},
    }
    tasks.close();
    tasks.wait().await;
    tracing::info!("api stopped");
    Ok(())
}

/// What handlers are given, the routes that lead to them, and the uses of keys, to be written down beside them.
fn server(config: &Config, parts: Parts) -> (Shared, Router<Shared>, Uses) {
    let (routes, document) = document::assemble(config);
    let (keys, uses) = Keys::new(config.admin_key.as_deref(), parts.clock.clone());
    let server = Server {
        config: config.clone(),
        keys,
        outages: Outages::default(),
        tasks: TaskTracker::new(),
        paces: Paces::new(config.pace),
        published: Published::new(config.idempotency_kept),
        parts,
        // Unwrap safety: the document has text keys only, which always serialise.
        document: document.to_json().expect("the document serialises").into(),
    };
    (Arc::new(server), routes, uses)
}

/// The API as a router: all routes under `config.base_path`, and a landing page at `/`. What stands last is asked
/// first.
fn router(server: Shared, routes: Router<Shared>) -> Router {
    let with = server.clone();
    let has_pages = !server.config.cors_origins.is_empty();
    let routes = routes
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(from_fn(conditions::not_modified))
        .layer(from_fn_with_state(with.clone(), idempotency::once))
        .layer(from_fn_with_state(with.clone(), pace::hold))
        .layer(from_fn_with_state(with.clone(), outages::tell));
    let routes = match has_pages {
        true => routes.layer(from_fn_with_state(with, cors::share)),
        false => routes,
    };
    routes.with_state(server)
}
