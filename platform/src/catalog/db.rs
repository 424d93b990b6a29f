//! The database under catalog and history: opening it, and write transactions.
//!
//! | file | holds |
//! |---|---|
//! | `address` | where a database is, and the options to open it |
//! | `folds` | SQLite's log folded back into the file |
//! | `sql` | SQL put together, values bound and read |
//! | `wall` | row-level security |

mod address;
mod folds;
mod sql;
mod wall;

pub(crate) use address::check_url;
pub(super) use sql::json;
pub(crate) use sql::{Sql, bind, broken, from_json, millis, tenant, unsigned};

use super::CatalogError;
use address::{postgres_options, sqlite_file, sqlite_options};
use folds::Folds;
use schemas::ids::Tenant;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row, Transaction};
use std::future::Future;
use std::sync::{Arc, Once};
use std::time::Duration;

/// How long to wait for a connection.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one call on the delivery path may take, so that a database that went silent without
/// closing its connections is noticed.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before asking a busy SQLite again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Pages that a small transaction writes, about.
const PAGES: usize = 6;
/// Connections that read a SQLite. Each has a thread: more would only cost memory.
const SQLITE_READERS: u32 = 3;

/// Locks are met by waiting.
const SQLITE_READS: &str = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
     PRAGMA cache_size = -1024";
/// A cache that a batch of history fits into: what it does not hold is written before the commit, and again after it
/// was changed once more. What a statement would be undone by stays in memory too, rather than in a
/// file. [`Folds`] keeps the log below these 16 MB (in pages), except under full load.
const SQLITE_WRITES: &str = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
     PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192";

const POSTGRES: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '30s'";

/// How one process uses a Postgres: how much of it, how long a call waits for its turn, and behind which wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Connections at once. SQLite always has 4, of which one writes.
    pub connections: u32,
    /// How long a call waits for one that others use, or that has to be made, before it is `Unavailable`.
    pub wait: Duration,
    /// Whether tenants are kept apart by row-level security too. SQLite has none.
    pub row_level_security: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 10,
            wait: CONNECT_LIMIT,
            row_level_security: false,
        }
    }
}

/// Which SQL the database speaks, where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// An open database. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: AnyPool,
    pub(crate) dialect: Dialect,
    /// Whether what is one tenant's runs behind row-level security.
    walled: bool,
    /// What writes: with Postgres the same connections, with SQLite a single one. Writers of this process queue for it,
    /// in order, instead of polling the file's lock as SQLite does; those of other processes are met by `busy_timeout`.
    /// What it has read and prepared stays good: beside another that writes a connection reads every page anew.
    pub(super) writer: AnyPool,
    /// Beside SQLite.
    folds: Option<Arc<Folds>>,
}

