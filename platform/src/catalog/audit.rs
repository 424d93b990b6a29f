//! The audit log: who changed what, and when.
//!
//! An entry is written in the transaction of the change it tells of, by the statement's own function, so that
//! there is neither without the other. Who changes is the catalog's: [`Catalog::by`] gives one whose changes are
//! somebody's; one as opened makes changes of the system's own.

use super::audited::Entry;
use super::db::{Sql, Write, broken, millis, tenant};
use super::{Catalog, CatalogError, KeyRow, Page};
use schemas::ids::Tenant;
use schemas::time::Millis;
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::time::Duration;

/// Entries removed in one transaction at most: other writers wait no longer than that.
const STEP: u64 = 500;
/// What [`entry_row`] reads, in its order.
const COLUMNS: &str = "id, tenant, at, actor, key_id, key_prefix, action, kind, thing, before, after";

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: a target answered 410, or failed for days, or proved itself.
    System,
    /// Who holds the admin key, or runs the command line.
    Admin,
    /// Who holds this API key.
    Key {
        /// Its id.
        id: i64,
        /// Its first characters.
        prefix: String,
    },
}

impl From<&KeyRow> for Actor {
    fn from(key: &KeyRow) -> Self {
        Self::Key {
            id: key.id,
            prefix: key.prefix.clone(),
        }
    }
}

/// A change, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Its number: later ones are larger.
    pub id: i64,
    /// Whose thing was changed.
    pub tenant: Tenant,
    /// When.
    pub at: Millis,
    /// By whom.
    pub actor: Actor,
    /// What was done: `create`, `update`, `delete`, …
    pub action: String,
    /// With what: `target`, `key`, …
    pub kind: String,
    /// With which: its id; a tenant's name.
    pub thing: String,
    /// What it was, as far as that changed by this; `None` where there was nothing.
    pub before: Option<Value>,
    /// What it is.
    pub after: Option<Value>,
}

/// Which changes to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this kind of thing.
    pub kind: Option<String>,
    /// Only of the thing with this id.
    pub thing: Option<String>,
    /// Only at or after this.
    pub from: Option<Millis>,
    /// Only before this.
    pub to: Option<Millis>,
    /// The page.
    pub page: Page,
}

impl Catalog {
    /// The same catalog; what is changed by it counts as changed by this actor.
    #[must_use]
    pub fn by(&self, actor: Actor) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// Adds an entry to the transaction, unless nothing changed.
    pub(crate) async fn note(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        entry: Entry,
    ) -> Result<(), CatalogError> {
        if entry.changes_nothing() {
            return Ok(());
        }
        let (actor, key_id, key_prefix) = match &self.actor {
            Actor::System => ("system", None, None),
            Actor::Admin => ("admin", None, None),
            Actor::Key { id, prefix } => ("key", Some(*id), Some(prefix.as_str())),
        };
        let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        sqlx::query(
            "INSERT INTO audit (tenant, at, actor, key_id, key_prefix, action, kind, thing, before, after) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(tenant.as_str())
        .bind(self.clock.now().0)
        .bind(actor)
        .bind(key_id)
        .bind(key_prefix)
        .bind(entry.action.as_str())
        .bind(entry.kind.as_str())
        .bind(&entry.thing)
        .bind(text(&entry.before))
        .bind(text(&entry.after))
        .execute(write.on())
        .await?;
        Ok(())
    }

    /// Lists a tenant's changes, newest first. Those of an earlier tenant of the same name are not its own.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn audit(&self, tenant: &Tenant, query: &AuditQuery) -> Result<Vec<AuditRow>, CatalogError> {
        self.entries(Some(tenant), of_tenant("", tenant, query)).await
    }

