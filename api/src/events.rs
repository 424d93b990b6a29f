//! `/webhooks/events`: what happened, in and back.

use crate::Shared;
use crate::access::{Publishes, Reads};
use crate::deliveries::DeliveryBody;
use crate::history_query::EventParams;
use crate::json::{Json, MediaType, media_type, read_body};
use crate::page::{Cursor, List, MAX_LIMIT, Name, Params};
use crate::problem::Problem;
use crate::publish::{self, MAX_BULK_BODY, NewEvent};
use crate::publish_once::NewIds;
use crate::text::Time;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use platform::history::{DeliveryQuery, EventRow, Unmatched};
use schemas::ids::EventId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "events";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_events, publish_events))
        .routes(routes!(get_event))
}

/// What was accepted is durable, and will be delivered to every target that wants it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"id": "evt_01KDJ0W4KZ5QJ6V3T8Y2N7R1MB"}))]
enum Accepted {
    /// Of a request with one event.
    One {
        /// Its id.
        id: String,
    },
    /// Of a request with many.
    Many {
        /// Their ids, in the order of the lines.
        ids: Vec<String>,
    },
}

/// Publish events
///
/// One event as `application/json`, or up to 10,000 as `application/x-ndjson`, one a line, 32 MiB
/// at most. The answer comes once the event log has all of them on disk; if any is refused or the
/// log does not answer, none is accepted. After a 503 or a broken connection send the same events
/// with the same ids again: receivers recognise a repeated event by its id. With an `idempotency-key` events that
/// name no id have the same one each time the request comes; whichever server has accepted it lately does not even
/// append it again.
///
/// History follows within moments: an event accepted just now may not be found there yet.
#[utoipa::path(post, path = "/webhooks/events", tag = TAG, security(("apiKey" = ["publish"])),
    request_body(content(
        (NewEvent<'static> = "application/json"),
        (String = "application/x-ndjson", example = json!(concat!(
            r#"{"type":"core.orders.created.v1","payload":{"orderId":42}}"#, "\n",
            r#"{"type":"core.orders.paid.v1","payload":{"orderId":42},"id":"order-42-paid"}"#, "\n"))))),
    params(("traceparent" = Option<String>, Header, example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        description = "A W3C trace context, passed on with each delivery.")),
    responses((status = 202, description = "Accepted: `id` for one event, `ids` for many.",
        body = Accepted)))]
async fn publish_events(
    State(server): State<Shared>,
    Publishes(caller): Publishes,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let topic = &server.config.topic;
    // Escapes may make a payload longer in the request than it is.
    let one = server.config.max_payload * 2 + 64 * 1024;
    let kind = media_type(&parts.headers)?;
    let limit = match kind {
        MediaType::Json => one,
        MediaType::Ndjson => MAX_BULK_BODY.max(one),
    };
    let body = read_body(body, limit).await?;
    let asked = server.published.ask(&caller, &parts.headers, &body).await?;
    let ids = match &asked {
        Some(asked) => NewIds::Derived(&caller.tenant, asked.key),
        None => NewIds::Drawn(&server.parts.clock),
    };
    let (accepted, records) = match kind {
        MediaType::Json => {
            let (id, record) = publish::one(&server, &caller, &parts.headers, &body, &ids)?;
            (Accepted::One { id }, vec![record])
        }
        MediaType::Ndjson => {
            let (ids, records) = publish::many(&server, &caller, &parts.headers, &body, &ids)?;
            (Accepted::Many { ids }, records)
        }
    };
    if !asked.as_ref().is_some_and(|asked| asked.is_known) {
        server.append(topic, records).await?;
    }
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if let Some(asked) = &asked {
        server.published.accepted(asked).await;
        asked.mark(&mut response);
    }
    Ok(response)
}

/// An event as history knows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event, example = json!({
    "id": "evt_01KDJ0W4KZ5QJ6V3T8Y2N7R1MB", "type": "core.orders.created.v1",
    "acceptedAt": "2026-01-31T23:59:59.123Z", "payloadSize": 31, "contentType": "application/json", "targets": 2, "unmatched": null,
    "position": {"topic": "webhook-events", "partition": 0, "offset": 4711}
}))]
struct EventBody {
    /// Its id.
    id: String,
    /// What happened.
    #[serde(rename = "type")]
    event_type: String,
    /// When it was accepted.
    accepted_at: Time,
    /// The payload's length in bytes.
    payload_size: u64,
    /// The payload's media type.
    content_type: String,
    /// How many targets it matched.
    targets: u64,
    /// Why it went to nobody, as seen when it was recorded: `no_filter` (no filter names its type), `no_subscription`,
    /// `subscription_inactive`, `target_disabled`, `target_unverified`, `matched_since` (something wanted it by then) or
    /// `unknown`; null if it has targets, or was recorded by a release that did not ask.
    #[schema(example = "no_filter")]
    unmatched: Option<&'static str>,
    /// Its place in the event log.
    position: PositionBody,
}

