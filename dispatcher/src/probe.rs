//! Requests to targets that are no deliveries: the challenge by which one proves that it wants them, and a test.
//! Sent by the same client as deliveries, so within the same rules and limits.

use crate::client::{Answer, HttpClient};
use crate::config::Config;
use crate::request::{self, AGENT, WEBHOOK_REQUEST_ORIGIN};
use crate::targets::ReadyTarget;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use platform::catalog::{Catalog, CatalogError};
use platform::clock::Clock;
use platform::prober::{self, NotProved, Prober, Tested};
use platform::secrets::random_bytes;
use platform::telemetry::Outage;
use schemas::delivery::{Delivery, Payload};
use schemas::event::Position;
use schemas::ids::EventId;
use schemas::outcome::AttemptError;
use schemas::target::TargetDetails;
use schemas::time::Millis;
use schemas::verification::{ALLOWED_ORIGIN, Question, Reply, judge, question};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The longest that whoever asked for it waits for a target.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a test delivers.
const EXAMPLE: &str = r#"{"type":"hookwright.test","data":{"message":"This is a test: nothing happened."}}"#;

/// Asks targets.
pub struct Probe {
    client: Arc<HttpClient>,
    clock: Clock,
    timeout: Duration,
    origin: Option<String>,
}

impl Probe {
    /// Asks by these rules, with a client of its own.
    #[must_use]
    pub fn new(config: &Config, clock: Clock) -> Self {
        Self::with(config, Arc::new(HttpClient::new(config)), clock)
    }

    /// Asks with a client that others use too.
    #[must_use]
    pub fn with(config: &Config, client: Arc<HttpClient>, clock: Clock) -> Self {
        Self {
            client,
            clock,
            timeout: config.timeout.min(PATIENCE),
            origin: config.origin.clone(),
        }
    }

    async fn send(
        &self,
        target: &ReadyTarget,
        request: Option<Request<Full<Bytes>>>,
    ) -> Result<(HeaderMap, Answer), AttemptError> {
        let timeout = target
            .details
            .timeout
            .map_or(self.timeout, |own| own.min(PATIENCE));
        let request = request.ok_or(AttemptError::Blocked)?;
        self.client.ask(request, target.tls.as_ref(), timeout).await
    }

    /// A signed POST that is in no queue.
    fn post(
        &self,
        target: &ReadyTarget,
        event_type: &str,
        body: Bytes,
        now: Millis,
    ) -> Option<Request<Full<Bytes>>> {
        let delivery = Delivery {
            event_id: EventId::adopt(&format!("probe_{}", token())).0,
            original_id: None,
            tenant: target.details.tenant.clone(),
            target: target.details.id,
            event_type: event_type.into(),
            content_type: "application/json".into(),
            accepted_at: now,
            traceparent: None,
            position: Position {
                topic: "".into(),
                partition: 0,
                offset: 0,
            },
            attempt: 1,
            due_at: None,
            reason: None,
            resend: None,
            payload: Payload::Inline(body.clone()),
        };
        request::build(target, &delivery, body, now, self.origin.as_deref())
    }

    fn asked(&self, target: &ReadyTarget, asked: Question, now: Millis) -> Option<Request<Full<Bytes>>> {
        if asked.verb == "POST" {
            return self.post(target, "webhook.verification", asked.body.into(), now);
        }
        let request = Request::builder()
            .method(asked.verb)
            .uri(asked.url)
            .header(USER_AGENT, AGENT);
        let request = match &asked.origin {
            Some(origin) => request.header(WEBHOOK_REQUEST_ORIGIN, HeaderValue::from_str(origin).ok()?),
            None => request,
        };
        request.body(Full::default()).ok()
    }
}

/// 32 hex digits that nobody can guess.
fn token() -> String {
    random_bytes::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[async_trait]
impl Prober for Probe {
    async fn challenge(&self, details: &TargetDetails) -> Result<(), NotProved> {
        let target = ReadyTarget::new(details.clone());
        let (method, token, now) = (details.request.verification, token(), self.clock.now());
        let origin = self.origin.as_deref().unwrap_or("hookwright");
        let Some(asked) = question(method, &details.url, &token, origin) else {
            return Ok(());
        };
        let request = self.asked(&target, asked, now);
        let (headers, answer) = self.send(&target, request).await.map_err(NotProved::NoAnswer)?;
        let allowed = headers.get(ALLOWED_ORIGIN).and_then(|value| value.to_str().ok());
        let reply = Reply {
            status: answer.status,
            allowed_origin: allowed,
            body: answer.excerpt.as_deref().unwrap_or_default(),
        };
        judge(method, reply, &token, origin, details.keys_at(now))?;
        Ok(())
    }

    async fn test(&self, details: &TargetDetails) -> Tested {
        let target = ReadyTarget::new(details.clone());
        let (now, began) = (self.clock.now(), Instant::now());
        let request = self.post(
            &target,
            "hookwright.test",
            Bytes::from_static(EXAMPLE.as_bytes()),
            now,
        );
        let answer = self.send(&target, request).await;
        let took = began.elapsed();
        match answer {
            Ok((_, answer)) => Tested {
                answer: Ok(answer.status),
                excerpt: answer.excerpt,
                took,
            },
            Err(why) => Tested {
                answer: Err(why),
                excerpt: None,
                took,
            },
        }
    }
}

/// Asks those that are to be asked again.
pub struct Asking {
    /// The targets.
    pub catalog: Catalog,
    /// Who asks.
    pub prober: Probe,
}

/// How often it is looked who is to be asked.
const LOOK: Duration = Duration::from_secs(30);
/// How many are claimed at once: so many questions take less than a claim lasts, one after the other.
const AT_ONCE: u32 = 16;

static ASKING: Outage = Outage::new("catalog (verification)");

impl Asking {
    /// Asks until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        while tokio::time::timeout(LOOK, shutdown.cancelled()).await.is_err() {
            match self.round(shutdown).await {
                Ok(()) => ASKING.works(),
                Err(error) => ASKING.failed(&error),
            }
        }
    }

    async fn round(&self, shutdown: &CancellationToken) -> Result<(), CatalogError> {
        for id in self.catalog.to_ask(AT_ONCE).await? {
            if shutdown.is_cancelled() {
                break;
            }
            if let Some(details) = self.catalog.target_details(id).await? {
                // What the target said is noted in the catalog.
                let _ = prober::ask(&self.catalog, &self.prober, &details).await?;
            }
        }
        Ok(())
    }
}
