//! `/webhooks/deliveries`: what became of each event at each target.

use crate::Shared;
use crate::access::Reads;
use crate::history_query::DeliveryParams;
use crate::json::Json;
use crate::page::{Cursor, List, Name, Params};
use crate::problem::Problem;
use crate::text::Time;
use axum::extract::State;
use platform::history::{AttemptRow, DeliveryRow};
use schemas::delivery::DeliveryStatus;
use schemas::ids::DeliveryId;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "deliveries";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_deliveries))
        .routes(routes!(get_delivery))
}

/// A delivery: one event on its way to one target.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery, example = json!({
    "id": "dlv_0f2a163e1df6ac11a3fd38aee9c27cc6", "eventId": "evt_01KDJ0W4KZ5QJ6V3T8Y2N7R1MB",
    "targetId": 186_243_735_552_001_i64, "eventType": "core.orders.created.v1", "status": "retrying",
    "attemptCount": 2, "acceptedAt": "2026-01-31T23:59:59.123Z", "nextAttemptAt": "2026-02-01T00:00:20.500Z",
    "updatedAt": "2026-02-01T00:00:05.400Z", "lastStatusCode": 503, "lastError": null
}))]
pub(crate) struct DeliveryBody {
    /// Its id, sent as `webhook-delivery-id`.
    id: String,
    /// The event, sent as `webhook-id`.
    event_id: String,
    /// The target.
    target_id: i64,
    /// What happened.
    event_type: String,
    /// How far it has come.
    #[schema(value_type = StatusWord)]
    status: DeliveryStatus,
    /// Attempts made.
    attempt_count: u32,
    /// When the event was accepted.
    accepted_at: Time,
    /// When the next attempt is due; null unless it is retrying.
    next_attempt_at: Option<Time>,
    /// When the status was last changed.
    updated_at: Time,
    /// The HTTP status of the last attempt's answer.
    last_status_code: Option<u16>,
    /// Why there was no answer the last time: `timeout`, `connect`, `tls`, `dns`, `blocked`, `protocol`, `payload_missing`.
    last_error: Option<String>,
}

/// How far a delivery has come.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = DeliveryStatus)]
#[allow(dead_code, reason = "describes schemas::delivery::DeliveryStatus")]
enum StatusWord {
    /// Queued, not yet tried.
    Pending,
    /// Tried without success; waits for the next attempt.
    Retrying,
    /// Answered with 2xx.
    Delivered,
    /// Given up: in the dead-letter queue.
    Exhausted,
    /// The target is gone, disabled or not verified.
    Canceled,
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id.as_str().to_owned(),
            event_id: row.event_id.as_str().to_owned(),
            target_id: row.target.0,
            event_type: row.event_type,
            status: row.status,
            attempt_count: row.attempts,
            accepted_at: Time(row.accepted_at),
            next_attempt_at: row.next_at.map(Time),
            updated_at: Time(row.updated_at),
            last_status_code: row.last_status_code,
            last_error: row.last_error,
        }
    }
}

/// One POST, and what came of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt, example = json!({
    "number": 1, "startedAt": "2026-01-31T23:59:59.140Z", "durationMs": 213, "statusCode": 503, "error": null,
    "response": "try again later", "responseHeaders": {"content-type": "text/plain", "retry-after": "60"}
}))]
struct AttemptBody {
    /// Its number, from 1, sent as `webhook-attempt`.
    number: u32,
    /// When it began.
    started_at: Time,
    /// How long it took, in milliseconds.
    duration_ms: u32,
    /// The answer's HTTP status; null when there was no answer.
    status_code: Option<u16>,
    /// Why there was none: `timeout`, `connect`, `tls`, `dns`, `blocked`, `protocol`, `payload_missing`.
    error: Option<String>,
    /// The beginning of the answer's body, at most 1 KiB.
    response: Option<String>,
    /// Its `content-type`, `location`, `retry-after` and `server`, where it has them, at most 256 bytes of each.
    response_headers: BTreeMap<String, String>,
}

impl From<AttemptRow> for AttemptBody {
    fn from(row: AttemptRow) -> Self {
        Self {
            number: row.number,
            started_at: Time(row.attempt.started_at),
            duration_ms: row.attempt.duration_ms,
            status_code: row.attempt.status_code,
            error: row.attempt.error,
            response: row.attempt.response,
            response_headers: row.attempt.headers.into_iter().collect(),
        }
    }
}

/// A delivery as a story: accepted, each attempt with what came of it, and what comes next.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryWithAttempts)]
struct DeliveryStory {
    #[serde(flatten)]
    delivery: DeliveryBody,
    /// The attempts, the first one first.
    attempts: Vec<AttemptBody>,
}

/// List deliveries
///
/// All deliveries of the tenant that fit the filters, newest event first. History follows within
/// moments: what happened just now may not be there yet.
#[utoipa::path(get, path = "/webhooks/deliveries", tag = TAG, params(DeliveryParams),
    responses((status = 200, description = "One page of deliveries.", body = List<DeliveryBody>)))]
async fn list_deliveries(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<List<DeliveryBody>>, Problem> {
    let (limit, query) = params.check()?;
    let rows = server.parts.history.deliveries(&caller.tenant, &query).await?;
    Ok(Json(List::of(rows, limit, |row| {
        Cursor::Moment(row.accepted_at, row.id.as_str().to_owned())
    })))
}

/// Get a delivery
///
/// When its event was accepted, each attempt with its time, status and answer, and when the next
/// one is due.
#[utoipa::path(get, path = "/webhooks/deliveries/{id}", tag = TAG,
    params(("id" = String, Path, description = "The delivery's id.", example = "dlv_0f2a163e1df6ac11a3fd38aee9c27cc6")),
    responses((status = 200, description = "The delivery with its attempts.", body = DeliveryStory)))]
async fn get_delivery(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Name(id): Name,
) -> Result<Json<DeliveryStory>, Problem> {
    if !may_be_delivery_id(&id) {
        return Err(Problem::not_found());
    }
    let id = DeliveryId::from_text(&id);
    let delivery = server.parts.history.delivery(&caller.tenant, &id).await?;
    let attempts = server.parts.history.attempts(&caller.tenant, &id).await?;
    Ok(Json(DeliveryStory {
        delivery: delivery.into(),
        attempts: attempts.into_iter().map(AttemptBody::from).collect(),
    }))
}

/// Whether text looks like a delivery's id. Not all text may be asked of a database.
pub(crate) fn may_be_delivery_id(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
