//! `hookwright dev`: the whole pipeline in one process, with nothing to configure.

use crate::cli::DevArgs;
use crate::demo;
use crate::failure::Failure;
use crate::roles::Process;
use crate::selection::Selection;
use crate::terminal::say;
use platform::catalog::{Catalog, CatalogError};
use platform::clock::Clock;
use platform::config::{Config, LogKind, QueueKind, default_tenant};
use platform::data_dir::{self, DataDirError};
use platform::plain;
use platform::secrets::{Sealer, new_api_key};
use platform::telemetry;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What `dev` presets; file and environment win over it.
const PRESETS: &str = r#"
log.level = "warn"
delivery.allow_http = true
delivery.allow_networks = ["127.0.0.0/8", "::1/128"]
"#;

/// Where the key lies that seals, in the data folder.
const SEAL_FILE: &str = "secrets-key";

/// Runs the pipeline until interrupted.
pub async fn run(args: DevArgs, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let mut flags = flags.to_owned();
    if let Some(data) = &args.data {
        // Debug of a path is a quoted string with escapes, as TOML has them.
        writeln!(flags, "data = {:?}", data.display().to_string()).map_err(|error| Failure::died(&error))?;
    }
    if let Some(listen) = &args.listen {
        writeln!(flags, "api.listen = \"{listen}\"").map_err(|error| Failure::died(&error))?;
    }
    // Read twice: the keys that `dev` makes lie in the data folder, which the configuration names.
    let data = Config::load(file, PRESETS, &flags)?.data;
    let keys = Keys::open(&data)?;
    let demo = if args.demo { demo::PRESETS } else { "" };
    let presets = format!(
        "{PRESETS}{demo}api.admin_key = \"{}\"\n{}",
        keys.admin,
        sealing(&keys.seal)
    );
    let config = Config::load(file, &presets, &flags)?;
    telemetry::start_logs(&config.log)?;
    let mut process = Process::open(config, Selection::ALL).await?;
    let api_key = api_key(&process.catalog, &data).await?;
    banner(&process, &api_key, &data);
    if args.demo {
        demo::add(&mut process).await?;
    }
    process.run().await?;
    say("stopped");
    Ok(())
}

/// What `dev` presets for a data folder that it has made its key in, for commands beside it; `None` of another.
///
/// # Errors
/// When the key is there and cannot be read.
pub fn presets_of(data: &Path) -> Result<Option<String>, Failure> {
    let seal = kept(&data.join(SEAL_FILE))?;
    Ok(seal.map(|seal| format!("{PRESETS}{}", sealing(&seal))))
}

fn sealing(key: &str) -> String {
    format!("secrets.key = \"{key}\"\n")
}

/// The keys that `dev` makes for itself.
struct Keys {
    admin: String,
    seal: String,
}

impl Keys {
    fn open(data: &Path) -> Result<Self, Failure> {
        data_dir::create(data)
            .map_err(|error| Failure::away("data", &DataDirError::explain(data, &error)))?;
        Ok(Self {
            admin: keep(&data.join("admin-key"), || {
                new_api_key().replace("hk_live_", "hk_admin_")
            })?,
            seal: keep(&data.join(SEAL_FILE), || Sealer::random().1)?,
        })
    }
}

/// The API key of tenant `default`: the one in the file if it still works, otherwise a new one.
async fn api_key(catalog: &Catalog, data: &Path) -> Result<String, Failure> {
    let failed = |error: CatalogError| Failure::away("store.url", &error);
    let tenant = default_tenant();
    match catalog.create_tenant(&tenant).await {
        Ok(_) | Err(CatalogError::Conflict(_)) => {}
        Err(error) => return Err(failed(error)),
    }
    let path = data.join("api-key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        let key = key.trim().to_owned();
        let known = catalog.authenticate(&key).await.map_err(failed)?;
        if known.is_some_and(|known| !known.has_expired(Clock::system().now())) {
            return Ok(key);
        }
    }
    let (_, key) = catalog.create_key(&tenant, "dev").await.map_err(failed)?;
    write_secret(&path, &key)?;
    Ok(key)
}

/// The text in a file, made if it is not there. Only its owner may read it.
fn keep(path: &Path, make: impl FnOnce() -> String) -> Result<String, Failure> {
    if let Some(text) = kept(path)? {
        return Ok(text);
    }
    let text = make();
    write_secret(path, &text)?;
    Ok(text)
}

/// The text in a file; `None` of one that is not there, or is empty.
fn kept(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::away(
            "data",
            &format!("cannot read {}: {}", path.display(), plain::io(&error)),
        )),
    }
}

fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            writeln!(file, "{text}")?;
            file.sync_all()
        });
    written.map_err(|error| {
        Failure::away(
            "data",
            &format!("cannot write {}: {}", path.display(), plain::io(&error)),
        )
    })
}

fn banner(process: &Process, api_key: &str, data: &Path) {
    let config = process.config();
    let kind = match (config.events.log, config.queue.kind) {
        (LogKind::Embedded, QueueKind::Embedded) => "embedded",
        (LogKind::Kafka, QueueKind::Sqs) => "kafka and sqs",
        (LogKind::Kafka, QueueKind::Embedded) => "kafka, embedded queue",
        (LogKind::Embedded, QueueKind::Sqs) => "embedded log, sqs",
    };
    let api = process
        .api_address()
        .map_or_else(|| config.api.listen.to_string(), |address| address.to_string());
    let base = &config.api.base_path;
    let key_file: PathBuf = data.join("api-key");
    say(&format!(
        "hookwright {} · {kind} · data in {}",
        env!("CARGO_PKG_VERSION"),
        data.display()
    ));
    say("");
    say(&format!("  api       http://{api}{base}"));
    say(&format!("  docs      http://{api}{base}/docs"));
    say(&format!("  metrics   http://{}/metrics", process.ops_address()));
    say(&format!(
        "  api key   {api_key}  (also in {})",
        key_file.display()
    ));
    say("");
    say(&format!(
        "try it:  curl -H \"authorization: Bearer $(cat {})\" http://{api}{base}/webhooks/deliveries",
        key_file.display()
    ));
    say("");
}
