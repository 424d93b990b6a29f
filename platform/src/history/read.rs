//! The API's questions.

use super::fold::attempts;
use super::{AttemptRow, DeliveryQuery, DeliveryRow, EventQuery, EventRow, History, Unmatched};
use crate::catalog::CatalogError;
use crate::catalog::db::{Dialect, Sql, broken, millis, unsigned};
use crate::catalog::from_json;
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::Attempt;
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;
use sqlx::any::AnyRow;

/// What [`event_row`] reads. The deliveries are counted here and not where they are written: they
/// come in any order, over several records and more than once.
const EVENTS: &str = "SELECT e.id, e.event_type, e.accepted_at, e.payload_size, e.content_type, \
    e.log_topic, e.log_partition, e.log_offset, \
    (SELECT COUNT(*) FROM deliveries d WHERE d.tenant = e.tenant AND d.accepted_at = e.accepted_at \
     AND d.event_id = e.id), e.unmatched \
    FROM events e";

/// What [`delivery_row`] reads. The last answer is the last attempt's. It is not joined: of many small partitions Postgres
/// would rather read all than look each row up in its own.
const DELIVERIES: &str = "SELECT d.id, d.event_id, d.target, d.event_type, d.status, d.progress, \
    d.accepted_at, d.next_at, d.updated_at, \
    (SELECT a.status_code FROM attempts a WHERE a.tenant = d.tenant AND a.accepted_at = d.accepted_at \
     AND a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1), \
    (SELECT a.error FROM attempts a WHERE a.tenant = d.tenant AND a.accepted_at = d.accepted_at \
     AND a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1) \
    FROM deliveries d";

/// The same without the last answer, and with the event's place, for [`position`] at column 11.
pub(super) const DELIVERIES_PLACED: &str = "SELECT d.id, d.event_id, d.target, d.event_type, d.status, \
    d.progress, d.accepted_at, d.next_at, d.updated_at, \
    CAST(NULL AS BIGINT) AS status_code, CAST(NULL AS TEXT) AS error, \
    e.log_topic, e.log_partition, e.log_offset \
    FROM deliveries d LEFT JOIN events e ON e.tenant = d.tenant AND e.id = d.event_id";

impl History {
    /// Looks an event up.
    ///
    /// # Errors
    /// `NotFound`, also while its record is on its way.
    pub async fn event(&self, tenant: &Tenant, id: &EventId) -> Result<EventRow, CatalogError> {
        let mut sql = Sql::new(EVENTS);
        sql.push(" WHERE e.tenant = ").bind(tenant.as_str());
        sql.push(" AND e.id = ").bind(id.as_str());
        event_row(&sql.query().fetch_one(self.db.of(tenant).await?.on()).await?)
    }

    /// Lists events, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn events(&self, tenant: &Tenant, query: &EventQuery) -> Result<Vec<EventRow>, CatalogError> {
        let rows = events("", self.db.dialect, tenant, query)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(event_row).collect()
    }

    /// How the database answers [`History::events`], in its own words.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_events(
        &self,
        tenant: &Tenant,
        query: &EventQuery,
    ) -> Result<Vec<String>, CatalogError> {
        self.db
            .explain(Some(tenant), |head| events(head, self.db.dialect, tenant, query))
            .await
    }

    /// Looks a delivery up.
    ///
    /// # Errors
    /// `NotFound`, also while its record is on its way.
    pub async fn delivery(&self, tenant: &Tenant, id: &DeliveryId) -> Result<DeliveryRow, CatalogError> {
        let mut sql = Sql::new(DELIVERIES);
        sql.push(" WHERE d.id = ").bind(id.as_str());
        sql.push(" AND d.tenant = ").bind(tenant.as_str());
        delivery_row(&sql.query().fetch_one(self.db.of(tenant).await?.on()).await?)
    }

    /// Lists deliveries, newest first. Those of one event are found by the event's own record.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn deliveries(
        &self,
        tenant: &Tenant,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryRow>, CatalogError> {
        let rows = deliveries("", self.db.dialect, tenant, query)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(delivery_row).collect()
    }

    /// How the database answers [`History::deliveries`], in its own words.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_deliveries(
        &self,
        tenant: &Tenant,
        query: &DeliveryQuery,
    ) -> Result<Vec<String>, CatalogError> {
        self.db
            .explain(Some(tenant), |head| {
                deliveries(head, self.db.dialect, tenant, query)
            })
            .await
    }

    /// A delivery's attempts, by number. None for a delivery that is not there.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn attempts(&self, tenant: &Tenant, id: &DeliveryId) -> Result<Vec<AttemptRow>, CatalogError> {
        let rows = sqlx::query(
            "SELECT a.number, a.started_at, a.duration_ms, a.status_code, a.error, a.response, a.response_headers \
             FROM attempts a WHERE a.tenant = $2 AND a.delivery_id = $1 AND a.accepted_at = \
             (SELECT d.accepted_at FROM deliveries d WHERE d.id = $1 AND d.tenant = $2) ORDER BY a.number",
        )
        .bind(id.as_str())
        .bind(tenant.as_str())
        .fetch_all(self.db.of(tenant).await?.on())
        .await?;
        rows.iter().map(attempt_row).collect()
    }
}

