//! A database of its own for each test: a file, or a schema in the real Postgres.

use platform::catalog::{Catalog, Page, PostgresOptions};
use platform::clock::Clock;
use platform::secrets::{Sealer, random_bytes};
use schemas::ids::Tenant;
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Connection};
use std::path::PathBuf;
use std::time::Duration;

/// When the driven clock of a test begins.
pub const START: Millis = Millis(1_795_000_000_000);

/// An empty database, and what a process would be configured with.
#[derive(Clone)]
pub struct Store {
    pub url: String,
    pub sealer: Sealer,
    pub clock: Clock,
    /// The folder of the database's files, if it is SQLite's.
    pub folder: Option<PathBuf>,
    /// Whether processes ask for row-level security.
    pub row_level_security: bool,
}

impl Store {
    fn new(url: String, folder: Option<PathBuf>) -> Self {
        Self {
            url,
            sealer: Sealer::random().0,
            clock: Clock::driven(START),
            folder,
            row_level_security: false,
        }
    }

    /// Opens it as another process would, and migrates.
    pub async fn catalog(&self) -> Catalog {
        let catalog = self.open().await;
        catalog.migrate().await.unwrap();
        catalog
    }

    /// Opens it as another process would.
    pub async fn open(&self) -> Catalog {
        let postgres = PostgresOptions {
            row_level_security: self.row_level_security,
            ..PostgresOptions::default()
        };
        Catalog::open_with(&self.url, self.sealer.clone(), self.clock.clone(), postgres)
            .await
            .unwrap()
    }

    /// Opens and migrates it, and makes a tenant.
    pub async fn with_tenant(&self) -> (Catalog, Tenant) {
        let catalog = self.catalog().await;
        let tenant = tenant("acme");
        catalog.create_tenant(&tenant).await.unwrap();
        (catalog, tenant)
    }

    /// Lets a second go by.
    pub fn tick(&self) {
        self.clock.advance(Duration::from_secs(1));
    }
}

/// Runs a test on a new SQLite file.
pub async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    test(Store::new(url, Some(folder.path().to_owned()))).await;
}

/// Runs a test in a new schema of the real Postgres, and removes the schema, come what may.
pub async fn on_postgres<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Store) -> F) {
    in_schema(test, false).await;
}

/// Runs a test in a new schema of the real Postgres, behind row-level security. The role is one of its own, which owns
/// the schema: that of the world is a superuser, and held by nothing.
pub async fn behind_the_wall<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Store) -> F) {
    in_schema(test, true).await;
}

/// Connects to the real Postgres as its superuser.
pub async fn superuser() -> sqlx::PgConnection {
    sqlx::PgConnection::connect(&server())
        .await
        .expect("Postgres does not answer: run `make test`, which brings the world up")
}

fn server() -> String {
    std::env::var("WORLD_POSTGRES_URL")
        .expect("WORLD_POSTGRES_URL is not set: run `make test`, which brings the world up")
}

async fn in_schema<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Store) -> F, walled: bool) {
    // The schema's name, and the role's where it has one.
    let name = format!("stores_{:x}", u64::from_be_bytes(random_bytes()));
    let mut admin = superuser().await;
    let mut server = server();
    let (make, remove) = if walled {
        let (_, place) = server.split_once('@').unwrap();
        server = format!("postgres://{name}:{name}@{place}");
        (
            format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'; CREATE SCHEMA {name} AUTHORIZATION {name}"),
            format!("DROP SCHEMA {name} CASCADE; DROP ROLE {name}"),
        )
    } else {
        (
            format!("CREATE SCHEMA {name}"),
            format!("DROP SCHEMA {name} CASCADE"),
        )
    };
    sqlx::raw_sql(AssertSqlSafe(make))
        .execute(&mut admin)
        .await
        .unwrap();
    let url = format!("{server}?options=-c%20search_path%3D{name}");
    let mut store = Store::new(url, None);
    store.row_level_security = walled;
    let result = tokio::spawn(test(store)).await;
    sqlx::raw_sql(AssertSqlSafe(remove))
        .execute(&mut admin)
        .await
        .unwrap();
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Makes each test run over both databases, under its own name in `sqlite` and in `postgres`, and over Postgres with
/// row-level security, in `walled`.
macro_rules! over_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::store::on_sqlite(super::$test).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::store::on_postgres(super::$test).await;
            })*
        }
        mod walled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::store::behind_the_wall(super::$test).await;
            })*
        }
    };
}
pub(crate) use over_both;

/// Runs on this thread what uses closures that are not known to be `Send`.
pub fn here(test: impl Future<Output = ()>) {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(test));
}

pub fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

pub fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// The first page, long enough for every list of these tests.
pub const ALL: Page = Page {
    limit: 250,
    before: None,
};

/// Walks a list page by page, `limit` at a time, by the ids of its rows.
pub async fn walk<R, F, E>(limit: u32, id: impl Fn(&R) -> i64, page: impl Fn(Page) -> F) -> Vec<R>
where
    F: Future<Output = Result<Vec<R>, E>>,
    E: std::fmt::Debug,
{
    let mut all: Vec<R> = Vec::new();
    loop {
        let before = all.last().map(&id);
        let rows = page(Page { limit, before }).await.unwrap();
        if rows.is_empty() {
            return all;
        }
        assert!(rows.len() <= limit as usize);
        all.extend(rows);
    }
}
