//! Dependencies that are away: a line when one goes and one when it is back, not one per request.

use crate::Shared;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use platform::telemetry::Outage;

/// Why a request failed that is not the client's fault. Goes with the answer, as an extension, to
/// [`tell`]; nothing of it reaches the client.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What is away; `None` where it is something else.
    pub away: Option<Dependency>,
    /// For the log.
    pub cause: String,
}

/// What requests depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// Catalog and history.
    Database,
    /// Where events are published to.
    EventLog,
}

/// What is away.
pub struct Outages {
    database: Outage,
    event_log: Outage,
}

impl Default for Outages {
    fn default() -> Self {
        Self {
            database: Outage::new("database (api)"),
            event_log: Outage::new("event log (publish)"),
        }
    }
}

impl Outages {
    /// The watch over one of them.
    pub fn of(&self, dependency: Dependency) -> &Outage {
        match dependency {
            Dependency::Database => &self.database,
            Dependency::EventLog => &self.event_log,
        }
    }
}

/// Logs why a request failed.
pub async fn tell(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(Failed { away, cause }) = response.extensions().get::<Failed>() {
        match away {
            Some(dependency) => server.outages.of(*dependency).failed(cause),
            None => {
                tracing::warn!(
                    status = response.status().as_u16(),
                    error = cause,
                    "request failed"
                );
            }
        }
    }
    response
}
