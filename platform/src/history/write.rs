//! Rows into the database in few statements, and what really changed into the tallies.
//!
//! A record that comes again must not be counted again, so rows that are new are told from rows that are
//! there: first all are inserted, where there is none; then those that were there are locked, read and, where
//! the record knows more, written over. What a statement says it inserted, and what was read under a lock, is
//! what changed, however many write at once.
//!
//! Each step meets its rows in the order of their keys, and what it holds is wanted by later steps only: those
//! who write together cannot wait for each other in a circle.

use super::History;
use super::fold::{AttemptKey, Delivery, fold, storable};
use super::settle::Cells;
use super::statement::Statement;
use super::tally::{Changes, Kind, outcome, outcome_of};
use super::unmatched::{self, Reasons};
use crate::catalog::CatalogError;
use crate::catalog::db::{Dialect, bind, bounded, unsigned};
use schemas::history::{Attempt, EventRecord, HistoryRecord};
use schemas::ids::DeliveryId;
use schemas::time::Millis;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// The statements that put rows in, or further.
pub(super) struct Statements {
    new_events: Statement,
    events: Statement,
    new_deliveries: Statement,
    known_deliveries: Statement,
    deliveries: Statement,
    new_attempts: Statement,
    known_attempts: Statement,
    attempts: Statement,
    cells: Cells,
}

const EVENTS: &str = "events (tenant, id, event_type, accepted_at, payload_size, content_type, \
    log_topic, log_partition, log_offset, unmatched)";
const DELIVERIES: &str = "deliveries (id, tenant, event_id, target, event_type, accepted_at, status, \
    progress, next_at, updated_at)";
const ATTEMPTS: &str = "attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms, \
    status_code, error, response, response_headers)";
const KNOWN_ATTEMPTS_SQLITE: &str = ") SELECT a.tenant, a.accepted_at, a.delivery_id, a.number, a.started_at, \
    a.duration_ms, a.status_code, a.error FROM k CROSS JOIN attempts a WHERE a.tenant = k.tenant \
    AND a.accepted_at = k.accepted_at AND a.delivery_id = k.delivery_id AND a.number = k.number \
    ORDER BY a.tenant, a.accepted_at, a.delivery_id, a.number";
/// Row by row, in the order of the list: in a join, Postgres would rather read all of many small partitions than look each
/// row up in its own.
const KNOWN_ATTEMPTS_POSTGRES: &str = ") SELECT a.* FROM k CROSS JOIN LATERAL (SELECT a.tenant, a.accepted_at, \
    a.delivery_id, a.number, a.started_at, a.duration_ms, a.status_code, a.error FROM attempts a \
    WHERE a.tenant = k.tenant AND a.accepted_at = k.accepted_at AND a.delivery_id = k.delivery_id \
    AND a.number = k.number FOR UPDATE) a";

impl Statements {
    pub(super) fn new(dialect: Dialect) -> Self {
        // SQLite has one writer at a time: all is locked.
        let locked = |tail: &str, table: &str| match dialect {
            Dialect::Sqlite => tail.to_owned(),
            Dialect::Postgres => format!("{tail} FOR UPDATE OF {table}"),
        };
        // A statement that fails is the end of its transaction. SQLite need not be able to undo it alone, which costs it
        // a copy of each page that a statement of many rows touches.
        let insert = |into: &str| match dialect {
            Dialect::Sqlite => format!("INSERT OR FAIL INTO {into}"),
            Dialect::Postgres => format!("INSERT INTO {into}"),
        };
        // A conflict in whichever unique index: of two that put one row in at once, the later may come upon the earlier in
        // either.
        let new = "ON CONFLICT DO NOTHING";
        let (events, deliveries, attempts) = (insert(EVENTS), insert(DELIVERIES), insert(ATTEMPTS));
        Self {
            new_events: Statement::new(dialect, &events, 10, new),
            // Of two accounts of an event, the one accepted first stays.
            events: Statement::new(
                dialect,
                &events,
                10,
                "ON CONFLICT (tenant, id) DO UPDATE SET event_type = excluded.event_type, \
                 accepted_at = excluded.accepted_at, payload_size = excluded.payload_size, \
                 content_type = excluded.content_type, log_topic = excluded.log_topic, \
                 log_partition = excluded.log_partition, log_offset = excluded.log_offset, \
                 unmatched = excluded.unmatched \
                 WHERE (excluded.accepted_at, excluded.log_topic, excluded.log_partition, excluded.log_offset) \
                 < (events.accepted_at, events.log_topic, events.log_partition, events.log_offset)",
            ),
            new_deliveries: Statement::new(dialect, &deliveries, 10, &format!("{new} RETURNING id")),
            known_deliveries: Statement::new(
                dialect,
                "WITH k (id) AS (",
                1,
                &locked(
                    ") SELECT d.id, d.tenant, d.target, d.event_type, d.accepted_at, d.progress, d.updated_at, \
                     d.status FROM k CROSS JOIN deliveries d WHERE d.id = k.id ORDER BY d.id",
                    "d",
                ),
            ),
            // Only ever forward. What cannot change is not set: it would cost an index entry.
            deliveries: Statement::new(
                dialect,
                &deliveries,
                10,
                "ON CONFLICT (id) DO UPDATE SET status = excluded.status, progress = excluded.progress, \
                 next_at = excluded.next_at, updated_at = excluded.updated_at \
                 WHERE (excluded.progress, excluded.updated_at, excluded.status) \
                 > (deliveries.progress, deliveries.updated_at, deliveries.status)",
            ),
            new_attempts: Statement::new(
                dialect,
                &attempts,
                10,
                &format!("{new} RETURNING tenant, accepted_at, delivery_id, number"),
            ),
            known_attempts: Statement::new(
                dialect,
                "WITH k (tenant, accepted_at, delivery_id, number) AS (",
                4,
                match dialect {
                    Dialect::Sqlite => KNOWN_ATTEMPTS_SQLITE,
                    Dialect::Postgres => KNOWN_ATTEMPTS_POSTGRES,
                },
            ),
            // Of two accounts of an attempt, the one begun last stays.
            attempts: Statement::new(
                dialect,
                &attempts,
                10,
                "ON CONFLICT (tenant, accepted_at, delivery_id, number) DO UPDATE SET started_at = excluded.started_at, \
                 duration_ms = excluded.duration_ms, status_code = excluded.status_code, \
                 error = excluded.error, response = excluded.response, \
                 response_headers = excluded.response_headers \
                 WHERE (excluded.started_at, excluded.duration_ms) \
                 > (attempts.started_at, attempts.duration_ms)",
            ),
            cells: Cells::new(dialect),
        }
    }
}

