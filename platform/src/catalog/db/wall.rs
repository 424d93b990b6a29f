//! The second wall between tenants: Postgres's row-level security, where `store.row_level_security` asks for it.
//!
//! The first wall is that every call on a tenant's things takes the tenant and names it in its SQL. Behind it, each
//! table of tenants' things has a policy that shows and takes only rows of the tenant in the setting
//! `hookwright.tenant`, to its owner too. A transaction names its tenant there and ends with it, so that a connection
//! never goes on to somebody else with a tenant: statements that name none, those of the whole system, of an earlier
//! version, of `psql` and of backups, are in front of no wall.

use super::{Db, Dialect};
use crate::catalog::CatalogError;
use schemas::ids::Tenant;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Row, Transaction};
use std::collections::HashMap;

/// What says whose a table's row is.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// A column with the tenant's name.
    Column(&'static str),
    /// The tenant of the target in the column `target`.
    Target,
}

/// Every table that holds tenants' things. Of one that is partitioned only itself is asked, never a part.
const TABLES: &[(&str, Whose)] = &[
    ("tenants", Whose::Column("name")),
    ("api_keys", Whose::Column("tenant")),
    ("targets", Whose::Column("tenant")),
    ("target_secrets", Whose::Target),
    ("target_health", Whose::Target),
    ("target_notices", Whose::Target),
    ("filters", Whose::Column("tenant")),
    ("filter_events", Whose::Column("tenant")),
    ("subscriptions", Whose::Column("tenant")),
    ("changes", Whose::Column("tenant")),
    ("events", Whose::Column("tenant")),
    ("deliveries", Whose::Column("tenant")),
    ("attempts", Whose::Column("tenant")),
    ("stats", Whose::Column("tenant")),
    ("replays", Whose::Column("tenant")),
    ("replay_leases", Whose::Column("tenant")),
    ("audit", Whose::Column("tenant")),
    ("idempotency_keys", Whose::Column("tenant")),
];

/// The tenant of this transaction, or null. Once it was set, what is left of a setting is an empty text. As a query of
/// its own it is asked for once a statement, not once a row.
const TENANT: &str = "(SELECT NULLIF(current_setting('hookwright.tenant', true), ''))";

/// The policy's name, and the one thing it is found again by: one that says something else gets another name.
const POLICY: &str = "hookwright_tenant";

/// Which rows of a table are the transaction's. `COALESCE` rather than `OR`: the planner takes that for half of the
/// rows, and does not turn away from the plans it has without the policy.
fn condition(table: &str, whose: Whose) -> String {
    match whose {
        Whose::Column(column) => format!("COALESCE({column} = {TENANT}, true)"),
        Whose::Target => {
            format!("{TENANT} IS NULL OR EXISTS (SELECT 1 FROM targets t WHERE t.id = {table}.target)")
        }
    }
}

/// What begins a transaction that is one tenant's. A tenant's name has no character that could end the text.
fn begin(mode: &str, tenant: &Tenant) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("BEGIN {mode}; SET LOCAL hookwright.tenant = '{tenant}'"))
}

/// What questions about one tenant's things are asked on.
pub(crate) enum Read {
    Open(PoolConnection<Any>),
    /// Dropped, it is rolled back before the pool hands the connection out again.
    Walled(Transaction<'static, Any>),
}

impl Read {
    /// What to run statements on.
    pub(crate) fn on(&mut self) -> &mut AnyConnection {
        match self {
            Self::Open(connection) => connection,
            Self::Walled(transaction) => transaction,
        }
    }
}

impl Db {
    /// Takes a connection for questions about one tenant's things. Behind the wall that is one round trip more.
    pub(crate) async fn of(&self, tenant: &Tenant) -> Result<Read, CatalogError> {
        Ok(if self.walled {
            Read::Walled(self.pool.begin_with(begin("READ ONLY", tenant)).await?)
        } else {
            Read::Open(self.pool.acquire().await?)
        })
    }