impl Db {
    /// Opens `sqlite:PATH` (made if absent) or `postgres://…`.
    pub(crate) async fn open(url: &str, postgres: PostgresOptions) -> Result<Self, CatalogError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        check_url(url).map_err(CatalogError::Unavailable)?;
        let (dialect, options, file) = if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let file = sqlite_file(path).await?;
            (Dialect::Sqlite, sqlite_options(path, &file)?, Some(file))
        } else {
            (Dialect::Postgres, postgres_options(url)?, None)
        };
        let walled = postgres.row_level_security;
        if walled && dialect == Dialect::Sqlite {
            return Err(CatalogError::Unavailable(
                "SQLite has no row-level security: only Postgres has".to_owned(),
            ));
        }
        let place = match dialect {
            Dialect::Sqlite => url.to_owned(),
            Dialect::Postgres => {
                let url = &options.database_url;
                let (host, port) = (url.host_str().unwrap_or("localhost"), url.port().unwrap_or(5432));
                format!("{host}:{port}")
            }
        };
        // One connection outside the pool first: the pool would keep trying and then only say that
        // time ran out.
        let first = async {
            let mut first = AnyConnection::connect_with(&options).await?;
            if dialect == Dialect::Sqlite {
                // Stays set in the file. Of several that set it at once SQLite lets one, and does not
                // let the others wait as `busy_timeout` says.
                while let Err(error) = sqlx::raw_sql("PRAGMA journal_mode = WAL")
                    .execute(&mut first)
                    .await
                {
                    if !is_busy(&error) {
                        return Err(error);
                    }
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
            }
            first.close().await
        };
        match tokio::time::timeout(CONNECT_LIMIT, first).await {
            Ok(done) => done.map_err(|error| cannot_open(&place, &error))?,
            Err(_) => {
                return Err(CatalogError::Unavailable(format!(
                    "cannot reach {place} (no answer after {} s)",
                    CONNECT_LIMIT.as_secs()
                )));
            }
        }
        let pool = |connections, wait, settings| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(wait)
                // A file does not hang up.
                .test_before_acquire(dialect == Dialect::Postgres)
                .after_connect(move |connection, _| {
                    Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
                })
                .after_release(move |connection, _| {
                    Box::pin(async move {
                        if dialect == Dialect::Postgres {
                            return if walled {
                                wall::is_clean(connection).await
                            } else {
                                Ok(true)
                            };
                        }
                        // On a full disk SQLite ends a transaction by itself, and sqlx takes it for open for ever: such a
                        // connection could begin no other one. The ping waits for the rollback that was asked for.
                        connection.ping().await?;
                        Ok(!connection.is_in_transaction())
                    })
                })
                .connect_lazy_with(options.clone())
        };
        let (pool, writer) = match dialect {
            Dialect::Sqlite => (
                pool(SQLITE_READERS, postgres.wait, SQLITE_READS),
                pool(1, CALL_LIMIT, SQLITE_WRITES),
            ),
            Dialect::Postgres => {
                let pool = pool(postgres.connections, postgres.wait, POSTGRES);
                (pool.clone(), pool)
            }
        };
        Ok(Self {
            pool,
            dialect,
            walled,
            writer,
            folds: file.as_deref().map(Folds::start).transpose()?,
        })
    }

    /// Begins a write transaction on one tenant's things; dropped without commit it changes nothing.
    pub(crate) async fn begin_of(&self, tenant: &Tenant) -> Result<Write, CatalogError> {
        self.begin(Some(tenant)).await
    }

    /// Begins a write transaction that is not one tenant's.
    pub(crate) async fn begin_of_all(&self) -> Result<Write, CatalogError> {
        self.begin(None).await
    }

    async fn begin(&self, whose: Option<&Tenant>) -> Result<Write, CatalogError> {
        let tx = match self.dialect {
            // Who closes the pool is done with the file.
            Dialect::Sqlite if self.pool.is_closed() => return Err(sqlx::Error::PoolClosed.into()),
            // Takes the write lock now: a transaction that began by reading could not get it later when another has
            // written meanwhile.
            Dialect::Sqlite => {
                let tx = self.writer.begin_with("BEGIN IMMEDIATE").await;
                tx.map_err(|error| match error {
                    sqlx::Error::PoolTimedOut => {
                        CatalogError::Unavailable("other writers were too slow".to_owned())
                    }
                    error => error.into(),
                })?
            }
            Dialect::Postgres => self.writer.begin_with(self.beginning(whose)).await?,
        };
        Ok(Write {
            tx,
            dialect: self.dialect,
            newest: None,
            pages: PAGES,
            folds: self.folds.clone(),
        })
    }

    /// Asks about one tenant's things, or about all.
    pub(crate) async fn rows(&self, tenant: Option<&Tenant>, sql: Sql) -> Result<Vec<AnyRow>, CatalogError> {
        Ok(match tenant {
            Some(tenant) => sql.query().fetch_all(self.of(tenant).await?.on()).await?,
            None => sql.query().fetch_all(self.of_all()).await?,
        })
    }

    /// How the database answers a question, in its own words, a step a line. The question is made with what goes before
    /// it.
    pub(crate) async fn explain(
        &self,
        tenant: Option<&Tenant>,
        question: impl FnOnce(&str) -> Sql,
    ) -> Result<Vec<String>, CatalogError> {
        let (head, column) = match self.dialect {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", 3),
            Dialect::Postgres => ("EXPLAIN ", 0),
        };
        let rows = self.rows(tenant, question(head)).await?;
        rows.iter().map(|row| Ok(row.try_get(column)?)).collect()
    }

    /// Ends all connections; what asks afterwards is refused.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
        if let Some(folds) = &self.folds {
            folds.end().await;
        }
    }
}

/// Bounds a call of the delivery path in time.
pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| {
        Err(CatalogError::Unavailable(format!(
            "no answer within {} s",
            CALL_LIMIT.as_secs()
        )))
    })
}

/// A write transaction.
pub(crate) struct Write {
    tx: Transaction<'static, Any>,
    pub(super) dialect: Dialect,
    /// The newest change row this transaction added.
    pub(super) newest: Option<i64>,
    /// How many pages it writes, about.
    pages: usize,
    folds: Option<Arc<Folds>>,
}

impl Write {
    /// What to run statements on.
    pub(crate) fn on(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    /// Tells that it puts in or changes so many rows, beside a few.
    pub(crate) fn rows(&mut self, rows: usize) {
        // A row and an entry of an index lie apart from others; further entries lie together.
        self.pages = self.pages.saturating_add(rows.saturating_mul(2));
    }

    /// Commits; returns the newest change row it added.
    pub(crate) async fn commit(self) -> Result<Option<i64>, CatalogError> {
        self.tx.commit().await?;
        if let Some(folds) = &self.folds {
            folds.wrote(self.pages);
        }
        Ok(self.newest)
    }
}

fn cannot_open(place: &str, error: &sqlx::Error) -> CatalogError {
    CatalogError::Unavailable(match error {
        sqlx::Error::Database(refusal) => format!("cannot open {place}: {}", refusal.message()),
        sqlx::Error::Io(error) => format!("cannot reach {place} ({})", crate::plain::io(error)),
        error => format!("cannot open {place}: {error}"),
    })
}

/// What the database said, without the values it was given: `sqlx` does not put those in errors.
impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::RowNotFound) {
            Self::NotFound
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

/// Whether SQLite is busy with another connection: `SQLITE_BUSY`, whose kinds differ above the low byte.
fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: u32 = 5;
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// Whether a statement failed because something it refers to is not there, or something that
/// refers to it is.
pub(super) fn is_reference(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

/// Whether a statement failed because there is such a row already.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
