//! What operators and orchestrators ask: `/healthz`, `/readyz`, `/metrics`.

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Which roles are ready. Cloned freely.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Health {
    /// Adds a role that is not ready yet.
    pub fn expect(&self, role: &'static str) {
        self.set(role, false);
    }

    /// The role is ready for work.
    pub fn ready(&self, role: &'static str) {
        self.set(role, true);
    }

    fn set(&self, role: &'static str, ready: bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(role, ready);
    }

    /// Roles that are not ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        let roles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roles
            .iter()
            .filter(|(_, ready)| !**ready)
            .map(|(role, _)| *role)
            .collect()
    }
}

/// Serves health and metrics until the token is cancelled.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let upkeep = metrics.clone();
    let stop = shutdown.clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&health)))
        .route("/metrics", get(async move || metrics.render()));
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    // Histograms gather samples until they are folded; without this they grow between scrapes.
    let fold = async move {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => upkeep.run_upkeep(),
            }
        }
    };
    tokio::join!(server, fold).0
}

fn readiness(health: &Health) -> impl IntoResponse + use<> {
    let waiting = health.waiting();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", waiting.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_role_is() {
        let health = Health::default();
        health.expect("consumer");
        health.expect("dispatcher");
        health.ready("consumer");
        assert_eq!(health.waiting(), ["dispatcher"]);
        health.ready("dispatcher");
        assert!(health.waiting().is_empty());
    }
}