    /// How the database answers [`audit`](Self::audit), in its own words, a step a line.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_audit(
        &self,
        tenant: &Tenant,
        query: &AuditQuery,
    ) -> Result<Vec<String>, CatalogError> {
        self.db
            .explain(Some(tenant), |head| of_tenant(head, tenant, query))
            .await
    }

    /// Lists the changes of all tenants, or of all that had this name: for administrators.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn audit_of_all(
        &self,
        tenant: Option<&Tenant>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRow>, CatalogError> {
        self.entries(tenant, of_all("", tenant, query)).await
    }

    /// How the database answers [`audit_of_all`](Self::audit_of_all), in its own words, a step a line.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_audit_of_all(
        &self,
        tenant: Option<&Tenant>,
        query: &AuditQuery,
    ) -> Result<Vec<String>, CatalogError> {
        self.db.explain(tenant, |head| of_all(head, tenant, query)).await
    }

    async fn entries(&self, tenant: Option<&Tenant>, sql: Sql) -> Result<Vec<AuditRow>, CatalogError> {
        self.db.rows(tenant, sql).await?.iter().map(entry_row).collect()
    }

    /// Removes the entries that are older than `kept`, in steps that keep other writers waiting only shortly.
    /// Returns how many went.
    ///
    /// # Errors
    /// `Unavailable`; the steps done so far stay done.
    pub async fn prune_audit(&self, kept: Duration) -> Result<u64, CatalogError> {
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let before = self.clock.now().0.saturating_sub(kept);
        let mut gone = 0;
        loop {
            let mut write = self.db.begin_of_all().await?;
            let mut sql = Sql::new("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ");
            sql.bind(before);
            sql.push(&format!(" ORDER BY at LIMIT {STEP})"));
            let step = sql.query().execute(write.on()).await?.rows_affected();
            write.commit().await?;
            gone += step;
            if step < STEP {
                return Ok(gone);
            }
        }
    }
}

/// What a tenant sees, after `head`: nothing, or the word that asks for the plan.
fn of_tenant(head: &str, tenant: &Tenant, query: &AuditQuery) -> Sql {
    let mut sql = Sql::new(format!("{head}SELECT {COLUMNS} FROM audit WHERE tenant = "));
    sql.bind(tenant.as_str());
    sql.push(" AND at >= (SELECT created_at FROM tenants WHERE name = ");
    sql.bind(tenant.as_str()).push(")");
    narrowed(sql, query)
}

/// What administrators see, after `head`.
fn of_all(head: &str, tenant: Option<&Tenant>, query: &AuditQuery) -> Sql {
    let mut sql = Sql::new(format!("{head}SELECT {COLUMNS} FROM audit WHERE "));
    match tenant {
        Some(tenant) => sql.push("tenant = ").bind(tenant.as_str()),
        None => sql.push("id > 0"),
    };
    narrowed(sql, query)
}

fn narrowed(mut sql: Sql, query: &AuditQuery) -> Sql {
    if let Some(kind) = &query.kind {
        sql.push(" AND kind = ").bind(kind.as_str());
    }
    if let Some(thing) = &query.thing {
        sql.push(" AND thing = ").bind(thing.as_str());
    }
    if let Some(from) = query.from {
        sql.push(" AND at >= ").bind(from.0);
    }
    if let Some(to) = query.to {
        sql.push(" AND at < ").bind(to.0);
    }
    if let Some(before) = query.page.before {
        sql.push(" AND id < ").bind(before);
    }
    sql.push(" ORDER BY id DESC LIMIT ")
        .bind(i64::from(query.page.limit));
    sql
}

fn entry_row(row: &AnyRow) -> Result<AuditRow, CatalogError> {
    let json = |column: usize| {
        let text = row.try_get::<Option<&str>, _>(column)?;
        let value = text.map(serde_json::from_str).transpose();
        value.map_err(|_| broken(row, column))
    };
    Ok(AuditRow {
        id: row.try_get(0)?,
        tenant: tenant(row, 1)?,
        at: millis(row, 2)?,
        actor: match row.try_get(3)? {
            "system" => Actor::System,
            "admin" => Actor::Admin,
            "key" => Actor::Key {
                id: row.try_get(4)?,
                prefix: row.try_get(5)?,
            },
            _ => return Err(broken(row, 3)),
        },
        action: row.try_get(6)?,
        kind: row.try_get(7)?,
        thing: row.try_get(8)?,
        before: json(9)?,
        after: json(10)?,
    })
}
