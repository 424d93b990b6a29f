//! A schema registry of a few schemas, with the one path of Confluent's API that a reader needs.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A running registry.
pub struct Registry {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Registry {
    /// Serves these schemas by their ids; others are not there.
    pub async fn start(schemas: &[(u32, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let by_path = |(id, schema): &(u32, &str)| {
            (
                format!("/schemas/ids/{id}"),
                json!({"schema": schema}).to_string(),
            )
        };
        let schemas: Arc<HashMap<String, String>> = Arc::new(schemas.iter().map(by_path).collect());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let schemas = schemas.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, schemas.clone()));
                    // A reader that is stopped breaks its connections off.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, task }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    schemas: Arc<HashMap<String, String>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match schemas.get(request.uri().path()) {
        Some(schema) => (StatusCode::OK, schema.clone()),
        None => (StatusCode::NOT_FOUND, json!({"error_code": 40403}).to_string()),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/vnd.schemaregistry.v1+json");
    Ok(response.body(Full::from(body)).expect("a response"))
}
