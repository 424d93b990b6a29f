//! Port: replays: what tenants want sent again, and how far that has come.
//!
//! Made by the API, worked on by the consumer, in the [catalog](crate::catalog)'s database: what was asked
//! for outlives every process. Of the replays to one target one process works on one at a time, and holds a
//! lease on the target meanwhile. A process that dies leaves its lease to run out; another goes on from the
//! stored place. One that was only slow, and has lost its lease, can store nothing more: what both of them
//! sent comes twice.
//!
//! | module | holds |
//! |---|---|
//! | `types` | a replay |
//! | `lease` | who works on what |

mod lease;
pub mod types;

pub use lease::LEASE;
pub use types::*;

use crate::catalog::audited::{Action, Entry};
use crate::catalog::db::{Sql, Write, broken, millis, tenant, unsigned};
use crate::catalog::{AuditKind, Catalog, CatalogError, Claim, ID_DRAWS, Page, no_free_id};
use schemas::ids::{DeliveryId, TargetId, Tenant};
use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::fmt;
use std::time::Duration;

/// The most replays of one tenant that are not at an end.
pub const MOST_OPEN: usize = 1_000;

/// What [`replay_row`] reads, in its order.
const COLUMNS: &str = "id, tenant, target, which, delivery, from_at, to_at, state, error, place, percent, \
    examined, sent, lost, created_at, updated_at";

/// The states in which there is something left to do, as a condition. The partial index has the same words.
const OPEN: &str = "state IN ('waiting', 'running')";

/// Replays in their database. Cloned freely.
#[derive(Clone)]
pub struct Replays {
    catalog: Catalog,
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replays({:?})", self.catalog.db.dialect)
    }
}

impl Replays {
    /// Replays beside the catalog, over its connections. [`Catalog::migrate`] makes their tables.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            catalog: catalog.clone(),
        }
    }

    /// These replays, for what is to be done under a claim: see [`Catalog::under`].
    #[must_use]
    pub fn under(&self, claim: Option<&Claim>) -> Self {
        Self {
            catalog: self.catalog.under(claim),
        }
    }

    /// Makes replays, all or none of them.
    ///
    /// # Errors
    /// `Conflict` where the tenant would have more than [`MOST_OPEN`] that are not at an end.
    pub async fn create(&self, tenant: &Tenant, new: Vec<NewReplay>) -> Result<Vec<Replay>, CatalogError> {
        let mut write = self.catalog.db.begin_of(tenant).await?;
        if let Some(ids) = self.catalog.made(&mut write).await? {
            return self.made(&mut write, tenant, &ids).await;
        }
        let mut sql = Sql::new(format!("SELECT COUNT(*) FROM replays WHERE {OPEN} AND tenant = "));
        sql.bind(tenant.as_str());
        let open: usize = unsigned(&sql.query().fetch_one(write.on()).await?, 0)?;
        if open + new.len() > MOST_OPEN {
            return Err(CatalogError::Conflict(format!(
                "{open} replays are not done yet, and {MOST_OPEN} may be: wait for some, or stop them"
            )));
        }
        let now = self.catalog.clock.now();
        let mut made = Vec::with_capacity(new.len());
        for new in new {
            let mut replay = Replay {
                id: 0,
                tenant: tenant.clone(),
                target: new.target,
                which: new.which,
                delivery: new.delivery,
                from: new.from,
                to: new.to,
                state: ReplayState::Waiting,
                error: None,
                place: Place::Start,
                percent: 0,
                counts: Counts::default(),
                created_at: now,
                updated_at: now,
            };
            for draw in 0.. {
                if draw == ID_DRAWS {
                    return Err(no_free_id());
                }
                replay.id = self.catalog.next_id();
                if insert(&replay)?
                    .query()
                    .execute(write.on())
                    .await?
                    .rows_affected()
                    > 0
                {
                    break;
                }
            }
            self.catalog
                .note(&mut write, tenant, Entry::created(&replay))
                .await?;
            made.push(replay);
        }
        let ids: Vec<i64> = made.iter().map(|replay| replay.id).collect();
        self.catalog.making(&mut write, &ids).await?;
        write.commit().await?;
        self.catalog.replays.notify_one();
        Ok(made)
    }

    /// The replays that were made before under the same claim, but for those that were forgotten since.
    async fn made(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        ids: &[i64],
    ) -> Result<Vec<Replay>, CatalogError> {
        let mut made = Vec::with_capacity(ids.len());
        for id in ids {
            let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM replays WHERE id = "));
            sql.bind(*id).push(" AND tenant = ").bind(tenant.as_str());
            if let Some(row) = sql.query().fetch_optional(write.on()).await? {
                made.push(replay_row(&row)?);
            }
        }
        Ok(made)
    }

    /// Looks a replay up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, tenant: &Tenant, id: i64) -> Result<Replay, CatalogError> {
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM replays WHERE id = "));
        sql.bind(id).push(" AND tenant = ").bind(tenant.as_str());
        replay_row(
            &sql.query()
                .fetch_one(self.catalog.db.of(tenant).await?.on())
                .await?,
        )
    }

    /// Lists replays, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Replay>, CatalogError> {
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM replays WHERE tenant = "));
        sql.bind(tenant.as_str());
        if let Some(before) = page.before {
            sql.push(" AND id < ").bind(before);
        }
        sql.push(" ORDER BY id DESC LIMIT ").bind(i64::from(page.limit));
        let rows = sql
            .query()
            .fetch_all(self.catalog.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(replay_row).collect()
    }

    /// Stops a replay: nothing more is sent after what is on its way, a second at most. One that is at its
    /// end stays as it is.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cancel(&self, tenant: &Tenant, id: i64) -> Result<(), CatalogError> {
        let mut write = self.catalog.db.begin_of(tenant).await?;
        let mut sql = Sql::new("UPDATE replays SET state = 'canceled', updated_at = ");
        sql.bind(self.catalog.clock.now().0);
        sql.push(&format!(" WHERE {OPEN} AND id = ")).bind(id);
        sql.push(" AND tenant = ").bind(tenant.as_str());
        let stopped = sql.query().execute(write.on()).await?.rows_affected();
        if stopped > 0 {
            let entry = Entry {
                action: Action::Stop,
                kind: AuditKind::Replay,
                thing: id.to_string(),
                before: None,
                after: Some(json!({"state": ReplayState::Canceled.as_str()})),
            };
            self.catalog.note(&mut write, tenant, entry).await?;
        }
        write.commit().await?;
        if stopped == 0 {
            self.get(tenant, id).await?;
        }
        Ok(())
    }

    /// Removes replays that came to their end so long ago.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn prune(&self, kept: Duration) -> Result<u64, CatalogError> {
        let before = self.catalog.clock.now().0 - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let mut write = self.catalog.db.begin_of_all().await?;
        let mut sql = Sql::new(format!("DELETE FROM replays WHERE NOT {OPEN} AND updated_at < "));
        sql.bind(before);
        let gone = sql.query().execute(write.on()).await?.rows_affected();
        let mut sql = Sql::new("DELETE FROM replay_leases WHERE until < ");
        sql.bind(before);
        sql.query().execute(write.on()).await?;
        write.commit().await?;
        Ok(gone)
    }
}

