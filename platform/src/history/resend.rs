//! What sending again asks: where events lie in the log, and what became of their deliveries.

use super::read::{DELIVERIES_PLACED, along, delivery_row, position};
use super::{DeliveryRow, GivenUp, History, Standing};
use crate::catalog::CatalogError;
use crate::catalog::db::{Sql, broken, unsigned};
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;
use std::collections::HashMap;

/// What the partial index of deliveries given up has for a condition, word for word: SQLite takes it by no
/// other.
const ENDED_BADLY: &str = "d.status IN ('exhausted', 'canceled')";

impl History {
    /// A delivery, and the place of its event in the log; no place when the event's own record is gone.
    ///
    /// # Errors
    /// `NotFound`, also while its record is on its way.
    pub async fn placed(
        &self,
        tenant: &Tenant,
        id: &DeliveryId,
    ) -> Result<(DeliveryRow, Option<Position>), CatalogError> {
        let mut sql = Sql::new(DELIVERIES_PLACED);
        sql.push(" WHERE d.id = ").bind(id.as_str());
        sql.push(" AND d.tenant = ").bind(tenant.as_str());
        let row = sql.query().fetch_one(self.db.of(tenant).await?.on()).await?;
        Ok((delivery_row(&row)?, position(&row, 11)?))
    }

    /// Deliveries to a target that were given up or canceled, with their places, oldest first: at most so
    /// many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn given_up(
        &self,
        tenant: &Tenant,
        query: &GivenUp,
    ) -> Result<Vec<(DeliveryRow, Option<Position>)>, CatalogError> {
        let mut sql = Sql::new(self.along_ends(DELIVERIES_PLACED));
        bad_ends(&mut sql, tenant, query);
        if let Some((accepted_at, id)) = &query.after {
            sql.push(" AND (d.accepted_at, d.id) > (").bind(accepted_at.0);
            sql.push(", ").bind(id.as_str()).push(")");
        }
        sql.push(" ORDER BY d.accepted_at, d.id LIMIT ")
            .bind(i64::from(query.limit));
        let rows = sql.query().fetch_all(self.db.of(tenant).await?.on()).await?;
        rows.iter()
            .map(|row| Ok((delivery_row(row)?, position(row, 11)?)))
            .collect()
    }

    /// How many those are, wherever one begins.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn count_given_up(&self, tenant: &Tenant, query: &GivenUp) -> Result<u64, CatalogError> {
        let mut sql = Sql::new(self.along_ends("SELECT COUNT(*) FROM deliveries d"));
        bad_ends(&mut sql, tenant, query);
        unsigned(&sql.query().fetch_one(self.db.of(tenant).await?.on()).await?, 0)
    }

    /// The active targets of deliveries that were given up, but for those that have a replay of them under
    /// way: in order, at most so many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn targets_given_up(&self, tenant: &Tenant, limit: u32) -> Result<Vec<TargetId>, CatalogError> {
        let mut sql = Sql::new(self.along_ends(
            "SELECT DISTINCT d.target FROM deliveries d \
             JOIN targets t ON t.id = d.target AND t.tenant = d.tenant AND t.state = 'active' \
             WHERE d.tenant = ",
        ));
        sql.bind(tenant.as_str());
        sql.push(&format!(
            " AND {ENDED_BADLY} AND d.status = 'exhausted' AND NOT EXISTS (SELECT 1 FROM replays r \
             WHERE r.target = d.target AND r.state IN ('waiting', 'running') AND r.which = 'exhausted') \
             ORDER BY d.target LIMIT "
        ))
        .bind(i64::from(limit));
        let rows = sql.query().fetch_all(self.db.of(tenant).await?.on()).await?;
        rows.iter().map(|row| Ok(TargetId(row.try_get(0)?))).collect()
    }

    /// A question that reads along the index of those few.
    fn along_ends(&self, question: &str) -> String {
        along(self.db.dialect, question, "deliveries d", "deliveries_given_up")
    }

    /// What history knows of these events, and of their deliveries to a target. Nothing of an event is
    /// nothing in the answer.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn standing(
        &self,
        tenant: &Tenant,
        target: TargetId,
        events: &[EventId],
    ) -> Result<HashMap<EventId, Standing>, CatalogError> {
        let mut known: HashMap<EventId, Standing> = HashMap::new();
        if events.is_empty() {
            return Ok(known);
        }
        let mut sql = Sql::new("SELECT e.id, e.accepted_at FROM events e WHERE e.tenant = ");
        sql.bind(tenant.as_str()).push(" AND e.id IN (");
        list(&mut sql, events.iter().map(EventId::as_str));
        sql.push(")");
        for row in &sql.query().fetch_all(self.db.of(tenant).await?.on()).await? {
            let id = EventId::new(row.try_get(0)?).map_err(|_| broken(row, 0))?;
            let accepted_at = Millis(row.try_get(1)?);
            known.insert(
                id,
                Standing {
                    accepted_at,
                    delivery: None,
                },
            );
        }
        let sql = deliveries_of("", tenant, target, events);
        for row in &sql.query().fetch_all(self.db.of(tenant).await?.on()).await? {
            let id = EventId::new(row.try_get(0)?).map_err(|_| broken(row, 0))?;
            let status = DeliveryStatus::from_word(row.try_get(2)?).ok_or_else(|| broken(row, 2))?;
            let attempts = super::fold::attempts(row.try_get(3)?);
            // The delivery's own time, which its attempts are found by.
            let accepted_at = Millis(row.try_get(1)?);
            known.insert(
                id,
                Standing {
                    accepted_at,
                    delivery: Some((status, attempts)),
                },
            );
        }
        Ok(known)
    }

    /// How the database looks up the deliveries of [`History::standing`], in its own words.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_standing(
        &self,
        tenant: &Tenant,
        target: TargetId,
        events: &[EventId],
    ) -> Result<Vec<String>, CatalogError> {
        self.db
            .explain(Some(tenant), |head| deliveries_of(head, tenant, target, events))
            .await
    }
}

/// The deliveries of some events to a target. They are joined to a list, in that order: of a tenant and some ids, SQLite
/// would take the tenant, and read all that is his.
fn deliveries_of(head: &str, tenant: &Tenant, target: TargetId, events: &[EventId]) -> Sql {
    let mut sql = Sql::new(format!("{head}WITH k (id) AS (VALUES "));
    for (n, event) in events.iter().enumerate() {
        sql.push(if n > 0 { ", (" } else { "(" });
        sql.bind(DeliveryId::derive(event, target).as_str()).push(")");
    }
    sql.push(
        ") SELECT d.event_id, d.accepted_at, d.status, d.progress FROM k CROSS JOIN deliveries d \
         WHERE d.id = k.id AND d.tenant = ",
    );
    sql.bind(tenant.as_str());
    sql
}

fn list<'t>(sql: &mut Sql, texts: impl Iterator<Item = &'t str>) {
    for (n, text) in texts.enumerate() {
        if n > 0 {
            sql.push(", ");
        }
        sql.bind(text);
    }
}

fn bad_ends(sql: &mut Sql, tenant: &Tenant, query: &GivenUp) {
    sql.push(" WHERE d.tenant = ").bind(tenant.as_str());
    sql.push(&format!(" AND {ENDED_BADLY}"));
    if !query.canceled {
        sql.push(" AND d.status = 'exhausted'");
    }
    sql.push(" AND d.target = ").bind(query.target.0);
    sql.push(" AND d.accepted_at >= ").bind(query.from.0);
    sql.push(" AND d.accepted_at < ").bind(query.to.0);
}
