//! `/webhooks/subscriptions`: which target gets what which filter wants.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::conditions::{IfMatch, Tagged, tag};
use crate::idempotency::Once;
use crate::json::{Checks, Json, change};
use crate::page::{Cursor, Id, List, PageParams, Params};
use crate::problem::Problem;
use crate::text::Time;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::{ETAG, LOCATION};
use platform::catalog::{Change, Subscription};
use schemas::ids::{FilterId, SubscriptionId, TargetId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "subscriptions";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_subscriptions, create_subscription))
        .routes(routes!(get_subscription, patch_subscription, delete_subscription))
}

/// A subscription: this target gets what this filter wants.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription, example = json!({
    "id": 186_243_735_552_003_i64, "targetId": 186_243_735_552_001_i64, "filterId": 186_243_735_552_002_i64,
    "active": true, "createdAt": "2026-01-31T23:59:59.123Z", "updatedAt": "2026-01-31T23:59:59.123Z"
}))]
pub(crate) struct SubscriptionBody {
    /// Its id: a number below 2^53.
    id: i64,
    /// The target.
    target_id: i64,
    /// The filter.
    filter_id: i64,
    /// Whether it counts.
    active: bool,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
}

impl From<Subscription> for SubscriptionBody {
    fn from(subscription: Subscription) -> Self {
        Self {
            id: subscription.id.0,
            target_id: subscription.target.0,
            filter_id: subscription.filter.0,
            active: subscription.active,
            created_at: Time(subscription.created_at),
            updated_at: Time(subscription.updated_at),
        }
    }
}

/// A subscription to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionToMake,
    example = json!({"targetId": 186_243_735_552_001_i64, "filterId": 186_243_735_552_002_i64}))]
struct NewSubscriptionBody {
    /// The target.
    #[schema(value_type = i64, required = true)]
    target_id: Option<i64>,
    /// The filter.
    #[schema(value_type = i64, required = true)]
    filter_id: Option<i64>,
    /// Whether it counts; true when left out.
    active: Option<bool>,
}

/// What to change of a subscription: a field left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionChange, example = json!({"active": false}))]
struct SubscriptionPatchBody {
    /// The target.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = i64, required = false)]
    target_id: Change<i64>,
    /// The filter.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = i64, required = false)]
    filter_id: Change<i64>,
    /// Whether it counts.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = bool, required = false)]
    active: Change<bool>,
}

/// List subscriptions
///
/// All subscriptions of the tenant, newest first.
#[utoipa::path(get, path = "/webhooks/subscriptions", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of subscriptions.", body = List<SubscriptionBody>)))]
async fn list_subscriptions(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<PageParams>,
) -> Result<Json<List<SubscriptionBody>>, Problem> {
    let (limit, page) = params.by_id()?;
    let rows = server
        .parts
        .catalog
        .list_subscriptions(&caller.tenant, page)
        .await?;
    Ok(Json(List::of(rows, limit, |row| Cursor::Id(row.id.0))))
}

/// Create a subscription
///
/// From now on the target gets each event that the filter wants. An event that several
/// subscriptions of one target match is delivered to it once.
#[utoipa::path(post, path = "/webhooks/subscriptions", tag = TAG, request_body = NewSubscriptionBody,
    responses((status = 201, description = "The subscription.", body = SubscriptionBody,
        headers(("location" = String, description = "The subscription's path."))),
        (status = 409, description = "There is one for this target and filter.")))]
async fn create_subscription(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<NewSubscriptionBody>,
) -> Result<impl IntoResponse, Problem> {
    let mut checks = Checks::default();
    let target = TargetId(checks.require("targetId", body.target_id));
    let filter = FilterId(checks.require("filterId", body.filter_id));
    checks.finish()?;
    let subscription = server
        .by(&caller)
        .under(once.claim())
        .create_subscription(&caller.tenant, target, filter, body.active.unwrap_or(true))
        .await?;
    let location = format!(
        "{}/webhooks/subscriptions/{}",
        server.config.base_path, subscription.id
    );
    let subscription = SubscriptionBody::from(subscription);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location), (ETAG, tag(&subscription))],
        Json(subscription),
    ))
}

/// Get a subscription
///
/// The target and the filter it ties together.
#[utoipa::path(get, path = "/webhooks/subscriptions/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The subscription's id.", example = 186_243_735_552_003_i64)),
    responses((status = 200, description = "The subscription.", body = SubscriptionBody)))]
async fn get_subscription(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Tagged<SubscriptionBody>, Problem> {
    let row = server
        .parts
        .catalog
        .get_subscription(&caller.tenant, SubscriptionId(id))
        .await?;
    Ok(Tagged(row.into()))
}

/// Change a subscription
///
/// Fields left out stay as they are. Applies to events published from now on.
#[utoipa::path(patch, path = "/webhooks/subscriptions/{id}", tag = TAG, request_body = SubscriptionPatchBody,
    params(("id" = i64, Path, description = "The subscription's id.", example = 186_243_735_552_003_i64)),
    responses((status = 200, description = "The subscription as it is now.", body = SubscriptionBody),
        (status = 409, description = "There is another one for this target and filter.")))]
async fn patch_subscription(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
    Json(body): Json<SubscriptionPatchBody>,
) -> Result<Tagged<SubscriptionBody>, Problem> {
    let target = match body.target_id {
        Change::Keep => Change::Keep,
        Change::Set(id) => Change::Set(TargetId(id)),
    };
    let filter = match body.filter_id {
        Change::Keep => Change::Keep,
        Change::Set(id) => Change::Set(FilterId(id)),
    };
    let row = server
        .by(&caller)
        .expecting(if_match.0)
        .patch_subscription(&caller.tenant, SubscriptionId(id), body.active, target, filter)
        .await?;
    Ok(Tagged(row.into()))
}

/// Delete a subscription
///
/// Its target and filter stay.
#[utoipa::path(delete, path = "/webhooks/subscriptions/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The subscription's id.", example = 186_243_735_552_003_i64)),
    responses((status = 204, description = "It is gone.")))]
async fn delete_subscription(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    server
        .by(&caller)
        .expecting(if_match.0)
        .delete_subscription(&caller.tenant, SubscriptionId(id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
