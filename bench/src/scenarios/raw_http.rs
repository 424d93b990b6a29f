//! The limit over HTTP: a bare client that signs and posts to the same sink, and stores nothing.

use super::{Context, check_signatures};
use crate::http::connect;
use crate::ledger::{Ledger, now_ns};
use crate::payload::Template;
use crate::proc::Proc;
use crate::report::Row;
use crate::signing::Signer;
use crate::sink::{Sink, path};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

/// A secret for this loop alone.
const SECRET: &str = "whsec_YSBzZWNyZXQgZm9yIHRoZSBiYXJlIGxvb3Agb2YgdGhlIGJlbmNo";

/// What a task of the loop shares with the others.
struct Shared {
    ledger: Arc<Ledger>,
    template: Template,
    signer: Signer,
    next: AtomicU64,
    requests: u64,
    host: String,
}

/// One task's way to the sink.
enum Way {
    /// hyper-util's client, which keeps connections for all tasks.
    Pooled(Box<Client<HttpConnector, Full<Bytes>>>),
    /// A connection of one's own.
    Own(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
}

/// `requests` by `tasks` tasks; once with hyper-util's pooled client, once with a connection per task.
pub async fn run(context: &Context, requests: u64, tasks: usize) -> Result<Vec<Row>> {
    Ok(vec![
        one(context, requests, tasks, true).await?,
        one(context, requests, tasks, false).await?,
    ])
}

async fn one(context: &Context, requests: u64, tasks: usize, pooled: bool) -> Result<Row> {
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    sink.verify(0, SECRET)?;
    let client = {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Client::builder(TokioExecutor::new()).build(connector)
    };
    let shared = Arc::new(Shared {
        ledger: ledger.clone(),
        template: Template::new(context.payload),
        signer: Signer::new(SECRET)?,
        next: AtomicU64::new(0),
        requests,
        host: sink.addr().to_string(),
    });
    let uri = if pooled { sink.url(0) } else { path(0) };

    let thread = Proc::this_thread()?;
    let (cpu, sink_cpu, started) = (thread.cpu_seconds()?, sink.cpu_seconds()?, Instant::now());
    let mut workers = JoinSet::new();
    for _ in 0..tasks {
        let way = if pooled {
            Way::Pooled(Box::new(client.clone()))
        } else {
            Way::Own(connect(sink.addr()).await?)
        };
        workers.spawn(work(shared.clone(), way, uri.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, sink_cpu) = (thread.cpu_seconds()? - cpu, sink.cpu_seconds()? - sink_cpu);

    let kind = if pooled {
        "hyper-util client"
    } else {
        "a connection per task"
    };
    let mut row = Row::new(format!("limit: {kind}"));
    row.per_second = Some(requests as f64 / seconds);
    // All it does is the client's part; there is no product in it.
    row.cpu_per_1000 = Some(cpu * 1000.0 / requests as f64);
    row.bench_cpu_per_1000 = Some(sink_cpu * 1000.0 / requests as f64);
    row.lost = Some(ledger.missing(0..requests, 1));
    row.duplicated = Some(ledger.totals().duplicated);
    row.note(format!(
        "{tasks} tasks on one thread, the sink on another; CPU-s/1k is the client's, bench the sink's"
    ));
    check_signatures(&mut row, &sink)?;
    Ok(row)
}

async fn work(shared: Arc<Shared>, mut way: Way, uri: String) -> Result<()> {
    loop {
        let seq = shared.next.fetch_add(1, Ordering::Relaxed);
        if seq >= shared.requests {
            return Ok(());
        }
        let payload = Bytes::from(shared.template.payload(seq, now_ns()));
        let request = shared.signer.request(&uri, &shared.host, seq, payload)?;
        let answer = way.send(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        if !status.is_success() {
            bail!("the sink answered {status}");
        }
        shared.ledger.accepted(seq, now_ns());
    }
}

impl Way {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        match self {
            Self::Pooled(client) => client.request(request).await.context("the bare client"),
            Self::Own(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}
