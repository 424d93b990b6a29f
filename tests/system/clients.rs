//! The Python of `tests/clients`, which shares no code with hookwright.

use crate::eventually;
use crate::secs;
use crate::world::{World, python};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// Writes one v1 record to a topic, and returns when it is acknowledged.
pub async fn produce_v1(world: &World, topic: &str, event_type: &str, payload: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("payload");
    std::fs::write(&file, payload).expect("a file");
    let mut command = Command::new(python());
    command
        .arg(script("produce_v1.py"))
        .args([
            "--brokers",
            &world.brokers,
            "--topic",
            topic,
            "--type",
            event_type,
        ])
        .arg("--payload-file")
        .arg(&file)
        .kill_on_drop(true);
    let output = tokio::time::timeout(secs(60), command.output())
        .await
        .expect("within a minute");
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
}

/// A receiver that verifies what comes by the official library.
pub struct Verifier {
    port: String,
    lines: Arc<Mutex<Vec<Value>>>,
    reading: JoinHandle<()>,
    _child: Child,
}

impl Verifier {
    /// Starts one that knows these paths' secrets.
    pub async fn start(secrets: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python());
        command.arg(script("verify.py"));
        for (path, secret) in secrets {
            command.arg("--secret").arg(format!("{path}={secret}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = tokio::time::timeout(secs(30), output.next_line()).await;
        let first = first.expect("within 30 s").expect("text").expect("a line");
        let port = first.strip_prefix("listening ").expect("its port").to_owned();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = lines.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let line = serde_json::from_str(&line).expect("JSON");
                written.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self {
            port,
            lines,
            reading,
            _child: child,
        }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What has come to a path.
    pub fn at(&self, path: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter(|line| line["path"] == path)
            .cloned()
            .collect()
    }

    /// The first that comes to a path.
    pub async fn first(&self, path: &str) -> Value {
        let what = format!("something comes to {path}");
        eventually(secs(30), &what, async || self.at(path).into_iter().next()).await
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
