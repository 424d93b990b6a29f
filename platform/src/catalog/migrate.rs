//! The tables, brought up to date: forward only, recorded, safe to repeat.
//!
//! The files are Postgres's SQL. For SQLite:
//! - `BIGINT PRIMARY KEY` becomes `INTEGER PRIMARY KEY`: SQLite's row id, without an index of its own, which it
//!   numbers by itself: `GENERATED ALWAYS AS IDENTITY` goes;
//! - `BYTEA` becomes `BLOB`;
//! - `COLLATE "C"` goes: bytes are how SQLite compares anyway;
//! - `/* sqlite: … */` becomes what is in it;
//! - a file that begins with `-- Postgres only.` does nothing.
//!
//! `current_setting('hookwright.now')` is the clock's time in a file that begins so.

use super::db::{Db, Dialect};
use super::{Catalog, CatalogError};
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Row};

/// What there is to apply, in order: version, name, SQL. Never change one that was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "catalog", include_str!("../../migrations/0001_catalog.sql")),
    (2, "history", include_str!("../../migrations/0002_history.sql")),
    (
        3,
        "change marks",
        include_str!("../../migrations/0003_change_marks.sql"),
    ),
    (
        4,
        "rate per minute",
        include_str!("../../migrations/0004_rate_per_minute.sql"),
    ),
    (5, "requests", include_str!("../../migrations/0005_requests.sql")),
    (
        6,
        "target health",
        include_str!("../../migrations/0006_target_health.sql"),
    ),
    (7, "replays", include_str!("../../migrations/0007_replays.sql")),
    (
        8,
        "verification",
        include_str!("../../migrations/0008_verification.sql"),
    ),
    (
        9,
        "keys and audit",
        include_str!("../../migrations/0009_keys_and_audit.sql"),
    ),
    (
        10,
        "idempotency keys",
        include_str!("../../migrations/0010_idempotency_keys.sql"),
    ),
    (
        11,
        "history at size",
        include_str!("../../migrations/0011_history_at_size.sql"),
    ),
    (
        12,
        "audit lists",
        include_str!("../../migrations/0012_audit_lists.sql"),
    ),
    (
        13,
        "attempts by day",
        include_str!("../../migrations/0013_attempts_by_day.sql"),
    ),
];

/// Sealed into the database by the first migration, so that another `secrets.key` is noticed at
/// the start and not at the first delivery.
const KEY_CHECK: &[u8] = b"hookwright";

impl Catalog {
    /// Makes the tables of catalog and history, or brings them up to date, and puts row-level security on them or takes
    /// it off, as was asked for at opening. May be repeated, and run by several processes at once.
    ///
    /// # Errors
    /// `Unavailable` when the database is away, holds tables in the way, or was sealed with another key.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        self.migrate_to(i64::MAX).await
    }

    /// Migrates up to a version and no further, as the release did whose newest that was: for tests of upgrades.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub async fn migrate_to(&self, newest: i64) -> Result<(), CatalogError> {
        migrate_tables(&self.db, self.clock.now(), newest).await?;
        let mut write = self.db.begin_of_all().await?;
        sqlx::query("INSERT INTO settings (name, value) VALUES ('key_check', $1) ON CONFLICT DO NOTHING")
            .bind(self.sealer.seal(KEY_CHECK))
            .execute(write.on())
            .await?;
        write.commit().await?;
        self.check_key().await?;
        // Last: who is refused changes nothing that others rely on.
        self.db.build_wall().await
    }

    /// Whether the database answers, is migrated, keeps tenants apart as configured, and was sealed with the configured
    /// key.
    ///
    /// # Errors
    /// `Unavailable`; says which of the four it is not.
    pub async fn check(&self) -> Result<(), CatalogError> {
        let done: i64 = if !has_tables(&self.db).await? {
            0
        } else {
            sqlx::query("SELECT COALESCE(MAX(version), 0) FROM hookwright_migrations")
                .fetch_one(self.db.of_all())
                .await?
                .try_get(0)?
        };
        let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
        if done < newest {
            return Err(CatalogError::Unavailable(format!(
                "not migrated: at version {done} of {newest}; run `hookwright provision`"
            )));
        }
        self.db.check_wall().await?;
        self.check_key().await
    }

    /// Seals the key check anew, if another key has sealed it; whether it was.
    pub(super) async fn reseal_check(&self) -> Result<bool, CatalogError> {
        let old: Vec<u8> = sqlx::query("SELECT value FROM settings WHERE name = 'key_check'")
            .fetch_one(self.db.of_all())
            .await?
            .try_get(0)?;
        if old.starts_with(&self.sealer.mark()) || self.sealer.open(&old).is_err() {
            return Ok(false);
        }
        let mut write = self.db.begin_of_all().await?;
        let changed = sqlx::query("UPDATE settings SET value = $1 WHERE name = 'key_check' AND value = $2")
            .bind(self.sealer.seal(KEY_CHECK))
            .bind(old)
            .execute(write.on())
            .await?
            .rows_affected();
        write.commit().await?;
        Ok(changed == 1)
    }

    async fn check_key(&self) -> Result<(), CatalogError> {
        let sealed: Vec<u8> = sqlx::query("SELECT value FROM settings WHERE name = 'key_check'")
            .fetch_one(self.db.of_all())
            .await?
            .try_get(0)?;
        match self.sealer.open(&sealed) {
            Ok(_) => Ok(()),
            Err(error) => Err(CatalogError::Unavailable(format!("its secrets are {error}"))),
        }
    }
}

