//! A service of a test's own, which can be killed and started again without harm to others.

use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// Kafka or Postgres, alone in a world of its own. Its data outlive its process, and go with this.
pub struct Own {
    service: &'static str,
    folder: TempDir,
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
    let [answer, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{answer}{said}");
}

impl Own {
    /// A new one, `kafka` or `postgres`. What `localstack/up` has fetched already serves it too.
    pub async fn start(service: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let world = folder.path().join("world");
        std::fs::create_dir(&world).expect("a folder");
        // Says that the folder may be deleted (see localstack/lib.sh).
        std::fs::write(world.join(".world"), "").expect("a file");
        let fetched = crate::world::fetched();
        std::os::unix::fs::symlink(fetched, world.join("cache")).expect("a link");
        let own = Self { service, folder };
        own.up().await;
        own
    }

    /// What `localstack/up` says of it, such as `WORLD_KAFKA_BROKERS`: the same after each start.
    pub fn variable(&self, name: &str) -> String {
        let env = std::fs::read_to_string(self.world().join("env")).expect("what it writes");
        let begin = format!("export {name}=");
        let value = env.lines().find_map(|line| line.strip_prefix(&begin));
        value.expect("where it is").to_owned()
    }

    fn world(&self) -> PathBuf {
        self.folder.path().join("world")
    }

    /// Starts it, unless it runs.
    pub async fn up(&self) {
        let mut command = script("up", &self.world());
        command.args(["--only", self.service]);
        run(command).await;
    }

    /// Kills it, by SIGKILL.
    pub async fn kill(&self) {
        let file = self.world().join(format!("run/{}.pid", self.service));
        let pid = std::fs::read_to_string(file).expect("its pid");
        let pid = pid.split_whitespace().next().expect("a number");
        let mut kill = std::process::Command::new("kill");
        kill.args(["-KILL", pid]);
        run(kill).await;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let down = script("down", &self.world()).output();
        let well = down.is_ok_and(|output| output.status.success());
        if !well && !std::thread::panicking() {
            panic!("the service in {} was not stopped", self.folder.path().display());
        }
    }
}
