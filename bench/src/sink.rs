//! The sink: the target everything is delivered to. It answers at once and writes the ledger.
//!
//! It runs on a thread of its own, one runtime, no locks that wait: its cost can be told from the
//! driver's. `/t/0`, `/t/1`, … are its targets; `/__stats`, `/__reset` and `/__hold/…` steer it when it
//! runs by itself.

use crate::ledger::{Ledger, MAX_TARGETS, now_ns};
use crate::payload::seq_of;
use crate::proc::Proc;
use crate::signing::Verifier;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Every which delivery has its signature checked.
const CHECK_EVERY: u64 = 64;

/// How the sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 at once.
    Accept,
    /// This status at once; the delivery does not count as received.
    Status(u16),
    /// Never.
    Hang,
    /// 200 after so many milliseconds.
    Slow(u16),
}

/// What [`Answer::Slow`] begins at as a code: no status is as high.
const SLOW: u16 = 1_000;

impl Answer {
    fn code(self) -> u16 {
        match self {
            Self::Accept => 200,
            Self::Status(code) => code,
            Self::Hang => 0,
            Self::Slow(millis) => SLOW.saturating_add(millis),
        }
    }
}

/// A running sink.
pub struct Sink {
    shared: Arc<Shared>,
    addr: SocketAddr,
    thread: Option<(Proc, oneshot::Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    ledger: Arc<Ledger>,
    /// [`Answer`] of each target as a code: 200 accepts, 0 hangs, other statuses refuse, above them is [`SLOW`].
    answers: [AtomicU16; MAX_TARGETS],
    turned_away: AtomicU64,
    requests: AtomicU64,
    signatures: Mutex<Signatures>,
}

#[derive(Default)]
struct Signatures {
    /// By target; a target without is not checked.
    verifiers: Vec<Option<Verifier>>,
    counts: SignatureCounts,
}

/// What the checks of signatures found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SignatureCounts {
    /// Deliveries checked: one of 64.
    pub checked: u64,
    /// Those whose signature was missing or wrong.
    pub wrong: u64,
}

impl Sink {
    /// Starts a sink on `listen`; port 0 takes a free one.
    pub async fn start(listen: SocketAddr, ledger: Arc<Ledger>) -> Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| format!("sink on {listen}"))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            ledger,
            answers: std::array::from_fn(|_| AtomicU16::new(200)),
            turned_away: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            signatures: Mutex::default(),
        });
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sink".into()).spawn({
            let shared = shared.clone();
            move || run(listener, shared, ready, stopped)
        })?;
        let thread_proc = is_ready.await.context("the sink's thread ended at once")??;
        Ok(Self {
            shared,
            addr,
            thread: Some((thread_proc, stop, thread)),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of target `index`.
    pub fn url(&self, index: usize) -> String {
        format!("http://{}{}", self.addr, path(index))
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: Answer) {
        self.shared.set_answer(answer);
    }

    /// From now on this target answers so.
    pub fn answer_at(&self, index: usize, answer: Answer) {
        self.shared
            .answer_of(index)
            .store(answer.code(), Ordering::Relaxed);
    }

    /// From now on some deliveries to target `index` are checked against this `whsec_…` secret.
    pub fn verify(&self, index: usize, secret: &str) -> Result<()> {
        let verifier = Verifier::new(secret)?;
        let mut signatures = self.shared.signatures();
        if signatures.verifiers.len() <= index {
            signatures.verifiers.resize_with(index + 1, || None);
        }
        signatures.verifiers[index] = Some(verifier);
        Ok(())
    }

    /// What the checks found so far.
    pub fn signature_counts(&self) -> SignatureCounts {
        self.shared.signatures().counts
    }

    /// How many deliveries were not accepted.
    pub fn turned_away(&self) -> u64 {
        self.shared.turned_away.load(Ordering::Relaxed)
    }

    /// Processor seconds of the sink's thread.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.thread
            .as_ref()
            .map_or(Ok(0.0), |(thread, _, _)| thread.cpu_seconds())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some((_, stop, thread)) = self.thread.take() {
            drop(stop);
            // Its end is all that matters; a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

/// The path of target `index`.
pub fn path(index: usize) -> String {
    format!("/t/{index}")
}

impl Shared {
    fn set_answer(&self, answer: Answer) {
        for one in &self.answers {
            one.store(answer.code(), Ordering::Relaxed);
        }
    }

    /// That of a target; those beyond the last share one.
    fn answer_of(&self, target: usize) -> &AtomicU16 {
        &self.answers[target.min(MAX_TARGETS - 1)]
    }

    fn signatures(&self) -> std::sync::MutexGuard<'_, Signatures> {
        self.signatures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    ready: oneshot::Sender<Result<Proc>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let started = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        Ok((Proc::this_thread()?, runtime, listener))
    });
    match started {
        Err(error) => {
            // Nobody waits any more only when the bench is ending.
            let _ = ready.send(Err(error));
        }
        Ok((thread, runtime, listener)) => {
            let _ = ready.send(Ok(thread));
            runtime.block_on(serve(listener, shared, stopped));
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                // Without it small answers may wait for an acknowledgement; with an error it is no worse.
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| handle(request, shared.clone()));
                    // A connection that breaks is the client's matter.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path.starts_with("/__") {
        return Ok(control(path, &shared));
    }
    let target = path
        .strip_prefix("/t/")
        .and_then(|index| index.parse().ok())
        .unwrap_or(usize::MAX);
    let body = body.collect().await?.to_bytes();
    let now = now_ns();
    let count = shared.requests.fetch_add(1, Ordering::Relaxed);
    match shared.answer_of(target).load(Ordering::Relaxed) {
        200 => {}
        0 => {
            shared.turned_away.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        code if code >= SLOW => tokio::time::sleep(Duration::from_millis((code - SLOW).into())).await,
        code => {
            shared.turned_away.fetch_add(1, Ordering::Relaxed);
            return Ok(empty(
                StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            ));
        }
    }
    if count.is_multiple_of(CHECK_EVERY) {
        let mut signatures = shared.signatures();
        if let Some(Some(verifier)) = signatures.verifiers.get(target) {
            let right = verifier.is_right(&head.headers, &body);
            signatures.counts.checked += 1;
            signatures.counts.wrong += u64::from(!right);
        }
    }
    shared.ledger.received(target, seq_of(&body), now);
    Ok(empty(StatusCode::OK))
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer
            .headers_mut()
            .insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("5"));
    }
    answer
}

