//! Rows into the database in few statements.
//!
//! Each statement costs SQLite a thread hop and Postgres a round trip, so a statement carries many
//! rows: powers of two up to [`MOST_ROWS`], so that few different ones stay prepared whatever the
//! length of a batch.

use super::History;
use super::fold::{AttemptKey, Delivery, fold, storable};
use crate::catalog::CatalogError;
use crate::catalog::db::{Dialect, bind, bounded};
use schemas::history::{Attempt, EventRecord, HistoryRecord};
use schemas::ids::DeliveryId;
use sqlx::any::AnyArguments;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::sync::Arc;

/// Rows in one statement at most.
const MOST_ROWS: usize = 64;

/// The statements that put rows in, or further.
pub(super) struct Upserts {
    events: Upsert,
    deliveries: Upsert,
    attempts: Upsert,
}

impl Upserts {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            // Of two accounts of an event, the one accepted first stays.
            events: Upsert::new(
                dialect,
                "INSERT INTO events (tenant, id, event_type, accepted_at, payload_size, content_type, \
                 log_topic, log_partition, log_offset)",
                9,
                "ON CONFLICT (tenant, id) DO UPDATE SET event_type = excluded.event_type, \
                 accepted_at = excluded.accepted_at, payload_size = excluded.payload_size, \
                 content_type = excluded.content_type, log_topic = excluded.log_topic, \
                 log_partition = excluded.log_partition, log_offset = excluded.log_offset \
                 WHERE (excluded.accepted_at, excluded.log_topic, excluded.log_partition, excluded.log_offset) \
                 < (events.accepted_at, events.log_topic, events.log_partition, events.log_offset)",
            ),
            // Only ever forward. What cannot change is not set: it would cost an index entry.
            deliveries: Upsert::new(
                dialect,
                "INSERT INTO deliveries (id, tenant, event_id, target, event_type, accepted_at, status, \
                 progress, next_at, updated_at)",
                10,
                "ON CONFLICT (id) DO UPDATE SET status = excluded.status, progress = excluded.progress, \
                 next_at = excluded.next_at, updated_at = excluded.updated_at \
                 WHERE (excluded.progress, excluded.updated_at, excluded.status) \
                 > (deliveries.progress, deliveries.updated_at, deliveries.status)",
            ),
            // Of two accounts of an attempt, the one begun last stays.
            attempts: Upsert::new(
                dialect,
                "INSERT INTO attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms, \
                 status_code, error, response, response_headers)",
                10,
                "ON CONFLICT (tenant, accepted_at, delivery_id, number) DO UPDATE SET started_at = excluded.started_at, \
                 duration_ms = excluded.duration_ms, status_code = excluded.status_code, \
                 error = excluded.error, response = excluded.response, \
                 response_headers = excluded.response_headers \
                 WHERE (excluded.started_at, excluded.duration_ms) \
                 > (attempts.started_at, attempts.duration_ms)",
            ),
        }
    }
}

impl History {
    /// Writes records in one transaction: all or none. Their order does not matter, nor that some
    /// come again: a delivery only moves forward (more attempts win; after equally many, an end
    /// beats retrying beats pending).
    ///
    /// # Errors
    /// `Unavailable`; nothing was written then, and the same call may be repeated.
    pub async fn write(&self, records: &[HistoryRecord]) -> Result<(), CatalogError> {
        if records.is_empty() {
            return Ok(());
        }
        let rows = fold(records);
        bounded(async {
            let mut write = self.db.begin().await?;
            let on = write.on();
            let Upserts {
                events,
                deliveries,
                attempts,
            } = &*self.upserts;
            events.run(on, rows.events.into_values(), bind_event).await?;
            deliveries
                .run(on, rows.deliveries.into_iter(), bind_delivery)
                .await?;
            attempts.run(on, rows.attempts.into_iter(), bind_attempt).await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }
}

/// One table's insert-or-update, for each number of rows.
struct Upsert {
    /// For 64 rows, 32, 16, … 1.
    statements: Vec<(usize, Arc<str>)>,
}

impl Upsert {
    fn new(dialect: Dialect, insert: &str, columns: usize, conflict: &str) -> Self {
        let mut statements = Vec::new();
        let mut rows = MOST_ROWS;
        while rows > 0 {
            let mut sql = format!("{insert} VALUES ");
            for row in 0..rows {
                sql.push_str(if row == 0 { "(" } else { ", (" });
                for column in 1..=columns {
                    sql.push_str(if column == 1 { "" } else { ", " });
                    match dialect {
                        // To SQLite `$1` is a name, which it looks up in a list for each value: half
                        // the time of a statement with hundreds of them.
                        Dialect::Sqlite => sql.push('?'),
                        Dialect::Postgres => {
                            sql.push('$');
                            sql.push_str(&(row * columns + column).to_string());
                        }
                    }
                }
                sql.push(')');
            }
            sql.push(' ');
            sql.push_str(conflict);
            statements.push((rows, sql.into()));
            rows /= 2;
        }
        Self { statements }
    }

    /// Writes all rows, as many at a time as a statement takes.
    async fn run<R>(
        &self,
        on: &mut AnyConnection,
        mut rows: impl ExactSizeIterator<Item = R>,
        bind_row: impl Fn(&mut AnyArguments, R),
    ) -> Result<(), CatalogError> {
        for (count, sql) in &self.statements {
            while rows.len() >= *count {
                let mut arguments = AnyArguments::default();
                for row in rows.by_ref().take(*count) {
                    bind_row(&mut arguments, row);
                }
                sqlx::query_with(AssertSqlSafe(sql.clone()), arguments)
                    .execute(&mut *on)
                    .await?;
            }
        }
        Ok(())
    }
}

fn bind_event(to: &mut AnyArguments, event: &EventRecord) {
    bind(to, event.tenant.as_str());
    bind(to, event.event_id.as_str());
    bind(to, &*storable(&event.event_type));
    bind(to, event.accepted_at.0);
    bind(to, i64::try_from(event.payload_size).unwrap_or(i64::MAX));
    bind(to, &*storable(&event.content_type));
    bind(to, &*storable(&event.position.topic));
    bind(to, i64::from(event.position.partition));
    bind(to, event.position.offset);
}

fn bind_delivery(to: &mut AnyArguments, (id, delivery): (DeliveryId, Delivery<'_>)) {
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

fn bind_attempt(to: &mut AnyArguments, (key, attempt): (AttemptKey<'_>, &Attempt)) {
    bind(to, key.tenant);
    bind(to, key.accepted_at.0);
    bind(to, key.delivery_id.as_str());
    bind(to, i64::from(key.number));
    bind(to, attempt.started_at.0);
    bind(to, i64::from(attempt.duration_ms));
    bind(to, attempt.status_code.map(i64::from));
    bind(to, attempt.error.as_deref().map(storable).as_deref());
    bind(to, attempt.response.as_deref().map(storable).as_deref());
    // JSON escapes what a database does not store.
    let headers = (!attempt.headers.is_empty()).then(|| serde_json::json!(attempt.headers).to_string());
    bind(to, headers.as_deref());
}
