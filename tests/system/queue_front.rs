//! A front between the product and SQS: passes everything on, unless a test has said otherwise.
//!
//! A test may have calls held before SQS sees them, or their answers withheld after it has, and then
//! kill the product at that very point; it may have single entries of a batch refused. What was
//! called and answered can be looked up afterwards.
//!
//! The queue URLs in SQS's answers name SQS, not the front; the Rust SDK calls its endpoint whatever they
//! say. A product that went past the front would spring no trap.
//!
//! It also makes time pass: a message that a killed process had taken stays hidden for its visibility,
//! two minutes. [`QueueFront::visibility_passes`] makes all such visible at once.

mod rule;
mod tests;

pub use rule::Trap;

use crate::aws::{Aws, TARGET};
use crate::server::{Answered, Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use rule::{Fault, Rule};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One call, as SQS was asked and has answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `SendMessageBatch`.
    pub operation: String,
    /// The queue's name.
    pub queue: String,
    pub input: Value,
    /// When it reached the front.
    pub arrived: Instant,
    /// What SQS answered, and when. Not there while it is held, or if its caller went before that.
    pub answer: Option<(Value, Instant)>,
    /// Which process it came from: how many were dead when it came.
    pub life: usize,
}

impl Call {
    /// Whether it is of this operation on the queue that ends so.
    pub fn is(&self, operation: &str, queue: &str) -> bool {
        self.operation == operation && self.queue.ends_with(&format!("-{queue}"))
    }

