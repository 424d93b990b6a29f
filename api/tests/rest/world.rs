//! A whole API on a port of its own, and a client.

use api::{Config, Encoding, Parts};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use platform::catalog::{Catalog, PostgresOptions};
use platform::clock::Clock;
use platform::event_log::embedded::EmbeddedLog;
use platform::event_log::{EventLog, LogError, LogReader, LogScan, NewRecord, Record, Span};
use platform::history::History;
use platform::prober::{NotProved, Prober, Tested};
use platform::replays::Replays;
use platform::secrets::Sealer;
use platform::sqlite;
use schemas::avro::{self, WebhookEvent};
use schemas::egress::EgressRules;
use schemas::event::Position;
use schemas::ids::Tenant;
use schemas::schedule::RetryPolicy;
use schemas::target::TargetDetails;
use schemas::time::Millis;
use schemas::verification::Verification;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const ADMIN_KEY: &str = "the-admin-key-of-these-tests";
pub const MAX_PAYLOAD: usize = 64 * 1024;
pub const TOPIC: &str = "webhook-events";

/// The embedded log; keeps the places of what was appended, and fails when told to.
pub struct Log {
    inner: EmbeddedLog,
    pub fault: Mutex<Option<LogError>>,
    /// Appends wait while this is locked; each that comes is counted before.
    pub gate: tokio::sync::Mutex<()>,
    pub reached: tokio::sync::Semaphore,
    pub appended: Mutex<Vec<Vec<Position>>>,
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        self.reached.add_permits(1);
        drop(self.gate.lock().await);
        let positions = self.inner.append(topic, records).await?;
        self.appended.lock().unwrap().push(positions.clone());
        Ok(positions)
    }

    async fn read_at(&self, position: &Position) -> Result<Option<Record>, LogError> {
        self.inner.read_at(position).await
    }

    async fn scan(&self, topic: &str) -> Result<Box<dyn LogScan>, LogError> {
        self.inner.scan(topic).await
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        self.inner.subscribe(group, topics).await
    }

    async fn find(&self, topic: &str, from: Millis, to: Millis) -> Result<Option<Vec<Span>>, LogError> {
        self.inner.find(topic, from, to).await
    }

    async fn scan_spans(&self, topic: &str, spans: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        self.inner.scan_spans(topic, spans).await
    }

    async fn provision(&self, topics: &[String]) -> Result<(), LogError> {
        self.inner.provision(topics).await
    }

    async fn check(&self, topics: &[String]) -> Result<(), LogError> {
        self.inner.check(topics).await
    }
}

/// An answer, read whole.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Checks that it is a whole problem of this status, and gives the fields it names.
    #[track_caller]
    pub fn problem(self, status: u16) -> Vec<(String, String)> {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.expect(status);
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], "about:blank");
        for field in ["title", "detail"] {
            assert!(!body[field].as_str().unwrap().is_empty(), "{body}");
        }
        let errors = body["errors"].as_array().unwrap().iter();
        errors
            .map(|error| {
                let text = |key: &str| error[key].as_str().unwrap().to_owned();
                (text("field"), text("message"))
            })
            .collect()
    }

    /// The fields a 422 names, without the messages.
    #[track_caller]
    pub fn invalid_fields(self) -> Vec<String> {
        self.problem(422).into_iter().map(|(field, _)| field).collect()
    }
}

/// A running API.
pub struct World {
    pub root: String,
    pub catalog: Catalog,
    pub history: History,
    pub log: Arc<Log>,
    pub answers: Arc<Answers>,
    pub key: String,
    client: Client<HttpConnector, Full<Bytes>>,
    pub shutdown: CancellationToken,
    running: JoinHandle<Result<(), api::RunError>>,
    _dir: TempDir,
}

/// The longest retry window of a target.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(71 * 3600);

pub fn config() -> Config {
    Config {
        base_path: "/v1".to_owned(),
        admin_key: Some(ADMIN_KEY.to_owned()),
        topic: TOPIC.to_owned(),
        encoding: Encoding::Raw,
        max_payload: MAX_PAYLOAD,
        rules: EgressRules::default(),
        retry: RetryPolicy::default(),
        longest_window: LONGEST_WINDOW,
        has_origin: false,
        verification: Verification::None,
        idempotency_kept: Duration::from_secs(24 * 3600),
        pace: None,
        patience: api::Patience::default(),
        cors_origins: Vec::new(),
    }
}