/// A question that reads `table` along `index`. Postgres chooses by what it knows of the data; SQLite, of whose data
/// nobody tells it anything, would rather read all of a tenant.
pub(super) fn along(dialect: Dialect, question: &str, table: &str, index: &str) -> String {
    match dialect {
        Dialect::Postgres => question.to_owned(),
        Dialect::Sqlite => {
            let from = format!("FROM {table}");
            question.replacen(&from, &format!("{from} INDEXED BY {index}"), 1)
        }
    }
}

fn events(head: &str, dialect: Dialect, tenant: &Tenant, query: &EventQuery) -> Sql {
    let question = match (query.unmatched, &query.event_type) {
        (true, _) => along(dialect, EVENTS, "events e", "events_unmatched"),
        (false, Some(_)) => along(dialect, EVENTS, "events e", "events_by_type"),
        (false, None) => EVENTS.to_owned(),
    };
    let mut sql = Sql::new(format!("{head}{question}"));
    sql.push(" WHERE e.tenant = ").bind(tenant.as_str());
    if let Some(event_type) = &query.event_type {
        sql.push(" AND e.event_type = ").bind(event_type.as_str());
    }
    if query.unmatched {
        // One that was sent again since has a delivery.
        sql.push(
            " AND e.unmatched IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = e.tenant \
             AND d.accepted_at = e.accepted_at AND d.event_id = e.id)",
        );
    }
    page(&mut sql, "e", (query.from, query.to), &query.after, query.limit);
    sql
}

fn deliveries(head: &str, dialect: Dialect, tenant: &Tenant, query: &DeliveryQuery) -> Sql {
    let undelivered = query
        .status
        .is_some_and(|status| status != DeliveryStatus::Delivered);
    let index = match (&query.event, query.target, undelivered, &query.event_type) {
        // An event's deliveries lie together.
        (Some(_), ..) => None,
        (None, Some(_), true, _) => Some("deliveries_by_target_status"),
        (None, Some(_), false, _) => Some("deliveries_by_target"),
        (None, None, true, _) => Some("deliveries_by_status"),
        (None, None, false, Some(_)) => Some("deliveries_by_type"),
        (None, None, false, None) => None,
    };
    let question = index.map_or_else(
        || DELIVERIES.to_owned(),
        |index| along(dialect, DELIVERIES, "deliveries d", index),
    );
    let mut sql = Sql::new(format!("{head}{question}"));
    sql.push(" WHERE d.tenant = ").bind(tenant.as_str());
    if let Some(target) = query.target {
        sql.push(" AND d.target = ").bind(target.0);
    }
    if let Some(event) = &query.event {
        sql.push(" AND d.accepted_at = (SELECT e.accepted_at FROM events e WHERE e.tenant = ")
            .bind(tenant.as_str());
        sql.push(" AND e.id = ").bind(event.as_str());
        sql.push(") AND d.event_id = ").bind(event.as_str());
    }
    if let Some(status) = query.status {
        if undelivered {
            // The partial indexes' own words: a few among many, found by no other.
            sql.push(" AND d.status IN ('pending', 'retrying', 'exhausted', 'canceled')");
        }
        sql.push(" AND d.status = ").bind(status.as_str());
    }
    if let Some(event_type) = &query.event_type {
        sql.push(" AND d.event_type = ").bind(event_type.as_str());
    }
    page(&mut sql, "d", (query.from, query.to), &query.after, query.limit);
    sql
}

