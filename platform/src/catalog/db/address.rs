//! Where a database is, and the options to open it.

use super::cannot_open;
use crate::catalog::CatalogError;
use sqlx::any::AnyConnectOptions;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The file of a SQLite, created where it is not there.
pub(super) async fn sqlite_file(path: &str) -> Result<PathBuf, CatalogError> {
    let named =
        |error: std::io::Error| CatalogError::Unavailable(format!("{path}: {}", crate::plain::io(&error)));
    let file = Path::new(path);
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    tokio::fs::create_dir_all(folder).await.map_err(named)?;
    let folder = tokio::fs::canonicalize(folder).await.map_err(named)?;
    let file = file
        .file_name()
        .ok_or_else(|| CatalogError::Unavailable(format!("{path}: not the path of a file")))?;
    let whole = folder.join(file);
    // It holds sealed secrets and hashed keys. Below `mode=rwc` SQLite would make it for all to read.
    crate::data_dir::create_file(&whole).map_err(named)?;
    Ok(whole)
}

/// How to open it.
pub(super) fn sqlite_options(path: &str, file: &Path) -> Result<AnyConnectOptions, CatalogError> {
    // The path goes through a URL, which would take `..` out and read `%`, `?` and `#` its own way.
    let escaped = file
        .to_str()
        .ok_or_else(|| CatalogError::Unavailable(format!("{path}: its folder's name is not UTF-8")))?
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23");
    AnyConnectOptions::from_str(&format!("sqlite:{escaped}?mode=rwc"))
        .map_err(|error| cannot_open(path, &error))
}

/// How to open a Postgres.
pub(super) fn postgres_options(url: &str) -> Result<AnyConnectOptions, CatalogError> {
    let options = AnyConnectOptions::from_str(url).ok();
    options
        .filter(|options| matches!(options.database_url.scheme(), "postgres" | "postgresql"))
        // Without the value: it may hold a password.
        .ok_or_else(|| {
            CatalogError::Unavailable(
                "not an address of a database; give sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE"
                    .to_owned(),
            )
        })
}

/// Whether [`super::Db::open`] knows what to do with this.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    match url.strip_prefix("sqlite:") {
        Some(path) if path.is_empty() || path.starts_with(':') => {
            Err("sqlite: needs the path of a file, such as sqlite:./hookwright.db".to_owned())
        }
        Some(_) => Ok(()),
        None => postgres_options(url).map(drop).map_err(|error| error.to_string()),
    }
}
