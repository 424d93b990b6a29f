//! `hookwright export` and `import`: what a tenant has, as one document.

use crate::admin::{self, failed_for};
use crate::cli::{ExportArgs, ImportArgs};
use crate::failure::Failure;
use crate::settings;
use crate::terminal::say;
use api::transfer::{self, TransferError};
use platform::catalog::{Imported, Settled};
use platform::plain;
use schemas::ids::Tenant;
use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A larger document is refused, in bytes.
const MAX_DOCUMENT: u64 = 256 << 20;

/// How many entries that are not right are told.
const MAX_TOLD: usize = 50;

fn tenant(name: &str) -> Result<Tenant, Failure> {
    Tenant::new(name).map_err(|error| Failure::usage(format!("--tenant: {error}")))
}

fn unusable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {}", file.display(), plain::io(error)))
}

/// Writes what a tenant has.
pub async fn export(args: ExportArgs, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let tenant = tenant(&args.tenant)?;
    let catalog = admin::open(file, flags).await?;
    let document = transfer::export(&catalog, &tenant).await;
    let document = document.map_err(|error| failed_for(&tenant, &error))?;
    let text = format!("{document:#}\n");
    if args.file == Path::new("-") {
        let written = std::io::stdout().lock().write_all(text.as_bytes());
        return written.map_err(|error| unusable(&args.file, &error));
    }
    // Headers of targets often hold credentials.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&args.file)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| unusable(&args.file, &error))
}

/// Brings a document in.
pub async fn import(args: ImportArgs, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let tenant = tenant(&args.tenant)?;
    let document = read(&args.file)?;
    let config = admin::config(file, flags)?;
    let catalog = admin::open_with(&config).await?;
    // Which topic the API publishes to has no part in it.
    let settings = settings::api(&config, &config.events.topics[0]);
    let imported = transfer::import(&catalog, &settings, &tenant, &document, args.dry_run).await;
    let imported = imported.map_err(|error| match error {
        TransferError::Catalog(error) => failed_for(&tenant, &error),
        TransferError::Document(errors) => {
            let lines = errors.iter().take(MAX_TOLD);
            let mut lines: Vec<String> = lines.map(|e| format!("  {}: {}", e.field, e.message)).collect();
            if errors.len() > MAX_TOLD {
                lines.push(format!("  and {} more", errors.len() - MAX_TOLD));
            }
            let lines = lines.join("\n");
            Failure::usage(format!("{}: nothing was imported\n{lines}", args.file.display()))
        }
    })?;
    report(&imported, args.dry_run);
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if file == Path::new("-") {
            std::io::stdin()
                .lock()
                .take(MAX_DOCUMENT + 1)
                .read_to_end(&mut bytes)?;
        } else {
            let file = std::fs::File::open(file)?;
            file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    let bytes = open().map_err(|error| unusable(file, &error))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        let most = MAX_DOCUMENT >> 20;
        return Err(Failure::usage(format!(
            "{}: is larger than {most} MiB",
            file.display()
        )));
    }
    Ok(bytes)
}

/// Tells what became of the entries: a line for each that was made or changed, and one for each kind.
fn report(imported: &Imported, dry_run: bool) {
    tell("targets", &imported.targets, dry_run);
    tell("filters", &imported.filters, dry_run);
    tell("subscriptions", &imported.subscriptions, dry_run);
}

fn tell<T: Display>(kind: &str, entries: &[(T, Settled)], dry_run: bool) {
    let count = |like: Settled| entries.iter().filter(|(_, settled)| *settled == like).count();
    for (n, (id, settled)) in entries.iter().enumerate() {
        let word = match settled {
            Settled::Made => "made",
            Settled::Changed => "changed",
            Settled::Same => continue,
        };
        say(&format!("{kind}[{n}]  {id}  {word}"));
    }
    let would = if dry_run { " (dry run)" } else { "" };
    say(&format!(
        "{kind}: {} made, {} changed, {} as they were{would}",
        count(Settled::Made),
        count(Settled::Changed),
        count(Settled::Same)
    ));
}