    /// The entries of a batch.
    pub fn entries(&self) -> &[Value] {
        self.input["Entries"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The entries that SQS took.
    pub fn taken(&self) -> Vec<&Value> {
        let answer = self.answer.as_ref().map(|(answer, _)| &answer["Successful"]);
        let done = answer.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let taken = |entry: &&Value| done.iter().any(|one| one["Id"] == entry["Id"]);
        self.entries().iter().filter(taken).collect()
    }
}

/// A message received and not deleted.
struct Claim {
    url: Value,
    handle: Value,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    rules: Vec<Arc<Rule>>,
    /// By queue and message id.
    claims: HashMap<(String, String), Claim>,
    /// How many processes have been given up.
    deaths: usize,
}

struct Shared {
    aws: Aws,
    state: Mutex<State>,
}

/// A running front.
pub struct QueueFront {
    shared: Arc<Shared>,
    server: Server,
}

impl QueueFront {
    /// A front of the SQS at `endpoint`.
    pub async fn start(endpoint: &str) -> Self {
        let shared = Arc::new(Shared {
            aws: Aws::new(endpoint),
            state: Mutex::default(),
        });
        let between = shared.clone();
        let server = Server::start(move |request| answer(request, between.clone())).await;
        Self { shared, server }
    }

    /// Where the product finds it.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// From the `n`th call on that has an entry like this, such calls are held before SQS sees them.
    pub fn hold(
        &self,
        operation: &'static str,
        queue: &'static str,
        n: usize,
        like: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Trap {
        self.trap(Rule::new(operation, queue, Fault::Hold, n, like))
    }

    /// From the `n`th call on that has an entry like this, SQS does them, and the caller is not told.
    pub fn withhold(
        &self,
        operation: &'static str,
        queue: &'static str,
        n: usize,
        like: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Trap {
        self.trap(Rule::new(operation, queue, Fault::Withhold, n, like))
    }

    /// Entries like this fail, each time they are sent.
    pub fn refuse(
        &self,
        operation: &'static str,
        queue: &'static str,
        like: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Trap {
        self.trap(Rule::new(operation, queue, Fault::Refuse, 1, like))
    }

    fn trap(&self, (rule, trap): (Rule, Trap)) -> Trap {
        lock(&self.shared.state).rules.push(Arc::new(rule));
        trap
    }

    /// The calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.state).calls.clone()
    }

    /// Messages that are received and not deleted.
    pub fn claimed(&self) -> usize {
        lock(&self.shared.state).claims.len()
    }

    /// The process that has received is dead, and the visibility of all it had taken has run out. What
    /// its last receives still bring is put back at once too.
    pub async fn visibility_passes(&self) {
        let mut by_queue: HashMap<String, Vec<Claim>> = HashMap::new();
        {
            let mut state = lock(&self.shared.state);
            state.deaths += 1;
            for ((queue, _), claim) in state.claims.drain() {
                by_queue.entry(queue).or_default().push(claim);
            }
        }
        for claims in by_queue.into_values() {
            self.shared.put_back(&claims).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Answered {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::default());
    };
    let target = head
        .headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix(TARGET));
    let operation = operation.expect("SQS in its JSON protocol").to_owned();
    let mut input: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    let queue = input["QueueUrl"].as_str().or(input["QueueName"].as_str());
    let queue = queue
        .and_then(|queue| queue.rsplit('/').next())
        .unwrap_or("")
        .to_owned();
    let (place, rule) = shared.note(&operation, &queue, &input);
    let mut refused = Vec::new();
    if let Some(rule) = &rule {
        match rule.fault {
            Fault::Hold => {
                rule.meet();
                rule.end().await;
                if shared.is_orphan(place) {
                    // Its caller was killed while it was held: it was never sent.
                    std::future::pending::<()>().await;
                }
            }
            Fault::Withhold => {}
            Fault::Refuse => {
                refused = rule.take_entries(&mut input);
                rule.meet();
            }
        }
    }
    // A task of its own: SQS finishes what it was asked, whether or not the caller lives to hear of it.
    let passed = tokio::spawn(shared.clone().pass(head, input, place, refused));
    let response = passed.await.expect("it is passed on");
    if let Some(rule) = &rule
        && rule.fault == Fault::Withhold
    {
        rule.meet();
        rule.end().await;
    }
    Ok(response.map(Full::new))
}

impl Shared {
    /// Writes a call down; its place among the calls, and the rule that is about it.
    fn note(&self, operation: &str, queue: &str, input: &Value) -> (usize, Option<Arc<Rule>>) {
        let mut state = lock(&self.state);
        let call = Call {
            operation: operation.to_owned(),
            queue: queue.to_owned(),
            input: input.clone(),
            arrived: Instant::now(),
            answer: None,
            life: state.deaths,
        };
        state.rules.retain(|rule| !rule.is_lifted());
        let meant = state.rules.iter().find(|rule| rule.catches(&call)).cloned();
        state.calls.push(call);
        (state.calls.len() - 1, meant)
    }

    /// Whether a call's process is dead.
    fn is_orphan(&self, place: usize) -> bool {
        let state = lock(&self.state);
        state.calls[place].life != state.deaths
    }

    /// Has SQS do it; what to answer.
    async fn pass(
        self: Arc<Self>,
        head: hyper::http::request::Parts,
        input: Value,
        place: usize,
        refused: Vec<Value>,
    ) -> Response<Bytes> {
        let nothing_left = !refused.is_empty() && input["Entries"] == json!([]);
        let answered = if nothing_left {
            Response::new(Bytes::from_static(b"{}"))
        } else {
            let body = Bytes::from(input.to_string());
            let mut request = Request::from_parts(head, body);
            for hop in ["host", "content-length"] {
                request.headers_mut().remove(hop);
            }
            match self.aws.send(request).await {
                Ok(answered) => answered,
                Err(why) => panic!("SQS is away: {why}"),
            }
        };
        let (status, mut body) = (answered.status(), answered.body().clone());
        if status == StatusCode::OK {
            let mut said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if !refused.is_empty() {
                let failed =
                    |entry: &Value| json!({"Id": entry["Id"], "Code": "InternalError", "SenderFault": false});
                said["Failed"] = refused.iter().map(failed).collect();
                if said["Successful"].is_null() {
                    said["Successful"] = json!([]);
                }
                body = Bytes::from(said.to_string());
            }
            self.answered(place, &said).await;
        }
        let mut response = Response::builder().status(status);
        for name in ["content-type", "x-amzn-requestid", "x-amzn-query-error"] {
            if let Some(value) = answered.headers().get(name) {
                response = response.header(name, value);
            }
        }
        response.body(body).expect("a response")
    }

    /// Writes an answer down, and what it says of claims.
    async fn answered(&self, place: usize, said: &Value) {
        let orphans = {
            let mut state = lock(&self.state);
            let state = &mut *state;
            let call = &mut state.calls[place];
            call.answer = Some((said.clone(), Instant::now()));
            match call.operation.as_str() {
                "ReceiveMessage" => {
                    let url = call.input["QueueUrl"].clone();
                    let messages = said["Messages"].as_array().map_or(&[][..], Vec::as_slice);
                    let claims = messages.iter().map(|message| {
                        let id = message["MessageId"].as_str().expect("an id").to_owned();
                        let (url, handle) = (url.clone(), message["ReceiptHandle"].clone());
                        ((call.queue.clone(), id), Claim { url, handle })
                    });
                    if call.life == state.deaths {
                        state.claims.extend(claims);
                        Vec::new()
                    } else {
                        claims.map(|(_, claim)| claim).collect()
                    }
                }
                "DeleteMessageBatch" => {
                    let gone: Vec<Value> = call
                        .taken()
                        .into_iter()
                        .map(|one| one["ReceiptHandle"].clone())
                        .collect();
                    state.claims.retain(|_, claim| !gone.contains(&claim.handle));
                    Vec::new()
                }
                _ => Vec::new(),
            }
        };
        self.put_back(&orphans).await;
    }

    /// Makes messages of one queue visible.
    async fn put_back(&self, claims: &[Claim]) {
        for ten in claims.chunks(10) {
            let entry = |(place, claim): (usize, &Claim)| json!({"Id": place.to_string(), "ReceiptHandle": claim.handle, "VisibilityTimeout": 0});
            let entries: Vec<Value> = ten.iter().enumerate().map(entry).collect();
            let input = json!({"QueueUrl": ten[0].url, "Entries": entries});
            // Entries deleted meanwhile fail each for itself.
            self.aws.sqs("ChangeMessageVisibilityBatch", input).await;
        }
    }
}
