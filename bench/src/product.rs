//! The product as a process: started, waited for, measured, stopped and killed from outside.

use crate::http::{call, get_text};
use crate::proc::Proc;
use anyhow::{Context as _, Result, bail};
use hyper::{Method, StatusCode};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// How long a role may take until it says it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a role may take to drain and end: a little over its own grace.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// How often to ask whether it is ready: fine enough to measure a start by.
const READY_POLL: Duration = Duration::from_millis(5);

/// How to start the product.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// Where it runs and leaves its log; no configuration lies there unless it was put there.
    pub folder: PathBuf,
    /// Environment: only what is set here of `HOOKWRIGHT_…` reaches the product.
    pub env: Vec<(String, String)>,
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where `/readyz` and `/metrics` are.
    pub ops: SocketAddr,
}

impl Launch {
    /// The product at `binary`, in `folder`, on free ports, with `settings` (`delivery.timeout=5s`).
    pub fn new(binary: &Path, folder: &Path, settings: &[String]) -> Result<Self> {
        // Held together, so that they differ.
        let ports = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let [api, ops] = [ports[0].local_addr()?, ports[1].local_addr()?];
        let mut launch = Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            env: Vec::new(),
            api,
            ops,
        };
        launch.set("ops.listen", &ops.to_string());
        launch.set("api.listen", &api.to_string());
        for setting in settings {
            let (key, value) = setting
                .split_once('=')
                .with_context(|| format!("--set {setting}: expected key=value"))?;
            launch.set(key, value);
        }
        Ok(launch)
    }

    /// Sets a configuration key, such as `ops.listen`.
    pub fn set(&mut self, key: &str, value: &str) {
        let name = format!("HOOKWRIGHT_{}", key.replace('.', "__").to_uppercase());
        self.env.push((name, value.to_owned()));
    }

    /// The embedded data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts `hookwright dev` on [`Launch::data`] and waits until it is ready.
    pub async fn dev(&self) -> Result<Product> {
        let (data, listen) = (self.data(), self.api.to_string());
        let data = data
            .to_str()
            .context("the data folder's name is not UTF-8")?
            .to_owned();
        self.start(&["dev", "--data", &data, "--listen", &listen]).await
    }

    /// The API key `dev` wrote.
    pub fn dev_key(&self) -> Result<String> {
        let path = self.data().join("api-key");
        let key = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(key.trim().to_owned())
    }

    /// Starts the product with these arguments and waits until it is ready.
    pub async fn start(&self, arguments: &[&str]) -> Result<Product> {
        let (log, command) = self.command(arguments)?;
        let mut command = command;
        let started = Instant::now();
        let child = command.spawn().with_context(|| {
            format!(
                "start {}: build it first, or give --product",
                self.binary.display()
            )
        })?;
        let pid = child.id().context("the product ended at once")?;
        let mut product = Product {
            child,
            proc: Proc::process(pid),
            role: arguments.first().copied().unwrap_or_default().to_owned(),
            log,
            ops: self.ops,
            ready_after: Duration::ZERO,
        };
        product.wait_ready(started).await?;
        Ok(product)
    }

    /// Runs the product with these arguments to its end; what it printed.
    ///
    /// # Errors
    /// When it does not end well: the end of its log.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let (log, mut command) = self.command(arguments)?;
        let output = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| self.how_to_build())?
            .wait_with_output()
            .await?;
        if !output.status.success() {
            bail!(
                "hookwright {}: {}\n{}",
                arguments.join(" "),
                output.status,
                tail(&log)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn how_to_build(&self) -> String {
        format!(
            "{}: build it first (cargo build --release -p hookwright), or give --product",
            self.binary.display()
        )
    }

    fn command(&self, arguments: &[&str]) -> Result<(PathBuf, Command)> {
        std::fs::create_dir_all(&self.folder)?;
        let log = self.folder.join("product.log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            // What `dev` prints holds a key.
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKWRIGHT_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok((log, command))
    }
}

/// A running product. Dropping it kills it.
pub struct Product {
    child: Child,
    proc: Proc,
    role: String,
    log: PathBuf,
    ops: SocketAddr,
    /// From the start of the process to its first 200 on `/readyz`.
    pub ready_after: Duration,
}

impl Product {
    /// Processor and memory of the process.
    pub fn proc(&self) -> &Proc {
        &self.proc
    }

    /// The sum of the metric `name` over all its labels; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        Ok(sum_of(&get_text(self.ops, "/metrics").await?, name))
    }

    /// SIGTERM, then its end.
    ///
    /// # Errors
    /// When it ends badly or not in time.
    pub async fn stop(mut self) -> Result<()> {
        let Some(pid) = self.child.id() else {
            bail!(
                "hookwright {} has ended by itself\n{}",
                self.role,
                tail(&self.log)
            );
        };
        let sent = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .await?;
        if !sent.success() {
            bail!("cannot signal hookwright {}", self.role);
        }
        match tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => self.judge(status?),
            Err(_) => bail!(
                "hookwright {} did not end within {} s of SIGTERM\n{}",
                self.role,
                STOP_LIMIT.as_secs(),
                tail(&self.log)
            ),
        }
    }

    /// SIGKILL, and its end.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        bail!(
            "hookwright {} ended with {status}\n{}",
            self.role,
            tail(&self.log)
        )
    }

    async fn wait_ready(&mut self, started: Instant) -> Result<()> {
        loop {
            let answer = call(self.ops, Method::GET, "/readyz", None, None).await;
            if matches!(answer, Ok((StatusCode::OK, _))) {
                self.ready_after = started.elapsed();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                self.judge(status)?;
                bail!("hookwright {} ended before it was ready", self.role);
            }
            if started.elapsed() > START_LIMIT {
                let last = answer.map_or_else(|error| format!("{error:#}"), |(status, _)| status.to_string());
                bail!(
                    "hookwright {} is not ready after {} s (last answer: {last})\n{}",
                    self.role,
                    START_LIMIT.as_secs(),
                    tail(&self.log)
                );
            }
            // Readiness of another process can only be asked for.
            tokio::time::sleep(READY_POLL).await;
        }
    }
}

/// Adds up the samples of one metric in Prometheus' text form.
fn sum_of(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// The end of the product's log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_nothing_else() {
        let text = "# TYPE a_total counter\na_total{queue=\"x y\",call=\"send\"} 3\na_total{queue=\"z\"} 4\na_total_more 9\na 5\n";
        assert_eq!(sum_of(text, "a_total"), 7.0);
        assert_eq!(sum_of(text, "a"), 5.0);
        assert_eq!(sum_of(text, "b"), 0.0);
    }

    #[test]
    fn settings_become_environment() {
        let launch = Launch::new(
            Path::new("hookwright"),
            Path::new("."),
            &["delivery.per_target=64".into()],
        );
        let env = launch.unwrap().env;
        assert!(env.contains(&("HOOKWRIGHT_DELIVERY__PER_TARGET".into(), "64".into())));
        assert!(Launch::new(Path::new("h"), Path::new("."), &["delivery".into()]).is_err());
    }

    #[tokio::test]
    async fn a_product_that_ends_at_once_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new(Path::new("/bin/sh"), folder.path(), &[]).unwrap();
        let error = launch
            .start(&["-c", "echo api.listen is taken >&2; exit 64"])
            .await
            .err()
            .unwrap();
        assert!(format!("{error:#}").contains("api.listen is taken"), "{error:#}");
    }
}