/// `/__stats`: the counts. `/__reset`: forgets them. `/__hold/accept|hang|STATUS`: how to answer.
fn control(path: &str, shared: &Shared) -> Response<Full<Bytes>> {
    let hold = match path.strip_prefix("/__hold/") {
        Some("accept") => Some(Answer::Accept),
        Some("hang") => Some(Answer::Hang),
        Some(status) => status
            .parse()
            .ok()
            .filter(|code| (201..600).contains(code))
            .map(Answer::Status),
        None => None,
    };
    if let Some(answer) = hold {
        shared.set_answer(answer);
    } else if path == "/__reset" {
        shared.ledger.reset();
        shared.turned_away.store(0, Ordering::Relaxed);
    } else if path != "/__stats" {
        return empty(StatusCode::NOT_FOUND);
    }
    let totals = shared.ledger.totals();
    let stats = serde_json::json!({
        "unique": totals.unique,
        "duplicated": totals.duplicated,
        "strangers": totals.strangers,
        "turnedAway": shared.turned_away.load(Ordering::Relaxed),
    });
    Response::new(Full::from(format!("{stats}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call;
    use crate::payload::Template;
    use crate::signing::Signer;
    use hyper::Method;

    async fn sink() -> (Sink, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), ledger.clone())
            .await
            .unwrap();
        (sink, ledger)
    }

    async fn deliver(sink: &Sink, path: &str, seq: u64) -> StatusCode {
        let body = Some((
            "application/json",
            Template::new(256).payload(seq, now_ns()).into(),
        ));
        call(sink.addr(), Method::POST, path, None, body).await.unwrap().0
    }

    #[tokio::test]
    async fn deliveries_are_counted_by_event_and_target() {
        let (sink, ledger) = sink().await;
        for (path, seq) in [("/t/0", 0), ("/t/1", 0), ("/t/1", 0), ("/elsewhere", 0)] {
            assert_eq!(deliver(&sink, path, seq).await, StatusCode::OK);
        }
        let totals = ledger.totals();
        assert_eq!((totals.unique, totals.duplicated, totals.strangers), (2, 1, 1));
    }

    #[tokio::test]
    async fn while_it_holds_nothing_counts_as_received() {
        let (sink, ledger) = sink().await;
        sink.answer(Answer::Status(503));
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((ledger.totals().unique, sink.turned_away()), (0, 1));
        sink.answer(Answer::Accept);
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::OK);
        assert_eq!(ledger.totals().unique, 1);
    }

    #[tokio::test]
    async fn a_slow_target_accepts_after_its_time() {
        let (sink, ledger) = sink().await;
        sink.answer_at(0, Answer::Slow(30));
        let began = std::time::Instant::now();
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::OK);
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!((ledger.totals().unique, sink.turned_away()), (1, 0));
    }

    #[tokio::test]
    async fn it_can_be_steered_by_requests() {
        let (sink, ledger) = sink().await;
        let get = |path: &'static str| call(sink.addr(), Method::GET, path, None, None);
        assert_eq!(get("/__hold/429").await.unwrap().0, StatusCode::OK);
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::TOO_MANY_REQUESTS);
        get("/__hold/accept").await.unwrap();
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::OK);
        let stats: serde_json::Value = serde_json::from_slice(&get("/__stats").await.unwrap().1).unwrap();
        assert_eq!(
            (stats["unique"].as_u64(), stats["turnedAway"].as_u64()),
            (Some(1), Some(1))
        );
        get("/__reset").await.unwrap();
        assert_eq!(ledger.totals().unique, 0);
        assert_eq!(get("/__hold/maybe").await.unwrap().0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_wrong_signature_is_noticed() {
        let (sink, _) = sink().await;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        sink.verify(0, secret).unwrap();
        // The first request is one of those that are checked.
        assert_eq!(deliver(&sink, "/t/0", 0).await, StatusCode::OK);
        assert_eq!(sink.signature_counts(), SignatureCounts { checked: 1, wrong: 1 });
        let signer = Signer::new(secret).unwrap();
        let mut sender = crate::http::connect(sink.addr()).await.unwrap();
        for seq in 1..=CHECK_EVERY {
            let body = Template::new(256).payload(seq, now_ns()).into();
            let request = signer.request(&sink.url(0), &sink.addr().to_string(), seq, body);
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            answer.into_body().collect().await.unwrap();
        }
        assert_eq!(sink.signature_counts(), SignatureCounts { checked: 2, wrong: 1 });
    }
}
