//! SQS and S3 that keep nothing: every send is acknowledged, every put is taken, after a while if one is
//! set. For what the product takes and needs, where neither the services' speed nor their memory is to
//! be in the way.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running pair of services; it ends when dropped.
pub struct NullAws {
    addr: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// How long each put takes, in ms.
    put_ms: AtomicU64,
    puts: AtomicU64,
    messages: AtomicU64,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Entries")]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Id")]
    id: String,
}

impl NullAws {
    /// Starts it on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self {
            addr,
            shared,
            serving,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on each put takes so long.
    pub fn slow_puts(&self, by: Duration) {
        self.shared.put_ms.store(
            u64::try_from(by.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// Objects put and messages sent.
    pub fn taken(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.puts), count(&self.shared.messages))
    }
}

impl Drop for NullAws {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, shared.clone()));
            // Whoever leaves in the middle is gone.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.headers().get("x-amz-target");
    let call = target.and_then(|target| target.to_str().ok()?.split_once('.'));
    let call = call.map(|(_, call)| call.to_owned());
    let method = request.method().clone();
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let url = format!("http://{}/000000000000/null", host.unwrap_or_default());
    let Some(call) = call else {
        // An object has a key behind its bucket.
        let of_object = request.uri().path().trim_matches('/').contains('/');
        let put = method == Method::PUT && of_object;
        return Ok(store(put, method, request.into_body(), &shared).await);
    };
    // Whoever breaks off gets an answer to nothing.
    let body = request
        .into_body()
        .collect()
        .await
        .map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    let answer = match call.as_str() {
        "SendMessageBatch" => sent(&body, &shared),
        "GetQueueUrl" | "CreateQueue" => json!({ "QueueUrl": url }),
        "GetQueueAttributes" => {
            json!({ "Attributes": { "QueueArn": "arn:aws:sqs:us-east-1:000000000000:null" } })
        }
        _ => json!({}),
    };
    Ok(Response::new(Full::new(answer.to_string().into())))
}

fn sent(body: &[u8], shared: &Shared) -> Value {
    let batch: Batch = serde_json::from_slice(body).unwrap_or(Batch { entries: Vec::new() });
    shared
        .messages
        .fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
    let taken = batch
        .entries
        .iter()
        .map(|entry| json!({ "Id": entry.id, "MessageId": "m", "MD5OfMessageBody": "d" }));
    json!({ "Successful": taken.collect::<Vec<_>>(), "Failed": [] })
}

/// Takes an object, of which nothing is kept.
async fn store(put: bool, method: Method, mut body: Incoming, shared: &Shared) -> Response<Full<Bytes>> {
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::default());
    if put {
        let wait = shared.put_ms.load(Ordering::Relaxed);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        shared.puts.fetch_add(1, Ordering::Relaxed);
    } else if method == Method::GET {
        // Nothing is there; of a bucket only its lifecycle is asked for.
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::new(Bytes::from_static(
            b"<Error><Code>NoSuchLifecycleConfiguration</Code><Message>none</Message></Error>",
        ));
    }
    response
}
