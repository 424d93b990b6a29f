//! Asks a schema registry for schemas, over Confluent's API.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use platform::config::SchemaRegistry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemas::avro::{SchemaKey, guid_text, schema_in_answer};
use std::path::Path;
use std::time::Duration;

/// How long one request to the registry may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer read.
pub const MAX_SCHEMA: usize = 1 << 20;

/// Why there is no schema.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not know it, or what it holds is no Avro schema that can be used.
    #[error("{0}")]
    Unknown(String),
    /// Asking again later may succeed: it is away, or does not let us in.
    #[error("{0}")]
    Unavailable(String),
}

/// A registry with the API of Confluent's.
pub struct Registry {
    base: String,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>,
}

impl Registry {
    /// A registry where the configuration says.
    ///
    /// # Errors
    /// When what it names cannot be used: the key, and why.
    pub fn new(settings: &SchemaRegistry) -> Result<Self, String> {
        let tls = rustls::ClientConfig::builder();
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let builder = match &settings.ca {
            Some(file) => builder.with_tls_config(
                tls.with_root_certificates(
                    roots(file)
                        .map_err(|why| format!("kafka.schema_registry_ca: {}: {why}", file.display()))?,
                )
                .with_no_client_auth(),
            ),
            None => builder
                .with_native_roots()
                .map_err(|error| format!("kafka.schema_registry: no root certificates: {error}"))?,
        };
        let authorization = match &settings.credentials {
            Some((user, password)) => Some(basic(user, password)?),
            None => None,
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self {
            base: settings.address.trim_end_matches('/').to_owned(),
            authorization,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// The JSON of a schema.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn schema(&self, key: &SchemaKey) -> Result<String, RegistryError> {
        let unknown = |why: &str| RegistryError::Unknown(format!("{key} {why}"));
        let path = match key {
            SchemaKey::Id(id) => format!("schemas/ids/{id}"),
            SchemaKey::Guid(guid) => format!("schemas/guids/{}", guid_text(guid)),
            SchemaKey::Text(_) => return Err(unknown("is not in a registry")),
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, self.get(&path))
            .await
            .map_err(|_| RegistryError::Unavailable("no answer within 5 s".to_owned()))??;
        match status {
            StatusCode::OK => schema_in_answer(&body).map_err(|why| unknown(&why)),
            // A path that is not there is a 404 too: of a registry that is none, not of a schema.
            StatusCode::NOT_FOUND if is_registrys(&body) => Err(unknown("is not in the registry")),
            StatusCode::NOT_FOUND => Err(RegistryError::Unavailable(
                "status 404, not a schema registry's: check kafka.schema_registry".to_owned(),
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Unavailable(format!(
                "status {}: check kafka.schema_registry_user and kafka.schema_registry_password",
                status.as_u16()
            ))),
            status => Err(RegistryError::Unavailable(format!("status {}", status.as_u16()))),
        }
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, bytes::Bytes), RegistryError> {
        let away = |error: &dyn std::error::Error| RegistryError::Unavailable(causes(error));
        let mut request = Request::get(format!("{}/{path}", self.base))
            .header(ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| away(&error))?;
        let response = self.client.request(request).await.map_err(|error| away(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_SCHEMA)
            .collect()
            .await
            .map_err(|error| away(&*error))?;
        Ok((status, body.to_bytes()))
    }
}

/// Registries tell what is not there with an error of their own: 40403 for a schema.
fn is_registrys(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Refused {
        #[allow(dead_code, reason = "that it is there tells")]
        error_code: i64,
    }
    serde_json::from_slice::<Refused>(body).is_ok()
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {text}"))
        .map_err(|_| "kafka.schema_registry_password: cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The certificates of a PEM file.
fn roots(file: &Path) -> Result<rustls::RootCertStore, String> {
    let text = std::fs::read(file).map_err(|error| platform::plain::io(&error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("not a PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(roots)
}

/// An error with what caused it: the client's own says no more than that it could not connect.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
