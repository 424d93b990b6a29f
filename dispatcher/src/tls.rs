//! TLS over a guarded connection, all within a time limit.

use crate::connection::Guarded;
use crate::guard::{Guard, NoConnection};
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use rustls::RootCertStore;
use schemas::outcome::AttemptError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects, with TLS for `https`, and gives up in time: the pool goes on with a connection whose request has
/// found another one, and has no limit of its own.
#[derive(Clone)]
pub struct Connector {
    connect: HttpsConnector<Guard>,
    limit: Duration,
}

impl Connector {
    /// Connects through the guard, and takes `connect_timeout` at most for that and again for TLS.
    #[must_use]
    pub fn new(guard: Guard, tls: rustls::ClientConfig, connect_timeout: Duration) -> Self {
        let connect = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(guard);
        Self {
            connect,
            limit: connect_timeout * 2,
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Guarded>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connect.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.limit, self.connect.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(result) => result,
                Err(_) => Err(NoConnection(AttemptError::Timeout).into()),
            }
        })
    }
}

/// The authorities of this machine.
#[must_use]
pub fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        // Deliveries to https targets will fail and be retried; http ones can go on.
        tracing::error!(errors = ?found.errors, "no root certificates on this machine; https targets cannot be verified");
    }
    roots
}
