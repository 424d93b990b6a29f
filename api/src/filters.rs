//! `/webhooks/filters`: which event types somebody wants.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::conditions::{IfMatch, Tagged, tag};
use crate::idempotency::Once;
use crate::json::{Checks, Json, change};
use crate::page::{Cursor, DeleteParams, Id, List, PageParams, Params};
use crate::problem::Problem;
use crate::text::{Time, name};
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::{ETAG, LOCATION};
use platform::catalog::{Change, Filter};
use schemas::ids::FilterId;
use schemas::pattern;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "filters";
/// A filter has at most so many patterns.
const MAX_PATTERNS: usize = 500;

/// Which event types: one exactly, those beneath a prefix that ends in `.*`, or all (`*`).
#[derive(ToSchema)]
#[schema(value_type = String, example = "core.orders.*", max_length = 256,
    pattern = r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)$")]
#[allow(dead_code, reason = "describes what schemas::pattern::check takes")]
pub(crate) struct EventPattern(String);

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_filters, create_filter))
        .routes(routes!(get_filter, patch_filter, delete_filter))
}

/// A filter: the event types somebody wants.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Filter, example = json!({
    "id": 186_243_735_552_002_i64, "name": "orders", "events": ["core.orders.*", "core.refunds.created.v1"],
    "createdAt": "2026-01-31T23:59:59.123Z", "updatedAt": "2026-01-31T23:59:59.123Z"
}))]
pub(crate) struct FilterBody {
    /// Its id: a number below 2^53.
    id: i64,
    /// What it is called.
    name: String,
    /// Exact event types, prefixes ending in `.*`, or `*`.
    #[schema(value_type = Vec<EventPattern>)]
    events: Vec<String>,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
}

impl From<Filter> for FilterBody {
    fn from(filter: Filter) -> Self {
        Self {
            id: filter.id.0,
            name: filter.name,
            events: filter.events,
            created_at: Time(filter.created_at),
            updated_at: Time(filter.updated_at),
        }
    }
}

/// A filter to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FilterToMake, example = json!({"name": "orders", "events": ["core.orders.*"]}))]
pub(crate) struct NewFilterBody {
    /// What it is called: 1 to 200 characters.
    #[schema(value_type = String, required = true, min_length = 1, max_length = 200)]
    name: Option<String>,
    /// 1 to 500 exact event types, prefixes ending in `.*`, or `*`.
    #[schema(value_type = Vec<EventPattern>, required = true, min_items = 1, max_items = 500)]
    events: Option<Vec<String>>,
}

impl NewFilterBody {
    /// Checks the fields: name and patterns.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub(crate) fn check(self) -> Result<(String, Vec<String>), Problem> {
        let mut checks = Checks::default();
        let name = checks.required("name", self.name, name);
        let events = match self.events {
            Some(events) => patterns(&mut checks, events),
            None => checks.require("events", None),
        };
        checks.finish()?;
        Ok((name, events))
    }
}

/// What to change of a filter: a field left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FilterChange, example = json!({"events": ["core.orders.*", "core.refunds.*"]}))]
struct FilterPatchBody {
    /// What it is called.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200)]
    name: Change<String>,
    /// All its patterns: those not named here go.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Vec<EventPattern>, required = false, min_items = 1, max_items = 500)]
    events: Change<Vec<String>>,
}

/// Patterns, checked, each once, in the order given.
pub(crate) fn patterns(checks: &mut Checks, events: Vec<String>) -> Vec<String> {
    if events.is_empty() {
        checks.fail("events", "is empty; name at least one event type, prefix.* or *");
    }
    if events.len() > MAX_PATTERNS {
        checks.fail(
            "events",
            format!("has {} items; at most {MAX_PATTERNS} fit", events.len()),
        );
    }
    let mut patterns: Vec<String> = Vec::with_capacity(events.len().min(MAX_PATTERNS));
    let mut seen = std::collections::HashSet::new();
    for (index, event) in events.into_iter().enumerate().take(MAX_PATTERNS) {
        if let Err(error) = pattern::check(&event) {
            checks.fail(format!("events[{index}]"), error);
        } else if seen.insert(event.clone()) {
            patterns.push(event);
        }
    }
    patterns
}

/// List filters
///
/// All filters of the tenant, newest first.
#[utoipa::path(get, path = "/webhooks/filters", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of filters.", body = List<FilterBody>)))]
async fn list_filters(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<PageParams>,
) -> Result<Json<List<FilterBody>>, Problem> {
    let (limit, page) = params.by_id()?;
    let rows = server.parts.catalog.list_filters(&caller.tenant, page).await?;
    Ok(Json(List::of(rows, limit, |filter| Cursor::Id(filter.id.0))))
}

/// Create a filter
///
/// A filter does nothing by itself: subscriptions tie it to targets.
#[utoipa::path(post, path = "/webhooks/filters", tag = TAG, request_body = NewFilterBody,
    responses((status = 201, description = "The filter.", body = FilterBody,
        headers(("location" = String, description = "The filter's path.")))))]
async fn create_filter(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<NewFilterBody>,
) -> Result<impl IntoResponse, Problem> {
    let (name, events) = body.check()?;
    let filter = server
        .by(&caller)
        .under(once.claim())
        .create_filter(&caller.tenant, name, events)
        .await?;
    let location = format!("{}/webhooks/filters/{}", server.config.base_path, filter.id);
    let filter = FilterBody::from(filter);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location), (ETAG, tag(&filter))],
        Json(filter),
    ))
}

/// Get a filter
///
/// Its name and the event types it wants.
#[utoipa::path(get, path = "/webhooks/filters/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The filter's id.", example = 186_243_735_552_002_i64)),
    responses((status = 200, description = "The filter.", body = FilterBody)))]
async fn get_filter(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Tagged<FilterBody>, Problem> {
    let filter = server
        .parts
        .catalog
        .get_filter(&caller.tenant, FilterId(id))
        .await?;
    Ok(Tagged(filter.into()))
}

/// Change a filter
///
/// Fields left out stay as they are. Applies to events published from now on.
#[utoipa::path(patch, path = "/webhooks/filters/{id}", tag = TAG, request_body = FilterPatchBody,
    params(("id" = i64, Path, description = "The filter's id.", example = 186_243_735_552_002_i64)),
    responses((status = 200, description = "The filter as it is now.", body = FilterBody)))]
async fn patch_filter(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
    Json(body): Json<FilterPatchBody>,
) -> Result<Tagged<FilterBody>, Problem> {
    let mut checks = Checks::default();
    let name = checks.change("name", body.name, name);
    let events = match body.events {
        Change::Keep => Change::Keep,
        Change::Set(events) => Change::Set(patterns(&mut checks, events)),
    };
    checks.finish()?;
    let filter = server
        .by(&caller)
        .expecting(if_match.0)
        .patch_filter(&caller.tenant, FilterId(id), name, events)
        .await?;
    Ok(Tagged(filter.into()))
}

/// Delete a filter
///
/// A filter that subscriptions use is kept, and they are named, unless `cascade=true` deletes them
/// too.
#[utoipa::path(delete, path = "/webhooks/filters/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The filter's id.", example = 186_243_735_552_002_i64), DeleteParams),
    responses((status = 204, description = "It is gone."),
        (status = 409, description = "Subscriptions use it: `errors` names them.")))]
async fn delete_filter(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, Problem> {
    let cascade = params.cascade()?;
    server
        .by(&caller)
        .expecting(if_match.0)
        .delete_filter(&caller.tenant, FilterId(id), cascade)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
