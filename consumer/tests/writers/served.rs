//! A registry of a test's own: real HTTP, with TLS where asked, that notes what it is asked.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use platform::config::SchemaRegistry;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// One answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status and body.
    Say(u16, String),
    /// The connection is closed without an answer.
    HangUp,
}

/// A schema as registries answer.
pub fn schema(json: &str) -> Answer {
    Answer::Say(200, serde_json::json!({ "schema": json }).to_string())
}

/// What is noted of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
}

/// The answers to come, the last of them for good.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
    /// One permit for each answer that may be given.
    gate: Semaphore,
}

/// A running registry. Dropping it ends it.
pub struct Served {
    script: Arc<Script>,
    address: String,
    task: JoinHandle<()>,
}

impl Served {
    /// Gives these answers in their order, then the last for good.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let served = Self::begin("http", answers, None).await;
        served.open();
        served
    }

    /// The same, giving none until [`open`](Self::open).
    pub async fn closed(answers: Vec<Answer>) -> Self {
        Self::begin("http", answers, None).await
    }

    /// The same over TLS.
    pub async fn tls(answers: Vec<Answer>, tls: TlsAcceptor) -> Self {
        let served = Self::begin("https", answers, Some(tls)).await;
        served.open();
        served
    }

    async fn begin(scheme: &str, answers: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let task = tokio::spawn(serve(listener, tls, script.clone()));
        Self {
            script,
            address,
            task,
        }
    }

    /// Lets answers go out.
    pub fn open(&self) {
        self.script.gate.add_permits(1_000_000);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap().clone()
    }

    /// Where it is.
    pub fn settings(&self) -> SchemaRegistry {
        SchemaRegistry {
            address: self.address.clone(),
            credentials: None,
            ca: None,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<Script>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let (tls, script) = (tls.clone(), script.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, script.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A caller that does not trust us, or one hung up on, ends its connection with an error.
                    match tls {
                        None => { let _ = http.serve_connection(TokioIo::new(stream), service).await; }
                        Some(tls) => if let Ok(stream) = tls.accept(stream).await {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("hung up")]
struct HungUp;

impl From<Infallible> for HungUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(request: Request<Incoming>, script: Arc<Script>) -> Result<Response<Full<Bytes>>, HungUp> {
    let authorization = request.headers().get("authorization");
    script.asked.lock().unwrap().push(Asked {
        path: request.uri().path().to_owned(),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
    });
    script.gate.acquire().await.unwrap().forget();
    let answer = {
        let mut answers = script.answers.lock().unwrap();
        match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        }
    };
    match answer {
        Answer::HangUp => Err(HungUp),
        Answer::Say(status, body) => Ok(Response::builder().status(status).body(body.into()).unwrap()),
    }
}
