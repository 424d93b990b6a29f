//! A schema registry of a few schemas, with the one path of Confluent's API that a reader needs.

use crate::server::{Answered, Server};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// A running registry.
pub struct Registry {
    server: Server,
}

impl Registry {
    /// Serves these schemas by their ids; others are not there.
    pub async fn start(schemas: &[(u32, &str)]) -> Self {
        let by_path = |(id, schema): &(u32, &str)| {
            (
                format!("/schemas/ids/{id}"),
                json!({"schema": schema}).to_string(),
            )
        };
        let schemas: Arc<HashMap<String, String>> = Arc::new(schemas.iter().map(by_path).collect());
        let server = Server::start(move |request| answer(request, schemas.clone())).await;
        Self { server }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.server.url()
    }
}

async fn answer(request: Request<Incoming>, schemas: Arc<HashMap<String, String>>) -> Answered {
    let (status, body) = match schemas.get(request.uri().path()) {
        Some(schema) => (StatusCode::OK, schema.clone()),
        None => (StatusCode::NOT_FOUND, json!({"error_code": 40403}).to_string()),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/vnd.schemaregistry.v1+json");
    Ok(response.body(Full::from(body)).expect("a response"))
}
