//! The schema registry: writer schemas by id, fetched once.
//!
//! A schema never changes under its id, so it is kept for good. An id that the registry does not know
//! is remembered for a minute: it may be registered meanwhile, and asking for each record of a bad
//! topic would be a flood.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use schemas::avro::{Fields, WriterSchema};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one request to the registry may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unknown id stays unknown without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// The largest answer read.
const MAX_SCHEMA: usize = 1 << 20;

/// Why there is no schema.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not know the id, or what it holds is no usable schema.
    #[error("{0}")]
    Unknown(String),
    /// Asking again later may succeed.
    #[error("schema registry unavailable: {0}")]
    Unavailable(String),
}

type Known = Result<Arc<WriterSchema>, (Instant, String)>;

/// A registry with the API of Confluent's.
pub struct Registry {
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>,
    schemas: moka::future::Cache<u32, Known>,
}

impl Registry {
    /// A registry at `address`, such as `http://127.0.0.1:8081`.
    ///
    /// # Errors
    /// When the address is not a URL; says so.
    pub fn new(address: &str) -> Result<Self, String> {
        let base = address.trim_end_matches('/').to_owned();
        let usable = base
            .parse::<hyper::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if !usable {
            return Err(format!(
                "\"{address}\" is not an address such as \"http://127.0.0.1:8081\""
            ));
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("no root certificates: {error}"))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            base,
            client,
            schemas: moka::future::Cache::new(10_000),
        })
    }

    /// The writer schema of an id; one request per id at a time.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn schema(&self, id: u32) -> Result<Arc<WriterSchema>, RegistryError> {
        match self.schemas.get(&id).await {
            Some(Ok(schema)) => return Ok(schema),
            Some(Err((asked, why))) if asked.elapsed() < UNKNOWN_FOR => {
                return Err(RegistryError::Unknown(why));
            }
            Some(Err(_)) => self.schemas.invalidate(&id).await,
            None => {}
        }
        let known = self
            .schemas
            .try_get_with(id, async {
                match self.fetch(id).await {
                    Ok(schema) => Ok(Ok(Arc::new(schema))),
                    Err(RegistryError::Unknown(why)) => Ok(Err((Instant::now(), why))),
                    Err(error @ RegistryError::Unavailable(_)) => Err(error),
                }
            })
            .await
            .map_err(|error: Arc<RegistryError>| (*error).clone())?;
        known.map_err(|(_, why)| RegistryError::Unknown(why))
    }

    async fn fetch(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            schema: String,
        }
        let away = |error: &dyn std::fmt::Display| RegistryError::Unavailable(error.to_string());
        let uri: hyper::Uri = format!("{}/schemas/ids/{id}", self.base)
            .parse()
            .map_err(|error| away(&error))?;
        let (status, body) = tokio::time::timeout(TIMEOUT, async {
            let response = self.client.get(uri).await.map_err(|error| away(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_SCHEMA)
                .collect()
                .await
                .map_err(|error| away(&error))?;
            Ok::<_, RegistryError>((status, body.to_bytes()))
        })
        .await
        .map_err(|_| away(&"no answer within 5 s"))??;
        match status {
            StatusCode::OK => {
                let unusable = |error: &dyn std::fmt::Display| {
                    RegistryError::Unknown(format!("schema id {id}: {error}"))
                };
                let answer: Answer = serde_json::from_slice(&body).map_err(|error| unusable(&error))?;
                WriterSchema::parse(&answer.schema, &Fields::default()).map_err(|error| unusable(&error))
            }
            StatusCode::NOT_FOUND => Err(RegistryError::Unknown(format!(
                "schema id {id} is not in the registry"
            ))),
            status => Err(away(&format!("status {status}"))),
        }
    }
}