/// An event's place in the event log.
#[derive(Serialize, ToSchema)]
#[schema(as = Position)]
struct PositionBody {
    /// The topic.
    topic: String,
    /// The partition within the topic.
    partition: i32,
    /// The offset within the partition.
    offset: i64,
}

impl From<EventRow> for EventBody {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.as_str().to_owned(),
            event_type: row.event_type,
            accepted_at: Time(row.accepted_at),
            payload_size: row.payload_size,
            content_type: row.content_type,
            targets: row.targets,
            unmatched: row.unmatched.map(Unmatched::as_str),
            position: PositionBody {
                topic: row.position.topic.as_ref().to_owned(),
                partition: row.position.partition,
                offset: row.position.offset,
            },
        }
    }
}

/// An event and its deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = EventWithDeliveries)]
struct EventStory {
    #[serde(flatten)]
    event: EventBody,
    /// Its deliveries, one for each target it matched; the first 250. The others are listed by
    /// `/webhooks/deliveries?eventId=…`.
    deliveries: Vec<DeliveryBody>,
}

/// List events
///
/// All events of the tenant, newest first, as far back as history is kept. History follows within
/// moments: an event accepted just now may not be there yet.
#[utoipa::path(get, path = "/webhooks/events", tag = TAG, params(EventParams),
    responses((status = 200, description = "One page of events.", body = List<EventBody>)))]
async fn list_events(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<EventParams>,
) -> Result<Json<List<EventBody>>, Problem> {
    let (limit, query) = params.check()?;
    let rows = server.parts.history.events(&caller.tenant, &query).await?;
    Ok(Json(List::of(rows, limit, |row| {
        Cursor::Moment(row.accepted_at, row.id.as_str().to_owned())
    })))
}

/// Get an event
///
/// The event and what became of it at each target. History follows within moments: an event
/// accepted just now may answer 404 for a second or two.
#[utoipa::path(get, path = "/webhooks/events/{id}", tag = TAG,
    params(("id" = String, Path, description = "The event's id.", example = "evt_01KDJ0W4KZ5QJ6V3T8Y2N7R1MB")),
    responses((status = 200, description = "The event with its deliveries.", body = EventStory)))]
async fn get_event(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Name(id): Name,
) -> Result<Json<EventStory>, Problem> {
    let id = EventId::new(&id).map_err(|_| Problem::not_found())?;
    let event = server.parts.history.event(&caller.tenant, &id).await?;
    let query = DeliveryQuery {
        event: Some(id),
        limit: MAX_LIMIT,
        ..DeliveryQuery::default()
    };
    let deliveries = server.parts.history.deliveries(&caller.tenant, &query).await?;
    Ok(Json(EventStory {
        event: event.into(),
        deliveries: deliveries.into_iter().map(DeliveryBody::from).collect(),
    }))
}
