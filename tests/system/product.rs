//! The product as a process: started, asked, stopped, killed.

use crate::answer::{Answer, Ended};
use crate::eventually;
use crate::secs;
use crate::sink::Sink;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// How long a start may take on a busy machine before it counts as stuck.
const START_LIMIT: Duration = secs(60);
/// How long a drain may take: a little over the default `shutdown.grace`.
const STOP_LIMIT: Duration = secs(30);

/// Where and how the product is started: a folder and an environment of its own.
pub struct Setup {
    folder: TempDir,
    env: Vec<(String, String)>,
    starts: Cell<u32>,
    /// What a shell does before it becomes the product.
    shell: Option<&'static str>,
}

impl Setup {
    /// A fresh folder, and free ports.
    pub fn new() -> Self {
        let setup = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            env: Vec::new(),
            starts: Cell::new(0),
            shell: None,
        };
        setup
            .set("ops.listen", "127.0.0.1:0")
            .set("api.listen", "127.0.0.1:0")
    }

    /// Sets a configuration key, such as `delivery.timeout`, by its environment variable.
    pub fn set(self, key: &str, value: &str) -> Self {
        let name = format!("HOOKWRIGHT_{}", key.replace('.', "__").to_uppercase());
        self.env(&name, value)
    }

    /// Lets no breaker open: for tests in which many deliveries fail and are awaited all the same.
    pub fn without_breakers(self) -> Self {
        self.set("breaker.min_attempts", "1000000")
    }

    /// Takes a key's environment variable away again.
    pub fn unset(mut self, key: &str) -> Self {
        let name = format!("HOOKWRIGHT_{}", key.replace('.', "__").to_uppercase());
        self.env.retain(|(set, _)| *set != name);
        self
    }

    /// Starts it by a shell that does this first.
    pub fn through_shell(self, shell: &'static str) -> Self {
        Self {
            shell: Some(shell),
            ..self
        }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder of `dev`, and of the embedded adapters.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Starts `hookwright dev` on the data folder and waits until it is ready.
    pub async fn dev(&self) -> Product {
        self.dev_with(&[]).await
    }

    /// Starts `hookwright dev` with more arguments.
    pub async fn dev_with(&self, more: &[&str]) -> Product {
        let data = self.data();
        let data = data.to_str().expect("UTF-8");
        let arguments = [&["dev", "--data", data, "--listen", "127.0.0.1:0"], more].concat();
        self.start(&arguments).await
    }

    /// Starts the product and waits until it is ready.
    pub async fn start(&self, arguments: &[&str]) -> Product {
        let mut product = self.spawn(arguments);
        product.wait_ready().await;
        product
    }

    /// Starts the product.
    pub fn spawn(&self, arguments: &[&str]) -> Product {
        let number = self.starts.get() + 1;
        self.starts.set(number);
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|name| self.folder().join(format!("{name}-{number}")));
        let create = |path: &Path| std::fs::File::create(path).expect("a file in the temporary folder");
        let started = Instant::now();
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .expect("the product starts");
        Product {
            command: arguments.join(" "),
            child,
            started,
            ready_after: Duration::ZERO,
            stdout,
            stderr,
            api: None,
            ops: None,
            key: String::new(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Runs the product to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    /// Runs the product to its end with this on its standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the product starts");
        let mut stdin = child.stdin.take().expect("piped");
        // One that ends without reading breaks the pipe, which is its affair.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(START_LIMIT, child.wait_with_output())
            .await
            .unwrap_or_else(|_| {
                panic!(
                    "hookwright {}: no end within {START_LIMIT:?}",
                    arguments.join(" ")
                )
            })
            .expect("its output");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_hookwright");
        let mut command = match self.shell {
            None => Command::new(program),
            Some(first) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        command
            .args(arguments)
            .current_dir(self.folder())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKWRIGHT_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running product. Dropping it kills it; in a failing test it then shows what it said.
pub struct Product {
    child: Child,
    command: String,
    started: Instant,
    /// From its start to the first 200 of `/readyz`.
    pub ready_after: Duration,
    stdout: PathBuf,
    stderr: PathBuf,
    api: Option<SocketAddr>,
    ops: Option<SocketAddr>,
    /// The API key of its requests; `dev` sets it.
    pub key: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Product {
    /// What it has written to stdout.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Where its API is, such as `http://127.0.0.1:4321`.
    pub fn root(&self) -> String {
        format!("http://{}", self.api.expect("it has an API"))
    }

    async fn wait_ready(&mut self) {
        while self.started.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait().expect("its status") {
                panic!("hookwright {} ended before it was ready: {status}", self.command);
            }
            self.find_addresses();
            if let Some(ops) = self.ops
                && let Ok(answer) = self
                    .fetch(Method::GET, &format!("http://{ops}/readyz"), None, Bytes::new())
                    .await
                && answer.status == 200
            {
                self.ready_after = self.started.elapsed();
                return;
            }
            // Readiness of another process can only be asked for.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("hookwright {} is not ready within {START_LIMIT:?}", self.command);
    }

    /// Reads where it listens: in the banner of `dev`, in the log of everything else.
    fn find_addresses(&mut self) {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let banner = |name: &str| {
            let line = stdout
                .lines()
                .find_map(|line| line.trim_start().strip_prefix(name))?;
            line.split_whitespace().next()
        };
        let started = stderr
            .lines()
            .find(|line| line.contains(" started "))
            .unwrap_or_default();
        let field = |name: &str| {
            let rest = started.split_once(&format!(" {name}="))?.1;
            rest.split_whitespace().next()
        };
        let host = |url: &str| url.strip_prefix("http://")?.split('/').next()?.parse().ok();
        self.api = banner("api  ").and_then(host).or_else(|| {
            field("api")?
                .strip_prefix("Some(")?
                .strip_suffix(')')?
                .parse()
                .ok()
        });
        self.ops = banner("metrics  ")
            .and_then(host)
            .or_else(|| field("ops")?.parse().ok());
        if let Some(key) = banner("api key  ") {
            self.key = key.to_owned();
        }
    }

    /// One request; an error when the product broke off.
    pub async fn fetch(
        &self,
        method: Method,
        url: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let mut request = Request::builder().method(method).uri(url);
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        self.send(request.body(Full::new(body.into())).expect("a request"))
            .await
    }

    /// Sends a request exactly so.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let (head, body) = self.client.request(request).await?.into_parts();
        // A body that breaks off is one that ended early.
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// A request below `/v1`, as JSON.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let url = format!("{}/v1{path}", self.root());
        let answer = self.fetch(method, &url, Some("application/json"), body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }

    /// `/metrics` as text.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.ops.expect("it has ops"));
        let answer = self.fetch(Method::GET, &url, None, "").await;
        answer.unwrap_or_else(|error| panic!("/metrics: {error}")).text()
    }

    /// Makes an endpoint at `path` of the sink, which from then on verifies what comes there; its id.
    pub async fn endpoint(&self, sink: &Sink, path: &str, events: &[&str]) -> i64 {
        let body = json!({"url": sink.url(path), "events": events});
        let made = self.post("/webhooks/endpoints", body).await.expect(201);
        sink.verify(path, made["secret"].as_str().expect("a secret"));
        made["id"].as_i64().expect("an id")
    }

    /// Lets a target be tried again at once, so that a test need not wait.
    pub async fn retry_soon(&self, target: i64) {
        let policy = json!({"retryPolicy": {"first": "200ms", "factor": 1.0, "jitter": 0.0}});
        self.patch(&format!("/webhooks/targets/{target}"), policy)
            .await
            .expect(200);
    }

    /// Publishes an event; its id.
    pub async fn publish(&self, event_type: &str, payload: Value) -> String {
        let body = json!({"type": event_type, "payload": payload});
        let answer = self.post("/webhooks/events", body).await.expect(202);
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// The history of a delivery, once it has this status.
    pub async fn delivery_with(&self, id: &str, status: &str) -> Value {
        let what = format!("delivery {id} is {status} in history");
        eventually(secs(20), &what, async || {
            let answer = self.get(&format!("/webhooks/deliveries/{id}")).await;
            let story = (answer.status == 200).then(|| answer.expect(200))?;
            (story["status"] == status).then_some(story)
        })
        .await
    }

    /// SIGTERM, without waiting for the end.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGKILL, without waiting for the end.
    pub fn kill_now(&self) {
        self.signal("-KILL");
    }

    /// SIGSTOP: it stands still.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Its process.
    pub fn pid(&self) -> String {
        self.child.id().expect("it runs").to_string()
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {pid}");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(STOP_LIMIT, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("hookwright {} did not end within {STOP_LIMIT:?}", self.command))
            .expect("its status")
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(mut self) {
        self.terminate();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "hookwright {} ended badly", self.command);
    }

    /// SIGKILL, and its end.
    pub async fn kill(&mut self) {
        self.kill_now();
        self.ended().await;
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- hookwright {}, stdout:\n{}", self.command, self.stdout());
            eprintln!("--- hookwright {}, stderr:\n{}", self.command, self.stderr());
        }
    }
}
