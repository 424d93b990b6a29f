//! Connections, each with an end: a client that sends slowly, sends nothing, or does not take its answer is cut off.
//!
//! A connection that has no request under way has so long to bring the next one, whether nothing comes or a byte
//! at a time: so one bound holds for silence, slow heads and keep-alive, in HTTP/1 and HTTP/2. A request's body has a
//! bound of its own (`body`), and so has an answer. How long a handler takes is the handler's.

use crate::slow_body::SlowBody;
use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

/// How slowly a body or an answer may go in the long run, in bytes a second: who is slower on purpose costs us a
/// connection, and who is slower for want of a line hardly publishes webhooks.
const LEAST_RATE: u64 = 16 * 1024;
/// How often it is told that all connections are in use.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How long clients may take, and how many they may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a connection's first request.
    pub head: Duration,
    /// For the head of the next one: also how long a connection stands idle.
    pub idle: Duration,
    /// For a body, and a second more for each 16 KiB of it.
    pub body: Duration,
    /// For an answer to be taken, and a second more for each 16 KiB of it.
    pub answer: Duration,
    /// At most so many connections at a time, at least 1; others wait to be accepted.
    pub connections: usize,
}

impl Default for Patience {
    /// `idle` is above the 60 s for which load balancers keep a connection that they may send into (AWS's do), so that
    /// they end it and not we: a request that meets our end is answered with 502. Each of the connections takes a
    /// file descriptor, and up to 400 KiB while its head comes.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            connections: 4096,
        }
    }
}

impl Patience {
    /// The shortest: no bound that begins now ends sooner.
    fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.answer)
    }
}

/// How long so many bytes may take beyond what all may.
pub fn time_of(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / LEAST_RATE)
}

/// Serves until `shutdown`, then finishes the requests that run.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    patience: Patience,
    shutdown: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(patience.connections));
    let connections = TaskTracker::new();
    let router = router.with_state(());
    let mut told = None;
    loop {
        let accepted = async {
            let permit = match free.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    tell(&mut told, patience.connections);
                    // Unwrap safety: nobody closes it.
                    free.clone().acquire_owned().await.expect("an open semaphore")
                }
            };
            (Listener::accept(&mut listener).await.0, permit)
        };
        let (stream, permit) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        connections.spawn(converse(
            stream,
            permit,
            router.clone(),
            patience,
            shutdown.clone(),
        ));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn tell(told: &mut Option<Instant>, connections: usize) {
    if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
        *told = Some(Instant::now());
        tracing::warn!(connections, "all connections of the api are in use: others wait");
    }
}

/// Serves one connection to its end.
async fn converse(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    patience: Patience,
    shutdown: CancellationToken,
) {
    // Answers are small: waiting to fill a packet would only add to their latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let watch = Arc::new(Watch::new(patience));
    let service = service_fn(|request: Request<Incoming>| answer(request, router.clone(), &watch));
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stops = false;
    loop {
        let wait = watch.left(Instant::now()).unwrap_or(patience.shortest());
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection of the api broke off");
                }
                break;
            }
            () = shutdown.cancelled(), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(wait.min(patience.shortest())) => {
                if watch.left(Instant::now()) == Some(Duration::ZERO) {
                    tracing::debug!("a connection of the api is cut off: its client is too slow");
                    break;
                }
            }
        }
    }
    drop(permit);
}

/// Has a request answered, and watches how its client takes that.
fn answer(
    request: Request<Incoming>,
    mut router: Router,
    watch: &Arc<Watch>,
) -> impl Future<Output = Result<Response<Taken>, Infallible>> + Send + use<> {
    let under_way = UnderWay::begin(watch);
    let body = watch.patience.body;
    let answered = router.call(request.map(|sent| Body::new(SlowBody::new(sent, body))));
    async move {
        let response = answered.await?;
        under_way.answered(response.body().size_hint().lower());
        Ok(response.map(|body| Taken {
            body,
            _under_way: under_way,
        }))
    }
}

/// What a connection does.
struct Watch {
    patience: Patience,
    state: Mutex<State>,
}

struct State {
    /// Requests whose answers were not taken whole.
    under_way: usize,
    /// Until when those that are ready must have been taken, by the number of the request.
    due: BTreeMap<u64, Instant>,
    /// Until when the next request must have come, while none is under way.
    next: Instant,
    /// Requests so far.
    requests: u64,
}

impl Watch {
    fn new(patience: Patience) -> Self {
        let state = State {
            under_way: 0,
            due: BTreeMap::new(),
            next: Instant::now() + patience.head,
            requests: 0,
        };
        Self {
            patience,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the client has left; `None` while it waits for us.
    fn left(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        let end = match state.under_way {
            0 => state.next,
            _ => *state.due.values().min()?,
        };
        Some(end.saturating_duration_since(now))
    }
}

/// A request, from its head until its answer was taken.
struct UnderWay {
    watch: Arc<Watch>,
    number: u64,
}

impl UnderWay {
    fn begin(watch: &Arc<Watch>) -> Self {
        let mut state = watch.state();
        state.under_way += 1;
        state.requests += 1;
        let number = state.requests;
        drop(state);
        let watch = watch.clone();
        Self { watch, number }
    }

    /// Its answer is ready, of so many bytes.
    fn answered(&self, bytes: u64) {
        let due = Instant::now() + self.watch.patience.answer + time_of(bytes);
        let mut state = self.watch.state();
        state.due.insert(self.number, due);
        // What HTTP/1 has taken off us may not be on its way yet.
        state.next = state.next.max(due);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.watch.state();
        state.due.remove(&self.number);
        state.under_way -= 1;
        state.next = state.next.max(Instant::now() + self.watch.patience.idle);
    }
}

/// An answer's body; when it is dropped, it was taken, or its client has gone.
struct Taken {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_has_so_long_for_each_thing_it_does() {
        let patience = Patience {
            head: 3 * SECOND,
            idle: 7 * SECOND,
            body: SECOND,
            answer: 5 * SECOND,
            connections: 1,
        };
        let watch = Arc::new(Watch::new(patience));
        let left = |seconds: u32| watch.left(Instant::now() + seconds * SECOND);
        let near = |left: Option<Duration>, seconds: u32| {
            let (left, wanted) = (left.expect("a bound"), seconds * SECOND);
            left <= wanted && left + SECOND / 2 > wanted
        };
        assert!(near(left(0), 3));
        assert_eq!(left(4), Some(Duration::ZERO));
        let first = UnderWay::begin(&watch);
        assert_eq!(left(100), None, "it waits for us");
        let second = UnderWay::begin(&watch);
        second.answered(0);
        assert!(near(left(0), 5));
        first.answered(16 * 1024 * 100);
        drop(second);
        assert!(near(left(0), 105), "large ones have longer");
        drop(first);
        assert!(near(left(0), 105), "it may not be on its way yet");
        let watch = Arc::new(Watch::new(patience));
        drop(UnderWay::begin(&watch));
        assert!(near(watch.left(Instant::now()), 7));
    }
}