impl History {
    /// Writes records in one transaction: all or none. Their order does not matter, nor that some
    /// come again: a delivery only moves forward (more attempts win; after equally many, an end
    /// beats retrying beats pending), and each is counted once.
    ///
    /// # Errors
    /// `Unavailable`; nothing was written then, and the same call may be repeated.
    pub async fn write(&self, records: &[HistoryRecord]) -> Result<(), CatalogError> {
        if records.is_empty() {
            return Ok(());
        }
        let rows = fold(records);
        bounded(async {
            let reasons = self.reasons(records).await?;
            let mut write = self.db.begin_of_all().await?;
            write.rows(rows.deliveries.len());
            let on = write.on();
            let statements = &*self.statements;
            let mut changes = Changes::default();
            statements.write_events(on, &rows.events, &reasons).await?;
            let places = statements
                .write_deliveries(on, &rows.deliveries, &mut changes)
                .await?;
            statements
                .write_attempts(on, &rows.attempts, &places, &mut changes)
                .await?;
            statements.cells.settle(on, changes).await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }
}

impl Statements {
    /// Writes events: mostly new ones, so whether some were there is asked only when fewer were put in than came.
    async fn write_events(
        &self,
        on: &mut AnyConnection,
        rows: &BTreeMap<(&str, &str), &EventRecord>,
        reasons: &Reasons<'_>,
    ) -> Result<(), CatalogError> {
        let bind = |to: &mut AnyArguments, event: &&EventRecord| {
            bind_event(to, event, unmatched::word(reasons, event));
        };
        if self.new_events.count(on, rows.values(), bind).await? < rows.len() as u64 {
            self.events.run(on, rows.values(), bind).await?;
        }
        Ok(())
    }

    /// Writes deliveries; answers what each is counted as, which is what the database has of it: a second account of
    /// a delivery changes neither its event type nor its time.
    async fn write_deliveries(
        &self,
        on: &mut AnyConnection,
        rows: &BTreeMap<DeliveryId, Delivery<'_>>,
        changes: &mut Changes,
    ) -> Result<BTreeMap<DeliveryId, Kind>, CatalogError> {
        let mut kinds: BTreeMap<DeliveryId, Kind> = BTreeMap::new();
        let answer = self.new_deliveries.run(on, rows.iter(), bind_delivery).await?;
        let mut new = BTreeSet::new();
        for row in &answer {
            new.insert(row.try_get::<&str, _>(0)?);
        }
        let mut known = Vec::new();
        for (id, delivery) in rows {
            let kind = kind(
                delivery.tenant.as_str(),
                delivery.target.0,
                &storable(delivery.event_type),
            );
            if new.contains(id.as_str()) {
                let change = changes.of(&kind, delivery.accepted_at.0);
                change.delivery(delivery.status.as_str(), 1);
            } else {
                known.push(id);
            }
            kinds.insert(id.clone(), kind);
        }
        let found = self
            .known_deliveries
            .run(on, known.into_iter(), |to, id| bind(to, id.as_str()))
            .await?;
        let mut further = Vec::new();
        for row in &found {
            let Some((id, delivery)) = rows.get_key_value(&DeliveryId::from_text(row.try_get(0)?)) else {
                continue;
            };
            let kind = kind(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let was: &str = row.try_get(7)?;
            if delivery.standing() > (row.try_get(5)?, Millis(row.try_get(6)?), was) {
                let change = changes.of(&kind, row.try_get(4)?);
                change.delivery(was, -1);
                change.delivery(delivery.status.as_str(), 1);
                further.push((id, delivery));
            }
            kinds.insert(id.clone(), kind);
        }
        self.deliveries
            .run(on, further.into_iter(), bind_delivery)
            .await?;
        Ok(kinds)
    }

    async fn write_attempts(
        &self,
        on: &mut AnyConnection,
        rows: &BTreeMap<AttemptKey<'_>, &Attempt>,
        kinds: &BTreeMap<DeliveryId, Kind>,
        changes: &mut Changes,
    ) -> Result<(), CatalogError> {
        let answer = self.new_attempts.run(on, rows.iter(), bind_attempt).await?;
        let mut new = BTreeSet::new();
        for row in &answer {
            new.insert(attempt_key(row)?);
        }
        let mut known = Vec::new();
        for (key, attempt) in rows {
            if !new.contains(key) {
                known.push(key);
            } else if let Some(kind) = kinds.get(&key.delivery_id) {
                let change = changes.of(kind, attempt.started_at.0);
                change.attempt(outcome(attempt), attempt.duration_ms, 1);
            }
        }
        let found = self
            .known_attempts
            .run(on, known.into_iter(), bind_attempt_key)
            .await?;
        let mut later = Vec::new();
        for row in &found {
            let Some((key, attempt)) = rows.get_key_value(&attempt_key(row)?) else {
                continue;
            };
            let (began, took): (i64, i64) = (row.try_get(4)?, row.try_get(5)?);
            if (attempt.started_at.0, i64::from(attempt.duration_ms)) <= (began, took) {
                continue;
            }
            if let Some(kind) = kinds.get(&key.delivery_id) {
                let status_code: Option<i64> = row.try_get(6)?;
                let status_code = status_code.and_then(|status| u16::try_from(status).ok());
                let was = outcome_of(status_code, row.try_get(7)?);
                changes.of(kind, began).attempt(was, unsigned(row, 5)?, -1);
                let change = changes.of(kind, attempt.started_at.0);
                change.attempt(outcome(attempt), attempt.duration_ms, 1);
            }
            later.push((key, attempt));
        }
        self.attempts.run(on, later.into_iter(), bind_attempt).await?;
        Ok(())
    }
}

fn kind(tenant: &str, target: i64, event_type: &str) -> Kind {
    Kind {
        tenant: tenant.into(),
        target,
        event_type: event_type.into(),
    }
}

fn attempt_key(row: &AnyRow) -> Result<AttemptKey<'_>, CatalogError> {
    Ok(AttemptKey {
        tenant: row.try_get(0)?,
        accepted_at: Millis(row.try_get(1)?),
        delivery_id: DeliveryId::from_text(row.try_get(2)?),
        number: unsigned(row, 3)?,
    })
}

fn bind_attempt_key(to: &mut AnyArguments, key: &AttemptKey<'_>) {
    bind(to, key.tenant);
    bind(to, key.accepted_at.0);
    bind(to, key.delivery_id.as_str());
    bind(to, i64::from(key.number));
}

fn bind_event(to: &mut AnyArguments, event: &EventRecord, unmatched: Option<&str>) {
    bind(to, event.tenant.as_str());
    bind(to, event.event_id.as_str());
    bind(to, &*storable(&event.event_type));
    bind(to, event.accepted_at.0);
    bind(to, i64::try_from(event.payload_size).unwrap_or(i64::MAX));
    bind(to, &*storable(&event.content_type));
    bind(to, &*storable(&event.position.topic));
    bind(to, i64::from(event.position.partition));
    bind(to, event.position.offset);
    bind(to, unmatched);
}

fn bind_delivery(to: &mut AnyArguments, (id, delivery): (&DeliveryId, &Delivery<'_>)) {
    bind(to, id.as_str());
    bind(to, delivery.tenant.as_str());
    bind(to, delivery.event_id.as_str());
    bind(to, delivery.target.0);
    bind(to, &*storable(delivery.event_type));
    bind(to, delivery.accepted_at.0);
    bind(to, delivery.status.as_str());
    bind(to, delivery.progress);
    bind(to, delivery.next_at.map(|at| at.0));
    bind(to, delivery.updated_at.0);
}

fn bind_attempt(to: &mut AnyArguments, (key, attempt): (&AttemptKey<'_>, &&Attempt)) {
    bind_attempt_key(to, key);
    bind(to, attempt.started_at.0);
    bind(to, i64::from(attempt.duration_ms));
    bind(to, attempt.status_code.map(i64::from));
    bind(to, attempt.error.as_deref().map(storable).as_deref());
    bind(to, attempt.response.as_deref().map(storable).as_deref());
    // JSON escapes what a database does not store.
    let headers = (!attempt.headers.is_empty()).then(|| serde_json::json!(attempt.headers).to_string());
    bind(to, headers.as_deref());
}
