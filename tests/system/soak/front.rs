//! A front between one process and SQS and S3, which fails as they do: single entries of a batch, all of it
//! for a while, too many requests at once. It notes which deliveries the process has sent.

use crate::aws::{Aws, TARGET};
use crate::server::{Answered, Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Of so many entries one fails, and of so many calls to S3 one is throttled.
const ONE_IN: u64 = 5;

/// A delivery by the place of its record and its target.
pub type Sent = (i32, i64, i64);

/// What all fronts of a soak share.
#[derive(Default)]
pub struct Weather {
    /// SQS answers nothing but 503.
    pub outage: AtomicBool,
    entries: AtomicU64,
    puts: AtomicU64,
}

/// A running front.
pub struct Front {
    server: Server,
    sent: Arc<Mutex<Vec<(Instant, Sent)>>>,
}

impl Front {
    /// A front of SQS and S3 at these endpoints.
    pub async fn start(sqs: &str, s3: &str, weather: Arc<Weather>) -> Self {
        let sent = Arc::<Mutex<Vec<(Instant, Sent)>>>::default();
        let shared = Arc::new(Shared {
            sqs: Aws::new(sqs),
            s3: Aws::new(s3),
            weather,
            sent: sent.clone(),
        });
        let server = Server::start(move |request| answer(request, shared.clone())).await;
        Self { server, sent }
    }

    /// Where the process finds it.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What SQS has taken from the process, and when.
    pub fn sent(&self) -> Vec<(Instant, Sent)> {
        lock(&self.sent).clone()
    }
}

struct Shared {
    sqs: Aws,
    s3: Aws,
    weather: Arc<Weather>,
    sent: Arc<Mutex<Vec<(Instant, Sent)>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this one is to fail.
fn fails(counter: &AtomicU64) -> bool {
    counter.fetch_add(1, Ordering::Relaxed) % ONE_IN == ONE_IN - 1
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Answered {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::default());
    };
    let mut request = Request::from_parts(head, body.to_bytes());
    for hop in ["host", "content-length"] {
        request.headers_mut().remove(hop);
    }
    // A task of its own: what was asked is done, whether or not the process lives to hear of it.
    let answered = tokio::spawn(async move { shared.answer(request).await }).await;
    Ok(answered.expect("an answer").map(Full::new))
}

impl Shared {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let target = request.headers().get("x-amz-target");
        let operation = target
            .and_then(|target| target.to_str().ok()?.strip_prefix(TARGET))
            .map(str::to_owned);
        match operation.as_deref() {
            None => self.store(request).await,
            Some(_) if self.weather.outage.load(Ordering::Relaxed) => status(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"__type":"ServiceUnavailable"}"#,
            ),
            Some("SendMessageBatch") => self.send(request).await,
            Some(_) => pass(&self.sqs, request).await,
        }
    }

    async fn store(&self, request: Request<Bytes>) -> Response<Bytes> {
        if request.method() == "PUT" && fails(&self.weather.puts) {
            let slow =
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            return status(StatusCode::SERVICE_UNAVAILABLE, slow);
        }
        pass(&self.s3, request).await
    }

    /// Some entries fail; the others are passed on, and noted when SQS has taken them.
    async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        let mut input: Value = serde_json::from_slice(&body).expect("JSON");
        let entries = input["Entries"].as_array().cloned().unwrap_or_default();
        let (failing, passing): (Vec<Value>, Vec<Value>) =
            entries.into_iter().partition(|_| fails(&self.weather.entries));
        let mut said = json!({"Successful": [], "Failed": []});
        if !passing.is_empty() {
            input["Entries"] = json!(passing);
            let answered = pass(
                &self.sqs,
                Request::from_parts(head, Bytes::from(input.to_string())),
            )
            .await;
            if answered.status() != StatusCode::OK {
                return answered;
            }
            said = serde_json::from_slice(answered.body()).expect("JSON");
        }
        let taken: HashSet<&str> = said["Successful"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["Id"].as_str())
            .collect();
        let now = Instant::now();
        let sent = passing
            .iter()
            .filter(|entry| entry["Id"].as_str().is_some_and(|id| taken.contains(id)));
        lock(&self.sent).extend(sent.map(|entry| (now, delivery(entry))));
        let failed =
            |entry: &Value| json!({"Id": entry["Id"], "Code": "InternalError", "SenderFault": false});
        let mut failures: Vec<Value> = failing.iter().map(failed).collect();
        failures.extend(said["Failed"].as_array().cloned().unwrap_or_default());
        said["Failed"] = json!(failures);
        status(StatusCode::OK, &said.to_string())
    }
}

/// What a message is about, as the product writes it beside the body.
fn delivery(entry: &Value) -> Sent {
    let text = entry["MessageAttributes"]["hookwright"]["StringValue"].as_str();
    let said: Value = serde_json::from_str(text.expect("our attribute")).expect("JSON");
    let place = &said["ps"];
    let partition = i32::try_from(place["p"].as_i64().expect("a partition")).expect("fits");
    (
        partition,
        place["o"].as_i64().expect("an offset"),
        said["tg"].as_i64().expect("a target"),
    )
}

/// The emulator is busy where it does not answer: the product tries again, as it does with SQS.
async fn pass(behind: &Aws, request: Request<Bytes>) -> Response<Bytes> {
    match behind.send(request).await {
        Ok(answered) => answered,
        Err(why) => status(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn status(status: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_owned()));
    *response.status_mut() = status;
    let kind = if body.starts_with('<') {
        "application/xml"
    } else {
        "application/x-amz-json-1.0"
    };
    let headers = response.headers_mut();
    headers.insert("content-type", kind.parse().expect("a value"));
    response
}