/// Brings the tables up to a version, all in one transaction.
pub(super) async fn migrate_tables(db: &Db, now: Millis, newest: i64) -> Result<(), CatalogError> {
    let mut write = db.begin_of_all().await?;
    if db.dialect == Dialect::Postgres {
        // SQLite's write lock is held already. One lock per schema. What is changed here may be
        // large, and others wait for it as long as it takes.
        sqlx::raw_sql(
            "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
             SELECT pg_advisory_xact_lock(1752329579, hashtext(current_schema()))",
        )
        .execute(write.on())
        .await?;
        sqlx::query("SELECT set_config('hookwright.now', $1, true)")
            .bind(now.0.to_string())
            .execute(write.on())
            .await?;
    }
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS hookwright_migrations \
         (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
    )
    .execute(write.on())
    .await?;
    let done: i64 = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM hookwright_migrations")
        .fetch_one(write.on())
        .await?
        .try_get(0)?;
    let wanted = done + 1..=newest;
    for &(version, name, sql) in MIGRATIONS.iter().filter(|(version, ..)| wanted.contains(version)) {
        sqlx::raw_sql(AssertSqlSafe(translated(sql, db.dialect)))
            .execute(write.on())
            .await?;
        sqlx::query("INSERT INTO hookwright_migrations (version, name, applied_at) VALUES ($1, $2, $3)")
            .bind(version)
            .bind(name)
            .bind(now.0)
            .execute(write.on())
            .await?;
    }
    write.commit().await?;
    Ok(())
}

/// Whether there are any tables of ours.
pub(super) async fn has_tables(db: &Db) -> Result<bool, CatalogError> {
    let there = match db.dialect {
        Dialect::Sqlite => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'hookwright_migrations'"
        }
        Dialect::Postgres => {
            "SELECT COUNT(*) FROM pg_tables \
             WHERE schemaname = current_schema() AND tablename = 'hookwright_migrations'"
        }
    };
    let there: i64 = sqlx::query(there).fetch_one(db.of_all()).await?.try_get(0)?;
    Ok(there > 0)
}

fn translated(sql: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => sql.to_owned(),
        Dialect::Sqlite if sql.starts_with("-- Postgres only.") => String::new(),
        Dialect::Sqlite => sql
            .replace("BIGINT GENERATED ALWAYS AS IDENTITY", "BIGINT")
            .replace("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY")
            .replace("BYTEA", "BLOB")
            .replace(" COLLATE \"C\"", "")
            .replace("/* sqlite: WITHOUT ROWID */", "WITHOUT ROWID"),
    }
}
