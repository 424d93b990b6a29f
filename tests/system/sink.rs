//! The receiver of deliveries: records each, and answers as it is told to.

use crate::eventually;
use crate::server::{Answered, Server};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response, StatusCode};
use schemas::ids::sha256_hex;
use schemas::signature;
use schemas::target::SigningKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far a signature's time may be off, as in all reference libraries.
const TOLERANCE: Duration = Duration::from_secs(300);

/// How a path answers.
#[derive(Clone, Debug)]
pub struct Behaviour {
    status: u16,
    /// Attempts of this number and below are answered with `failure`.
    failing: u32,
    failure: u16,
    retry_after: Option<&'static str>,
    delay: Duration,
    hang: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 204,
            failing: 0,
            failure: 500,
            retry_after: None,
            delay: Duration::ZERO,
            hang: false,
        }
    }
}

impl Behaviour {
    /// This status, always.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// This status to the first `attempts` of each delivery, then success.
    pub fn failing(attempts: u32, failure: u16) -> Self {
        Self {
            failing: attempts,
            failure,
            ..Self::default()
        }
    }

    /// No answer at all.
    pub fn hanging() -> Self {
        Self {
            hang: true,
            ..Self::default()
        }
    }

    /// `Retry-After` with each failure.
    pub fn retry_after(self, value: &'static str) -> Self {
        Self {
            retry_after: Some(value),
            ..self
        }
    }

    /// Answers so much later.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: String,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-delivery-id`.
    pub delivery_id: String,
    /// `webhook-attempt`.
    pub attempt: u32,
    pub headers: HeaderMap,
    /// Whether the signature is right; `None` when the path's secret is not known.
    pub verified: Option<bool>,
    pub sha256: String,
    pub len: usize,
    /// What it was answered, or is about to be; 0 for nothing at all.
    pub answered: u16,
    pub at: Instant,
}

impl Delivery {
    /// Whether it was accepted.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.answered)
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// A running receiver.
pub struct Sink {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Default)]
struct Shared {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    keys: Mutex<HashMap<String, SigningKey>>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Sink {
    /// Starts a receiver on a free port.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let receiving = shared.clone();
        let server = Server::start(move |request| receive(request, receiving.clone())).await;
        Self { shared, server }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// From now on the path answers so.
    pub fn answer(&self, path: &str, behaviour: Behaviour) {
        lock(&self.shared.behaviours).insert(path.to_owned(), behaviour);
    }

    /// From now on what comes to the path is verified with this secret.
    pub fn verify(&self, path: &str, secret: &str) {
        let key = signature::parse_secret(secret).expect("a secret");
        lock(&self.shared.keys).insert(path.to_owned(), key);
    }

    /// The deliveries of one event so far.
    pub fn of(&self, event: &str) -> Vec<Delivery> {
        let all = lock(&self.shared.deliveries);
        all.iter()
            .filter(|delivery| delivery.id == event)
            .cloned()
            .collect()
    }

    /// Looks at the deliveries without copying them.
    pub fn look<T>(&self, at: impl FnOnce(&[Delivery]) -> T) -> T {
        at(&lock(&self.shared.deliveries))
    }

    /// The first delivery that is like this, waited for.
    pub async fn wait(&self, limit: Duration, what: &str, like: impl Fn(&Delivery) -> bool) -> Delivery {
        eventually(limit, what, async || {
            self.look(|all| all.iter().find(|one| like(one)).cloned())
        })
        .await
    }

    /// The accepted delivery of an event, waited for.
    pub async fn accepted(&self, limit: Duration, event: &str) -> Delivery {
        let what = format!("event {event} is delivered");
        self.wait(limit, &what, |delivery| {
            delivery.id == event && delivery.accepted()
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(request: Request<Incoming>, shared: Arc<Shared>) -> Answered {
    let (head, body) = request.into_parts();
    // A body that broke off is no delivery: its sender was killed.
    let Ok(body) = body.collect().await else {
        return Ok(Response::default());
    };
    let body = body.to_bytes();
    let path = head.uri.path().to_owned();
    let behaviour = lock(&shared.behaviours).get(&path).cloned().unwrap_or_default();
    let text = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned()
    };
    let attempt = text("webhook-attempt").parse().unwrap_or(0);
    let status = if attempt <= behaviour.failing {
        behaviour.failure
    } else {
        behaviour.status
    };
    let verified = lock(&shared.keys)
        .get(&path)
        .map(|key| is_signed(key, &head.headers, &body));
    let delivery = Delivery {
        id: text("webhook-id"),
        delivery_id: text("webhook-delivery-id"),
        attempt,
        verified,
        sha256: sha256_hex(&body),
        len: body.len(),
        answered: if behaviour.hang { 0 } else { status },
        at: Instant::now(),
        headers: head.headers,
        path,
    };
    lock(&shared.deliveries).push(delivery);
    if behaviour.hang {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(behaviour.delay).await;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let (Some(value), 300..) = (behaviour.retry_after, status) {
        response
            .headers_mut()
            .insert("retry-after", HeaderValue::from_static(value));
    }
    Ok(response)
}

fn is_signed(key: &SigningKey, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let Ok(timestamp) = text("webhook-timestamp").parse() else {
        return false;
    };
    let (id, header) = (text("webhook-id"), text("webhook-signature"));
    let now = i64::try_from(now).expect("fits");
    signature::verify(
        std::slice::from_ref(key),
        id,
        timestamp,
        body,
        header,
        now,
        TOLERANCE,
    )
    .is_ok()
}