    /// Takes a connection that shows one tenant's things as they are at one moment.
    pub(crate) async fn moment_of(&self, tenant: &Tenant) -> Result<Transaction<'static, Any>, CatalogError> {
        const MODE: &str = "ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let statement = match self.dialect {
            Dialect::Sqlite => AssertSqlSafe("BEGIN".to_owned()),
            Dialect::Postgres if self.walled => begin(MODE, tenant),
            Dialect::Postgres => AssertSqlSafe(format!("BEGIN {MODE}")),
        };
        Ok(self.pool.begin_with(statement).await?)
    }

    /// What questions are asked on that are not about one tenant.
    pub(crate) fn of_all(&self) -> &AnyPool {
        &self.pool
    }

    /// How a write transaction begins on Postgres.
    pub(super) fn beginning(&self, whose: Option<&Tenant>) -> AssertSqlSafe<String> {
        match whose {
            Some(tenant) if self.walled => begin("", tenant),
            Some(_) | None => AssertSqlSafe("BEGIN".to_owned()),
        }
    }

    /// Builds the wall, or takes it down, as this process is configured. May be repeated, and run by several at once.
    ///
    /// Each table is a transaction of its own, and not waited for without end: while this waits for a table, so does
    /// everybody who comes after it.
    pub(crate) async fn build_wall(&self) -> Result<(), CatalogError> {
        if self.dialect == Dialect::Sqlite {
            return Ok(());
        }
        for (table, whose, standing) in self.standings().await? {
            // The table is locked by what comes first, so that of several the last repeats what the first did.
            let change = match (self.walled, standing) {
                (true, Standing::Not | Standing::Partly) => format!(
                    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
                     DROP POLICY IF EXISTS {POLICY} ON {table}; \
                     CREATE POLICY {POLICY} ON {table} USING ({})",
                    condition(table, whose)
                ),
                (false, Standing::Whole | Standing::Partly) => format!(
                    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY; \
                     DROP POLICY IF EXISTS {POLICY} ON {table}"
                ),
                (true, Standing::Whole | Standing::Absent) | (false, Standing::Not | Standing::Absent) => {
                    continue;
                }
            };
            let mut write = self.begin_of_all().await?;
            sqlx::raw_sql(AssertSqlSafe(change)).execute(write.on()).await?;
            write.commit().await?;
        }
        Ok(())
    }

    /// Whether the wall that is configured stands, and holds this process's role.
    pub(crate) async fn check_wall(&self) -> Result<(), CatalogError> {
        if !self.walled {
            return Ok(());
        }
        let role = sqlx::query(
            "SELECT CAST(current_user AS TEXT), CASE WHEN rolsuper THEN 'is a superuser' \
             WHEN rolbypassrls THEN 'has BYPASSRLS' END FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(self.of_all())
        .await?;
        if let Some(may) = role.try_get::<Option<&str>, _>(1)? {
            let name: &str = role.try_get(0)?;
            return Err(CatalogError::Unavailable(format!(
                "role \"{name}\" {may}, so row-level security does not hold it; use a role that is neither superuser \
                 nor has BYPASSRLS, or set store.row_level_security = false"
            )));
        }
        let standings = self.standings().await?;
        match standings
            .iter()
            .find(|(.., standing)| *standing != Standing::Whole)
        {
            None => Ok(()),
            Some((table, ..)) => Err(CatalogError::Unavailable(format!(
                "table {table} has no row-level security, and store.row_level_security is true; run \
                 `hookwright provision`"
            ))),
        }
    }

    /// What there is of the wall, table by table.
    async fn standings(&self) -> Result<Vec<(&'static str, Whose, Standing)>, CatalogError> {
        let rows = sqlx::query(
            "SELECT CAST(c.relname AS TEXT), c.relrowsecurity AND c.relforcerowsecurity, \
             EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = $1) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')",
        )
        .bind(POLICY)
        .fetch_all(self.of_all())
        .await?;
        let mut found = HashMap::new();
        for row in &rows {
            let standing = match (row.try_get(1)?, row.try_get(2)?) {
                (_, false) => Standing::Not,
                (false, true) => Standing::Partly,
                (true, true) => Standing::Whole,
            };
            found.insert(row.try_get::<String, _>(0)?, standing);
        }
        let standing = |table| found.get(table).copied().unwrap_or(Standing::Absent);
        Ok(TABLES
            .iter()
            .map(|&(table, whose)| (table, whose, standing(table)))
            .collect())
    }
}

/// What there is of the wall at a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is no such table, yet.
    Absent,
    Not,
    /// The policy is there, but not in force, or not for the table's owner.
    Partly,
    Whole,
}

/// Whether a connection may go back to the pool: not with a tenant. Where a call was given up in the middle of its
/// `BEGIN`, `sqlx` knows of no transaction, and would not roll it back.
pub(super) async fn is_clean(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    sqlx::query("SELECT COALESCE(current_setting('hookwright.tenant', true), '') = ''")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
