//! A Kafka broker of a test's own, which can be killed and started again without harm to others.

use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// A running broker. Its data outlive its process, and go with it.
pub struct Broker {
    folder: TempDir,
    address: String,
}

/// A script of `localstack/`, on this world.
fn script(name: &str, world: &Path) -> std::process::Command {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "localstack", name].iter().collect();
    let mut command = std::process::Command::new(path);
    command.env("WORLD_DIR", world);
    command
}

async fn run(command: std::process::Command) {
    let output = Command::from(command).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

impl Broker {
    /// A new one. What `localstack/up` has fetched already serves it too.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let world = folder.path().join("world");
        std::fs::create_dir(&world).expect("a folder");
        // Says that the folder may be deleted (see localstack/lib.sh).
        std::fs::write(world.join(".world"), "").expect("a file");
        let fetched = crate::world::fetched();
        std::os::unix::fs::symlink(fetched, world.join("cache")).expect("a link");
        let mut broker = Self {
            folder,
            address: String::new(),
        };
        broker.up().await;
        let env = std::fs::read_to_string(broker.world().join("env")).expect("what it writes");
        let mut lines = env.lines();
        let address = lines.find_map(|line| line.strip_prefix("export WORLD_KAFKA_BROKERS="));
        broker.address = address.expect("where it is").to_owned();
        broker
    }

    /// Host and port, the same after each start.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn world(&self) -> PathBuf {
        self.folder.path().join("world")
    }

    async fn up(&self) {
        let mut command = script("up", &self.world());
        command.args(["--only", "kafka"]);
        run(command).await;
    }

    /// Kills it and starts it again: it is away for some seconds.
    pub async fn restart(&self) {
        let pid = std::fs::read_to_string(self.world().join("run/kafka.pid")).expect("its pid");
        let pid = pid.split_whitespace().next().expect("a number");
        let mut kill = std::process::Command::new("kill");
        kill.args(["-KILL", pid]);
        run(kill).await;
        self.up().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let down = script("down", &self.world()).output();
        let well = down.is_ok_and(|output| output.status.success());
        if !well && !std::thread::panicking() {
            panic!("the broker in {} was not stopped", self.folder.path().display());
        }
    }
}