fn insert(replay: &Replay) -> Result<Sql, CatalogError> {
    let mut sql = Sql::new(format!("INSERT INTO replays ({COLUMNS}, turn) VALUES ("));
    sql.bind(replay.id).push(", ").bind(replay.tenant.as_str());
    sql.push(", ").bind(replay.target.0);
    sql.push(", ").bind(replay.which.as_str());
    sql.push(", ")
        .bind(replay.delivery.as_ref().map(DeliveryId::as_str));
    sql.push(", ").bind(replay.from.0);
    sql.push(", ").bind(replay.to.0);
    sql.push(", ").bind(replay.state.as_str());
    sql.push(", ").bind(replay.error.as_deref());
    sql.push(", ").bind(place(&replay.place)?);
    sql.push(", 0, 0, 0, 0, ").bind(replay.created_at.0);
    sql.push(", ").bind(replay.updated_at.0);
    sql.push(", ").bind(replay.created_at.0);
    sql.push(") ON CONFLICT (id) DO NOTHING");
    Ok(sql)
}

fn place(place: &Place) -> Result<String, CatalogError> {
    serde_json::to_string(place).map_err(|e| CatalogError::Unavailable(format!("cannot be stored: {e}")))
}

fn replay_row(row: &AnyRow) -> Result<Replay, CatalogError> {
    Ok(Replay {
        id: row.try_get(0)?,
        tenant: tenant(row, 1)?,
        target: TargetId(row.try_get(2)?),
        which: Which::from_word(row.try_get(3)?).ok_or_else(|| broken(row, 3))?,
        delivery: row.try_get::<Option<&str>, _>(4)?.map(DeliveryId::from_text),
        from: millis(row, 5)?,
        to: millis(row, 6)?,
        state: ReplayState::from_word(row.try_get(7)?).ok_or_else(|| broken(row, 7))?,
        error: row.try_get(8)?,
        place: serde_json::from_str(row.try_get(9)?).map_err(|_| broken(row, 9))?,
        percent: unsigned(row, 10)?,
        counts: Counts {
            examined: unsigned(row, 11)?,
            sent: unsigned(row, 12)?,
            lost: unsigned(row, 13)?,
        },
        created_at: millis(row, 14)?,
        updated_at: millis(row, 15)?,
    })
}
