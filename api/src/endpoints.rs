//! `/webhooks/endpoints`: target, filter and subscription in one, for who wants it simple.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::conditions::{IfMatch, Tagged, tag};
use crate::filters::{EventPattern, patterns};
use crate::idempotency::Once;
use crate::json::{Checks, Json, change};
use crate::page::{Cursor, Id, List, PageParams, Params};
use crate::problem::Problem;
use crate::target_fields::address;
use crate::text::Time;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::{ETAG, LOCATION};
use platform::catalog::{Change, Endpoint, NewTarget};
use schemas::ids::TargetId;
use schemas::target::{RequestOptions, TargetState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "endpoints";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_endpoints, create_endpoint))
        .routes(routes!(get_endpoint, patch_endpoint, delete_endpoint))
}

/// An endpoint: target, filter and subscription in one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Endpoint, example = json!({
    "id": 186_243_735_552_001_i64, "url": "https://example.com/hooks", "events": ["core.orders.*"],
    "disabled": false, "createdAt": "2026-01-31T23:59:59.123Z", "updatedAt": "2026-01-31T23:59:59.123Z"
}))]
pub(crate) struct EndpointBody {
    /// The target's id.
    id: i64,
    /// The target's address, normalised.
    url: String,
    /// All event types the target is subscribed to, sorted.
    #[schema(value_type = Vec<EventPattern>)]
    events: Vec<String>,
    /// Whether the target is disabled.
    disabled: bool,
    /// When the target was made.
    created_at: Time,
    /// When the target was last changed.
    updated_at: Time,
}

impl From<Endpoint> for EndpointBody {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id.0,
            url: endpoint.url,
            events: endpoint.events,
            disabled: endpoint.disabled,
            created_at: Time(endpoint.created_at),
            updated_at: Time(endpoint.updated_at),
        }
    }
}

/// An endpoint, and the secret its deliveries are signed with.
#[derive(Serialize, ToSchema)]
#[schema(as = NewEndpoint)]
struct EndpointWithSecret {
    #[serde(flatten)]
    endpoint: EndpointBody,
    /// The signing secret (Standard Webhooks `v1`). Shown this once.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
}

/// An endpoint to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = EndpointToMake, example = json!({"url": "https://example.com/hooks", "events": ["core.orders.*"]}))]
struct NewEndpointBody {
    /// Where to POST: `https`, a public host, no user or password.
    #[schema(value_type = String, required = true)]
    url: Option<String>,
    /// 1 to 500 exact event types, prefixes ending in `.*`, or `*`.
    #[schema(value_type = Vec<EventPattern>, required = true, min_items = 1, max_items = 500)]
    events: Option<Vec<String>>,
    /// Whether it starts switched off; false when left out.
    disabled: Option<bool>,
}

/// What to change of an endpoint: a field left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = EndpointChange, example = json!({"events": ["core.orders.*", "core.refunds.*"]}))]
struct EndpointPatchBody {
    /// Where to POST.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = String, required = false)]
    url: Change<String>,
    /// All its event types: those not named here go.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Vec<EventPattern>, required = false, min_items = 1, max_items = 500)]
    events: Change<Vec<String>>,
    /// Whether it is switched off.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = bool, required = false)]
    disabled: Change<bool>,
}

/// List endpoints
///
/// All targets of the tenant as endpoints, newest first.
#[utoipa::path(get, path = "/webhooks/endpoints", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of endpoints.", body = List<EndpointBody>)))]
async fn list_endpoints(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<PageParams>,
) -> Result<Json<List<EndpointBody>>, Problem> {
    let (limit, page) = params.by_id()?;
    let rows = server.parts.catalog.list_endpoints(&caller.tenant, page).await?;
    Ok(Json(List::of(rows, limit, |endpoint| Cursor::Id(endpoint.id.0))))
}

/// Create an endpoint
///
/// Makes a target, a filter and a subscription at once. The answer carries the signing secret, the
/// only time it is shown. For headers, a rate limit or a retry policy of its own, change the target
/// with the same id.
#[utoipa::path(post, path = "/webhooks/endpoints", tag = TAG, request_body = NewEndpointBody,
    responses((status = 201, description = "The endpoint, with its secret.", body = EndpointWithSecret,
        headers(("location" = String, description = "The endpoint's path.")))))]
async fn create_endpoint(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<NewEndpointBody>,
) -> Result<impl IntoResponse, Problem> {
    let mut checks = Checks::default();
    let url = checks.required("url", body.url, |url| address(url, &server.config));
    let events = match body.events {
        Some(events) => patterns(&mut checks, events),
        None => checks.require("events", None),
    };
    checks.finish()?;
    let new = NewTarget {
        state: match body.disabled {
            Some(true) => TargetState::Disabled,
            Some(false) | None => TargetState::Active,
        },
        request: RequestOptions {
            verification: server.config.verification,
            ..RequestOptions::default()
        },
        ..NewTarget::at(url)
    };
    let (endpoint, secret) = server
        .by(&caller)
        .under(once.claim())
        .create_endpoint(&caller.tenant, new, events)
        .await?;
    let location = format!("{}/webhooks/endpoints/{}", server.config.base_path, endpoint.id);
    let endpoint = EndpointBody::from(endpoint);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location), (ETAG, tag(&endpoint))],
        Json(EndpointWithSecret { endpoint, secret }),
    ))
}

/// Get an endpoint
///
/// The target with this id, and all event types it is subscribed to.
#[utoipa::path(get, path = "/webhooks/endpoints/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The endpoint.", body = EndpointBody)))]
async fn get_endpoint(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Tagged<EndpointBody>, Problem> {
    let endpoint = server
        .parts
        .catalog
        .get_endpoint(&caller.tenant, TargetId(id))
        .await?;
    Ok(Tagged(endpoint.into()))
}

/// Change an endpoint
///
/// Fields left out stay as they are. Event types apply to events published from now on.
#[utoipa::path(patch, path = "/webhooks/endpoints/{id}", tag = TAG, request_body = EndpointPatchBody,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The endpoint as it is now.", body = EndpointBody)))]
async fn patch_endpoint(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
    Json(body): Json<EndpointPatchBody>,
) -> Result<Tagged<EndpointBody>, Problem> {
    let mut checks = Checks::default();
    let url = checks.change("url", body.url, |url| address(url, &server.config));
    let events = match body.events {
        Change::Keep => Change::Keep,
        Change::Set(events) => Change::Set(patterns(&mut checks, events)),
    };
    checks.finish()?;
    let endpoint = server
        .by(&caller)
        .expecting(if_match.0)
        .patch_endpoint(&caller.tenant, TargetId(id), url, events, body.disabled)
        .await?;
    Ok(Tagged(endpoint.into()))
}

/// Delete an endpoint
///
/// Its target goes, the target's subscriptions, and the filters that only it used.
#[utoipa::path(delete, path = "/webhooks/endpoints/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 204, description = "It is gone.")))]
async fn delete_endpoint(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    server
        .by(&caller)
        .expecting(if_match.0)
        .delete_endpoint(&caller.tenant, TargetId(id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
