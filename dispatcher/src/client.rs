//! The POST: one deadline over connecting, TLS, head and the part of the body that is read.

use crate::config::Config;
use crate::guard::{Guard, NoConnection};
use crate::resolver::{Names, SystemNames};
use crate::targets::OwnTls;
use crate::tls::{self, Connector};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::future::Cache;
use platform::tls::client_config;
use rustls::RootCertStore;
use schemas::history::{KEPT_HEADER_BYTES, KEPT_HEADERS};
use schemas::outcome::AttemptError;
use std::sync::Arc;
use std::time::Duration;

/// Connections that nothing uses are closed after this, so that a change of the rules takes effect.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of an answer that history keeps.
const EXCERPT: usize = 1024;
/// Targets with TLS of their own that are remembered with their connections.
const MOST_OWN: u64 = 256;
/// How long: a little longer than their connections are.
const OWN_IDLE: Duration = Duration::from_secs(60);
/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;
/// The most headers of an answer over HTTP/1.
const MOST_HEADERS: usize = 100;
/// Bytes of an answer over HTTP/2 that may come before they are read. No window is smaller at first
/// (RFC 9113, 6.9.2).
const H2_WINDOW: u32 = 65_535;

/// What a target answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After` as it stands.
    pub retry_after: Option<String>,
    /// The headers that history keeps.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, as text; `None` when empty.
    pub excerpt: Option<String>,
}

/// Sends requests to targets. Pools connections per scheme and authority.
pub struct HttpClient {
    client: Pool,
    /// Those of targets with TLS of their own, by [`OwnTls::id`]: what one shows, no other's connection has shown.
    own: Cache<String, Pool>,
    roots: Arc<RootCertStore>,
    guard: Guard,
    settings: Builder,
    connect_timeout: Duration,
    response_limit: usize,
}

type Pool = Client<Connector, Full<Bytes>>;

impl HttpClient {
    /// A client with these limits and rules, which trusts the machine's certificates. Redirects are not
    /// followed, and no proxy is used that the environment names.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::with(config, tls::machine_roots(), Arc::new(SystemNames))
    }

    /// The same, but trusting these certificates and asking these for the addresses of names.
    #[must_use]
    pub fn with(config: &Config, roots: RootCertStore, names: Arc<dyn Names>) -> Self {
        let (guard, settings, roots) = (Guard::new(config, names), settings(config), Arc::new(roots));
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Self {
            client: settings.build(Connector::new(guard.clone(), tls, config.connect_timeout)),
            own: Cache::builder()
                .max_capacity(MOST_OWN)
                .time_to_idle(OWN_IDLE)
                .build(),
            roots,
            guard,
            settings,
            connect_timeout: config.connect_timeout,
            response_limit: config.response_limit,
        }
    }

    /// Connections that are open, those in the pool among them.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.guard.open()
    }

    /// Sends a request and reads the answer, all within `timeout`; by `tls`, if the target has its own.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn post(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<&OwnTls>,
        timeout: Duration,
    ) -> Result<Answer, AttemptError> {
        let (_, answer) = self.ask(request, tls, timeout).await?;
        Ok(answer)
    }

    /// The same for a request of any kind, with all the answer's headers.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<&OwnTls>,
        timeout: Duration,
    ) -> Result<(HeaderMap, Answer), AttemptError> {
        match tokio::time::timeout(timeout, self.exchange(request, tls)).await {
            Ok(result) => result,
            Err(_) => Err(AttemptError::Timeout),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<&OwnTls>,
    ) -> Result<(HeaderMap, Answer), AttemptError> {
        let sent = match tls {
            None => self.client.request(request),
            // Boxed, as what few deliveries need: the task of every delivery has room for all it may wait for.
            Some(tls) => Box::pin(self.own(tls)).await?.request(request),
        };
        let response = sent.await.map_err(|error| classify(&error))?;
        let (head, body) = response.into_parts();
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let excerpt = self.read(body).await?;
        let answer = Answer {
            status: head.status.as_u16(),
            retry_after,
            headers: kept(&head.headers),
            excerpt,
        };
        Ok((head.headers, answer))
    }

    /// The pool of a target with TLS of its own. What cannot be used was refused when it was set.
    async fn own(&self, tls: &OwnTls) -> Result<Pool, AttemptError> {
        if let Some(pool) = self.own.get(&tls.id).await {
            return Ok(pool);
        }
        let config = client_config(&tls.options, tls.client_key.as_ref(), self.roots.clone());
        let config = config.map_err(|_| AttemptError::Tls)?;
        let pool = self
            .settings
            .build(Connector::new(self.guard.clone(), config, self.connect_timeout));
        self.own.insert(tls.id.clone(), pool.clone()).await;
        Ok(pool)
    }

    /// Reads up to the limit. A body that goes on is left there, and its connection is closed: the
    /// target has answered, and the rest is not our business.
    async fn read(&self, mut body: Incoming) -> Result<Option<String>, AttemptError> {
        let mut read = 0;
        let mut excerpt = Vec::new();
        while read < self.response_limit {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|_| AttemptError::Protocol)?;
            if let Some(data) = frame.data_ref() {
                read += data.len();
                let room = EXCERPT - excerpt.len();
                excerpt.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok((!excerpt.is_empty()).then(|| String::from_utf8_lossy(&excerpt).into_owned()))
    }
}

/// The headers that history keeps, the first of each name. What is not text becomes a replacement character.
fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let cut = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_HEADER_BYTES)]).into_owned()
    };
    KEPT_HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), cut(headers.get(*name)?))))
        .collect()
}

/// What stands behind a client error, found by type and never by text.
fn classify(error: &hyper_util::client::legacy::Error) -> AttemptError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(NoConnection(why)) = error.downcast_ref() {
            return *why;
        }
        if is_tls(error) {
            return AttemptError::Tls;
        }
        cause = error.source();
    }
    if error.is_connect() {
        AttemptError::Connect
    } else {
        AttemptError::Protocol
    }
}

/// Whether a TLS error is in it. An `io::Error` hides what it wraps from `source()`, and TLS errors come wrapped
/// in two of them.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut inner = Some(error);
    while let Some(error) = inner {
        if error.downcast_ref::<rustls::Error>().is_some() {
            return true;
        }
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        inner = wrapped.map(|error| error as &(dyn std::error::Error + 'static));
    }
    false
}

/// How connections are used, kept and bounded.
fn settings(config: &Config) -> Builder {
    let mut settings = Client::builder(TokioExecutor::new());
    settings
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        // Many targets may share one host: fewer would open and close connections all the time. How many
        // there can be of all hosts is bounded by `Connections`, and how long by `IDLE`.
        .pool_max_idle_per_host(config.concurrency)
        .http1_max_headers(MOST_HEADERS)
        .http1_max_buf_size(LONGEST_HEAD)
        .http2_max_header_list_size(LONGEST_HEAD as u32)
        // hyper would hold 2 MiB of each answer and 5 MiB of each connection.
        .http2_adaptive_window(false)
        .http2_initial_stream_window_size(H2_WINDOW)
        .http2_initial_connection_window_size(4 * H2_WINDOW)
        // A connection whose other end is gone without a word would be used, in vain, until TCP gives up.
        .http2_keep_alive_interval(config.connect_timeout)
        .http2_keep_alive_timeout(config.connect_timeout)
        .retry_canceled_requests(true);
    settings
}
