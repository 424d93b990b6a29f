//! The driver: posts events over a set of connections, as fast as they are accepted or at a pace.

use crate::http::connect;
use crate::ledger::{Ledger, now_ns};
use crate::payload::Template;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Events of one `application/x-ndjson` request.
const BATCH: u64 = 500;

/// How long to leave an API alone that answered 429 or 503 without saying for how long.
const PAUSE: Duration = Duration::from_millis(20);

/// Where and what to post.
#[derive(Clone)]
pub struct Driver {
    api: SocketAddr,
    host: HeaderValue,
    authorization: HeaderValue,
    template: Arc<Template>,
    ledger: Arc<Ledger>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Events answered with 202.
    pub accepted: u64,
    /// Events answered otherwise, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Events whose answer never came: they may have been accepted or not.
    pub unanswered: u64,
}

impl Posted {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.unanswered += other.unanswered;
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
    }

    /// A short text of what was not accepted, if anything was not.
    pub fn trouble(&self) -> Option<String> {
        let mut parts: Vec<String> = self
            .refused
            .iter()
            .map(|(status, count)| format!("{count} answered {status}"))
            .collect();
        if self.unanswered > 0 {
            parts.push(format!("{} unanswered", self.unanswered));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Driver {
    /// Posts to `api` with API key `key`.
    pub fn new(api: SocketAddr, key: &str, template: Template, ledger: Arc<Ledger>) -> Result<Self> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {key}")).context("the API key is not a header value")?;
        authorization.set_sensitive(true);
        Ok(Self {
            api,
            host: HeaderValue::try_from(api.to_string())?,
            authorization,
            template: Arc::new(template),
            ledger,
        })
    }

    /// Posts `seqs` by `connections` connections, each sending its next event when the last one is
    /// answered.
    ///
    /// A connection that breaks is not opened again: what it was about to post is posted by the others.
    ///
    /// # Errors
    /// When no connection can be opened at the start.
    pub async fn post(&self, seqs: Range<u64>, connections: usize) -> Result<Posted> {
        let next = Arc::new(AtomicU64::new(seqs.start));
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let (driver, next, sender) = (self.clone(), next.clone(), connect(self.api).await?);
            workers.spawn(async move {
                let mut worker = Worker::new(driver, sender);
                loop {
                    let seq = next.fetch_add(1, Ordering::Relaxed);
                    if seq >= seqs.end || !worker.post(seq).await {
                        return worker.posted;
                    }
                }
            });
        }
        sum(workers).await
    }

    /// Posts `seqs` at `rate` events per second over `connections` connections that take turns.
    ///
    /// # Errors
    /// As [`Driver::post`]; also when the events could not be posted at this rate, for then the
    /// latencies would not be those of the rate.
    pub async fn post_paced(&self, seqs: Range<u64>, rate: f64, connections: usize) -> Result<Posted> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(connect(self.api).await?);
        }
        let start = Instant::now();
        let interval = 1.0 / rate;
        let (first, last) = (seqs.start, seqs.end);
        let mut workers = JoinSet::new();
        for (place, sender) in senders.into_iter().enumerate() {
            let driver = self.clone();
            workers.spawn(async move {
                let mut worker = Worker::new(driver, sender);
                for seq in (first + place as u64..last).step_by(connections) {
                    let due = start + Duration::from_secs_f64((seq - first) as f64 * interval);
                    tokio::time::sleep_until(due).await;
                    if !worker.post(seq).await {
                        break;
                    }
                }
                worker.posted
            });
        }
        let posted = sum(workers).await?;
        let took = start.elapsed().as_secs_f64();
        let wanted = (last - first) as f64 * interval;
        if took > wanted * 1.1 + 1.0 {
            bail!("{rate} events/s could not be kept up: {wanted:.1} s of events took {took:.1} s to post");
        }
        Ok(posted)
    }

    /// Posts `seqs` in batches, to have many events quickly.
    ///
    /// # Errors
    /// When one batch is not accepted.
    pub async fn post_batches(&self, seqs: Range<u64>) -> Result<()> {
        let mut sender = connect(self.api).await?;
        let mut from = seqs.start;
        while from < seqs.end {
            let batch = from..seqs.end.min(from + BATCH);
            let mut body = Vec::new();
            let now = now_ns();
            for seq in batch.clone() {
                self.ledger.sent(seq, now);
                self.template.append_request(seq, now, &mut body);
                body.push(b'\n');
            }
            let request = self.request("application/x-ndjson", body.into());
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let answer = answer.into_body().collect().await?.to_bytes();
            if status != StatusCode::ACCEPTED {
                let text = String::from_utf8_lossy(&answer);
                bail!(
                    "a batch of events: {status}: {}",
                    text.chars().take(400).collect::<String>()
                );
            }
            let now = now_ns();
            for seq in batch.clone() {
                self.ledger.accepted(seq, now);
            }
            from = batch.end;
        }
        Ok(())
    }

    fn request(&self, content_type: &'static str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = hyper::Uri::from_static("/v1/webhooks/events");
        let headers = request.headers_mut();
        headers.insert("host", self.host.clone());
        headers.insert("authorization", self.authorization.clone());
        headers.insert("content-type", HeaderValue::from_static(content_type));
        request
    }
}

/// One connection and what it has posted.
struct Worker {
    driver: Driver,
    sender: SendRequest<Full<Bytes>>,
    posted: Posted,
}

impl Worker {
    fn new(driver: Driver, sender: SendRequest<Full<Bytes>>) -> Self {
        Self {
            driver,
            sender,
            posted: Posted::default(),
        }
    }

    /// Posts one event; an answer of 429 or 503 makes it wait as told. False when the connection is of
    /// no more use.
    async fn post(&mut self, seq: u64) -> bool {
        let driver = &self.driver;
        let now = now_ns();
        driver.ledger.sent(seq, now);
        let request = driver.request("application/json", driver.template.request(seq, now));
        let answer = match self.sender.send_request(request).await {
            Ok(answer) => answer,
            Err(_) => {
                self.posted.unanswered += 1;
                return false;
            }
        };
        let status = answer.status();
        let pause = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let whole = answer.into_body().collect().await.is_ok();
        if status == StatusCode::ACCEPTED {
            // The head of the answer is the promise, whether or not its body came whole.
            driver.ledger.accepted(seq, now_ns());
            self.posted.accepted += 1;
        } else {
            *self.posted.refused.entry(status.as_u16()).or_default() += 1;
            if matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            ) {
                tokio::time::sleep(pause.map_or(PAUSE, Duration::from_secs)).await;
            }
        }
        whole && self.sender.ready().await.is_ok()
    }
}

async fn sum(mut workers: JoinSet<Posted>) -> Result<Posted> {
    let mut total = Posted::default();
    while let Some(posted) = workers.join_next().await {
        total.add(posted?);
    }
    Ok(total)
}
