//! Master keys that a key service made: in `settings`, encrypted, one for each of its keys.

use super::CatalogError;
use super::db::{Db, PostgresOptions};
use super::migrate::migrate_tables;
use crate::clock::Clock;
use crate::secrets::MasterKey;
use crate::secrets::kms::KeyService;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemas::ids::sha256_hex;
use serde::{Deserialize, Serialize};
use sqlx::Row;

/// What their names in `settings` begin with.
const PREFIX: &str = "data_key ";

/// A data key as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The service's key that it is encrypted under, as it was configured.
    key: String,
    /// The data key, encrypted by the service, in base64.
    encrypted: String,
}

/// Why there are no data keys to seal with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataKeyError {
    /// The database is away, or what it holds is of another version.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The key service is away, or refuses.
    #[error("{0}")]
    Service(String),
    /// There is none for this key yet, and making one is not this process's affair.
    #[error("there is no data key under this key yet: run `hookwright provision` with it")]
    None,
}

impl From<sqlx::Error> for DataKeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

/// The data keys of a database.
#[derive(Debug)]
pub struct DataKeys {
    /// The one under the configured key.
    pub current: MasterKey,
    /// Those under other keys of the service.
    pub others: Vec<MasterKey>,
}

impl DataKeys {
    /// Reads and decrypts them. With `make`, tables are migrated first and a missing one is made: of several that
    /// do so at once, one wins, and all use its.
    ///
    /// # Errors
    /// [`DataKeyError`].
    pub async fn open(
        url: &str,
        postgres: PostgresOptions,
        clock: &Clock,
        (service, key): (&dyn KeyService, &str),
        make: bool,
    ) -> Result<Self, DataKeyError> {
        let db = Db::open(url, postgres).await?;
        let name = format!("{PREFIX}{}", &sha256_hex(key.as_bytes())[..16]);
        if make {
            migrate_tables(&db, clock.now(), i64::MAX).await?;
            if kept(&db).await?.iter().all(|(other, _)| *other != name) {
                let (_, encrypted) = service
                    .make(key)
                    .await
                    .map_err(|error| DataKeyError::Service(error.to_string()))?;
                add(&db, &name, key, &encrypted).await?;
            }
        }
        let (mut current, mut others) = (None, Vec::new());
        for (other, data_key) in kept(&db).await? {
            let wrong = |_| CatalogError::Unavailable("a stored data key is not base64".to_owned());
            let encrypted = STANDARD.decode(data_key.encrypted).map_err(wrong)?;
            let plain = service.decrypt(&data_key.key, &encrypted).await;
            let plain = plain.map_err(|error| DataKeyError::Service(error.to_string()))?;
            let master = MasterKey::from_bytes(&plain);
            if other == name {
                current = Some(master);
            } else {
                others.push(master);
            }
        }
        db.close().await;
        Ok(Self {
            current: current.ok_or(DataKeyError::None)?,
            others,
        })
    }
}

/// What is kept, by name; nothing where there are no tables yet.
async fn kept(db: &Db) -> Result<Vec<(String, Kept)>, CatalogError> {
    if !super::migrate::has_tables(db).await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT name, value FROM settings WHERE name LIKE $1 ORDER BY name")
        .bind(format!("{PREFIX}%"))
        .fetch_all(db.of_all())
        .await?;
    let read = rows.iter().map(|row| {
        let kept = serde_json::from_slice(row.try_get::<&[u8], _>(1)?);
        Ok((row.try_get(0)?, kept.map_err(|_| super::db::broken(row, 1))?))
    });
    read.collect()
}

async fn add(db: &Db, name: &str, key: &str, encrypted: &[u8]) -> Result<(), CatalogError> {
    let kept = Kept {
        key: key.to_owned(),
        encrypted: STANDARD.encode(encrypted),
    };
    let mut write = db.begin_of_all().await?;
    sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(super::db::json(&kept)?.into_bytes())
        .execute(write.on())
        .await?;
    write.commit().await?;
    Ok(())
}