/// Counts what came, for those who wait for it.
pub struct Reached(pub tokio::sync::Semaphore);

impl Default for Reached {
    fn default() -> Self {
        Self(tokio::sync::Semaphore::new(0))
    }
}

/// Targets that answer challenges and tests as they are told to.
#[derive(Default)]
pub struct Answers {
    /// Why they prove nothing; without it they prove themselves.
    pub refusal: Mutex<Option<NotProved>>,
    /// How often they were asked.
    pub asked: AtomicUsize,
    /// They wait while this is locked; each that comes is counted before.
    pub hold: tokio::sync::Mutex<()>,
    pub reached: Reached,
}

#[async_trait]
impl Prober for Answers {
    async fn challenge(&self, _: &TargetDetails) -> Result<(), NotProved> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.reached.0.add_permits(1);
        drop(self.hold.lock().await);
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn test(&self, _: &TargetDetails) -> Tested {
        Tested {
            answer: Ok(418),
            excerpt: Some("short and stout".to_owned()),
            took: Duration::from_millis(7),
        }
    }
}

impl World {
    /// An API with a tenant `acme` and a key of it.
    pub async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub async fn start_with(config: Config) -> Self {
        Self::start_at(Clock::system(), config).await
    }

    pub async fn start_at(clock: Clock, config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("hookwright.db").display());
        let catalog = Catalog::open(&url, Sealer::random().0, clock.clone());
        Self::start_over(catalog.await.unwrap(), dir, clock, config).await
    }

    /// An API on another database.
    pub async fn start_on(url: &str, limits: PostgresOptions, config: Config) -> Self {
        let clock = Clock::system();
        let catalog = Catalog::open_with(url, Sealer::random().0, clock.clone(), limits);
        let dir = tempfile::tempdir().unwrap();
        Self::start_over(catalog.await.unwrap(), dir, clock, config).await
    }

    async fn start_over(catalog: Catalog, dir: TempDir, clock: Clock, config: Config) -> Self {
        catalog.migrate().await.unwrap();
        let history = History::new(&catalog);
        let hour = Duration::from_secs(3600);
        let log = Arc::new(Log {
            inner: EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock.clone(), hour).unwrap(),
            fault: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            reached: tokio::sync::Semaphore::new(0),
            appended: Mutex::default(),
        });
        log.provision(&[TOPIC.to_owned()]).await.unwrap();
        let answers = Arc::<Answers>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let parts = Parts {
            catalog: catalog.clone(),
            history: history.clone(),
            replays: Replays::new(&catalog),
            log: log.clone(),
            prober: answers.clone(),
            clock,
        };
        let running = tokio::spawn(api::run(config, parts, listener, shutdown.clone()));
        let mut world = Self {
            root,
            catalog,
            history,
            log,
            answers,
            key: String::new(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            shutdown,
            running,
            _dir: dir,
        };
        world.key = world.tenant("acme").await;
        world
    }

    /// Makes a tenant; the value of a key of it.
    pub async fn tenant(&self, name: &str) -> String {
        let tenant = Tenant::new(name).unwrap();
        self.catalog.create_tenant(&tenant).await.unwrap();
        self.catalog.create_key(&tenant, "test").await.unwrap().1
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        self.running.await.unwrap().unwrap();
    }

    /// Sends a request exactly so.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Sends a request with a key and any body, as JSON.
    pub async fn call(&self, key: &str, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1{path}", self.root))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    /// Sends a request with the admin key.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Answer {
        self.call(ADMIN_KEY, method, path, body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(&self.key, Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(&self.key, Method::POST, path, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(&self.key, Method::PATCH, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(&self.key, Method::DELETE, path, "").await
    }

    /// Publishes a body of this content type.
    pub async fn publish(&self, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(format!("{}/v1/webhooks/events", self.root))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", content_type);
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    /// The records of the last append, with what is in them.
    pub async fn last_appended(&self) -> Vec<(Record, WebhookEvent)> {
        let positions = self.log.appended.lock().unwrap().last().unwrap().clone();
        let mut records = Vec::new();
        for position in positions {
            let record = self.log.read_at(&position).await.unwrap().unwrap();
            let event = avro::decode_raw(&record.value).unwrap();
            records.push((record, event));
        }
        records
    }

    /// How many appends were made.
    pub fn appends(&self) -> usize {
        self.log.appended.lock().unwrap().len()
    }
}