/// Bounds in time, the place to go on from, the order and the limit of a list of `table`.
fn page(
    sql: &mut Sql,
    table: &str,
    (from, to): (Option<Millis>, Option<Millis>),
    after: &Option<(Millis, String)>,
    limit: u32,
) {
    if let Some(from) = from {
        sql.push(&format!(" AND {table}.accepted_at >= ")).bind(from.0);
    }
    if let Some(to) = to {
        sql.push(&format!(" AND {table}.accepted_at < ")).bind(to.0);
    }
    if let Some((accepted_at, id)) = after {
        sql.push(&format!(" AND ({table}.accepted_at, {table}.id) < ("))
            .bind(accepted_at.0);
        sql.push(", ").bind(id.as_str()).push(")");
    }
    sql.push(&format!(
        " ORDER BY {table}.accepted_at DESC, {table}.id DESC LIMIT "
    ))
    .bind(i64::from(limit));
}

fn event_row(row: &AnyRow) -> Result<EventRow, CatalogError> {
    let targets = unsigned(row, 8)?;
    let unmatched: Option<&str> = row.try_get(9)?;
    Ok(EventRow {
        id: EventId::new(row.try_get(0)?).map_err(|_| broken(row, 0))?,
        event_type: row.try_get(1)?,
        accepted_at: millis(row, 2)?,
        payload_size: unsigned(row, 3)?,
        content_type: row.try_get(4)?,
        position: Position {
            topic: row.try_get::<&str, _>(5)?.into(),
            partition: unsigned(row, 6)?,
            offset: row.try_get(7)?,
        },
        targets,
        unmatched: unmatched.filter(|_| targets == 0).map(Unmatched::from_word),
    })
}

/// A place in the log, from this column on; `None` where there is none.
pub(super) fn position(row: &AnyRow, column: usize) -> Result<Option<Position>, CatalogError> {
    let Some(topic) = row.try_get::<Option<&str>, _>(column)? else {
        return Ok(None);
    };
    Ok(Some(Position {
        topic: topic.into(),
        partition: unsigned(row, column + 1)?,
        offset: row.try_get(column + 2)?,
    }))
}

pub(super) fn delivery_row(row: &AnyRow) -> Result<DeliveryRow, CatalogError> {
    Ok(DeliveryRow {
        id: DeliveryId::from_text(row.try_get(0)?),
        event_id: EventId::new(row.try_get(1)?).map_err(|_| broken(row, 1))?,
        target: TargetId(row.try_get(2)?),
        event_type: row.try_get(3)?,
        status: DeliveryStatus::from_word(row.try_get(4)?).ok_or_else(|| broken(row, 4))?,
        attempts: attempts(row.try_get(5)?),
        accepted_at: millis(row, 6)?,
        next_at: row.try_get::<Option<i64>, _>(7)?.map(Millis),
        updated_at: millis(row, 8)?,
        last_status_code: status_code(row, 9)?,
        last_error: row.try_get(10)?,
    })
}

fn attempt_row(row: &AnyRow) -> Result<AttemptRow, CatalogError> {
    Ok(AttemptRow {
        number: unsigned(row, 0)?,
        attempt: Attempt {
            started_at: millis(row, 1)?,
            duration_ms: unsigned(row, 2)?,
            status_code: status_code(row, 3)?,
            error: row.try_get(4)?,
            response: row.try_get(5)?,
            headers: from_json(row, 6)?.unwrap_or_default(),
        },
    })
}

fn status_code(row: &AnyRow, column: usize) -> Result<Option<u16>, CatalogError> {
    row.try_get::<Option<i64>, _>(column)?
        .map(u16::try_from)
        .transpose()
        .map_err(|_| broken(row, column))
}
