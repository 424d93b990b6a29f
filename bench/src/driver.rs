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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::payload::seq_of;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Response, body::Incoming};
    use hyper_util::rt::TokioIo;
    use std::sync::Mutex;

    /// What the API of a test was asked.
    pub(crate) type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

    /// An API that answers the n-th request with `status(n)`, and leaves when that is 0.
    pub(crate) async fn api(status: fn(usize) -> u16) -> (SocketAddr, Asked) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Asked::default();
        let all = asked.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let asked = all.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let asked = asked.clone();
                    async move {
                        let key = format!("{:?}", request.headers()["authorization"].to_str());
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let count = {
                            let mut asked = asked.lock().unwrap();
                            asked.push((key, body));
                            asked.len() - 1
                        };
                        let answer = Response::builder().header("retry-after", "0");
                        match status(count) {
                            0 => Err("gone"),
                            status => Ok(answer.status(status).body(Full::<Bytes>::default()).unwrap()),
                        }
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        (addr, asked)
    }

    pub(crate) fn driver(api: SocketAddr) -> (Driver, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        let driver = Driver::new(api, "hk_test", Template::new(256), ledger.clone());
        (driver.unwrap(), ledger)
    }

    fn seqs(body: &[u8]) -> Vec<u64> {
        let parts = String::from_utf8_lossy(body).into_owned();
        parts
            .lines()
            .map(|line| seq_of(line.split_once(r#""payload":"#).unwrap().1.as_bytes()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn each_event_is_posted_once_whichever_connection_takes_it() {
        let (api, asked) = api(|_| 202).await;
        let (driver, ledger) = driver(api);
        let posted = driver.post(5..105, 7).await.unwrap();
        assert_eq!(
            posted,
            Posted {
                accepted: 100,
                ..Posted::default()
            }
        );
        assert_eq!(ledger.accepted_count(), 100);
        let asked = asked.lock().unwrap();
        let mut came: Vec<u64> = asked.iter().flat_map(|(_, body)| seqs(body)).collect();
        came.sort_unstable();
        assert_eq!(came, (5..105).collect::<Vec<_>>());
        assert!(asked.iter().all(|(key, _)| key.contains("Bearer hk_test")));
    }

    #[tokio::test]
    async fn what_is_refused_or_unanswered_is_not_accepted() {
        let (api, _) = api(|count| [202, 429, 202, 500, 0][count.min(4)]).await;
        let (driver, ledger) = driver(api);
        let posted = driver.post(0..100, 1).await.unwrap();
        let wanted = Posted {
            accepted: 2,
            refused: [(429, 1), (500, 1)].into(),
            unanswered: 1,
        };
        assert_eq!(posted, wanted, "and it ends with its only connection");
        assert_eq!(ledger.accepted_count(), 2);
        assert_eq!(ledger.missing(0..100, 1), 2);
        let trouble = posted.trouble().unwrap();
        assert_eq!(trouble, "1 answered 429, 1 answered 500, 1 unanswered");
    }

    #[tokio::test]
    async fn a_paced_driver_takes_the_time_its_pace_asks_for() {
        let (api, asked) = api(|_| 202).await;
        let (driver, _) = driver(api);
        let start = Instant::now();
        let posted = driver.post_paced(0..21, 200.0, 4).await.unwrap();
        assert_eq!(posted.accepted, 21);
        assert_eq!(asked.lock().unwrap().len(), 21);
        assert!(start.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn batches_carry_every_event_and_a_refused_one_is_an_error() {
        let (ok, asked) = api(|_| 202).await;
        let (driver_ok, ledger) = driver(ok);
        driver_ok.post_batches(0..BATCH + 1).await.unwrap();
        let sizes: Vec<usize> = asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, body)| seqs(body).len())
            .collect();
        assert_eq!(sizes, [BATCH as usize, 1]);
        assert_eq!(ledger.accepted_count(), BATCH + 1);
        let (bad, _) = api(|_| 413).await;
        let error = driver(bad).0.post_batches(0..1).await.unwrap_err();
        assert!(error.to_string().contains("413"), "{error}");
    }
}
