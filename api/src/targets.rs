//! `/webhooks/targets`: where deliveries go.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::conditions::{IfMatch, Tagged, tag};
use crate::idempotency::Once;
use crate::json::{Checks, Json};
use crate::page::{Cursor, DeleteParams, Id, List, PageParams, Params};
use crate::problem::Problem;
use crate::target_fields::{NewTargetBody, TargetBody, TargetPatchBody, TargetWithSecret};
use crate::text::{Span, Time};
use crate::verification::challenged;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::{ETAG, LOCATION};
use platform::catalog::{Change, TargetPatch};
use schemas::ids::TargetId;
use schemas::target::{Scheme, TargetState};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "targets";
/// How long old secrets go on signing after a rotation that does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// How long old secrets go on signing at most.
const MOST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_targets, create_target))
        .routes(routes!(get_target, patch_target, delete_target))
        .routes(routes!(rotate_secret))
        .routes(routes!(public_keys))
        .routes(routes!(enable_target))
        .routes(routes!(disable_target))
}

/// List targets
///
/// All targets of the tenant, newest first.
#[utoipa::path(get, path = "/webhooks/targets", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of targets.", body = List<TargetBody>)))]
async fn list_targets(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<PageParams>,
) -> Result<Json<List<TargetBody>>, Problem> {
    let (limit, page) = params.by_id()?;
    let rows = server.parts.catalog.list_targets(&caller.tenant, page).await?;
    Ok(Json(List::of(rows, limit, |target| Cursor::Id(target.id.0))))
}

/// Create a target
///
/// The answer carries the signing secret, the only time it is shown. The target gets deliveries
/// once a subscription ties it to a filter. The address must be https on a public host, unless the
/// server's configuration allows otherwise.
#[utoipa::path(post, path = "/webhooks/targets", tag = TAG, request_body = NewTargetBody,
    responses((status = 201, description = "The target, with its secret.", body = TargetWithSecret,
        headers(("location" = String, description = "The target's path.")))))]
async fn create_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<NewTargetBody>,
) -> Result<impl IntoResponse, Problem> {
    let new = body.check(&server.config)?;
    let catalog = server.by(&caller).under(once.claim());
    let (target, secret) = catalog.create_target(&caller.tenant, new).await?;
    let location = format!("{}/webhooks/targets/{}", server.config.base_path, target.id);
    let target = TargetBody::from(challenged(&server, &caller, target).await);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location), (ETAG, tag(&target))],
        Json(TargetWithSecret { target, secret }),
    ))
}

/// Get a target
///
/// All fields but the secret, which is shown only when it is made.
#[utoipa::path(get, path = "/webhooks/targets/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The target.", body = TargetBody)))]
async fn get_target(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Tagged<TargetBody>, Problem> {
    let target = server
        .parts
        .catalog
        .get_target(&caller.tenant, TargetId(id))
        .await?;
    Ok(Tagged(target.into()))
}

/// Change a target
///
/// Fields left out stay as they are; null empties a field that may be empty. What already waits to
/// be delivered goes to the new address.
#[utoipa::path(patch, path = "/webhooks/targets/{id}", tag = TAG, request_body = TargetPatchBody,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The target as it is now.", body = TargetBody)))]
async fn patch_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
    if_match: IfMatch,
    Json(body): Json<TargetPatchBody>,
) -> Result<Tagged<TargetBody>, Problem> {
    let patch = body.check(&server.config)?;
    let target = server
        .by(&caller)
        .expecting(if_match.0)
        .patch_target(&caller.tenant, TargetId(id), patch)
        .await?;
    Ok(Tagged(challenged(&server, &caller, target).await.into()))
}

/// Delete a target
///
/// A target that subscriptions use is kept, and they are named, unless `cascade=true` deletes them
/// too. Deliveries that wait for it are canceled.
#[utoipa::path(delete, path = "/webhooks/targets/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64), DeleteParams),
    responses((status = 204, description = "It is gone."),
        (status = 409, description = "Subscriptions use it: `errors` names them.")))]
async fn delete_target(
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
        .delete_target(&caller.tenant, TargetId(id), cascade)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How to rotate a secret.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"overlap": "24h"}))]
struct Rotation {
    /// How long the secrets before it go on signing too: 0s to 30 days, 24h when left out.
    overlap: Option<Span>,
}

/// A new signing secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RotatedSecret {
    /// The new secret. Shown this once.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
    /// How long the secrets before it go on signing too.
    #[schema(example = "1day")]
    overlap: Span,
}

/// Rotate a target's secret
///
/// Deliveries are signed with the new secret and, during the overlap, with the ones before it too,
/// so that the receiver may change over at any time within it. At most 10 secrets sign at once.
#[utoipa::path(post, path = "/webhooks/targets/{id}/secret", tag = TAG, request_body = Rotation,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The new secret.", body = RotatedSecret),
        (status = 409, description = "10 secrets sign already: wait until one expires.")))]
async fn rotate_secret(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Id(id): Id,
    Json(body): Json<Rotation>,
) -> Result<Json<RotatedSecret>, Problem> {
    let mut checks = Checks::default();
    let overlap = body.overlap.map_or(DEFAULT_OVERLAP, |span| {
        checks.take("overlap", span.within(Duration::ZERO, MOST_OVERLAP))
    });
    checks.finish()?;
    let secret = server
        .by(&caller)
        .under(once.claim())
        .rotate_secret(&caller.tenant, TargetId(id), overlap)
        .await?;
    Ok(Json(RotatedSecret {
        secret,
        overlap: Span(overlap),
    }))
}

/// The public keys that check a target's `v1a` signatures.
#[derive(Serialize, ToSchema)]
struct PublicKeys {
    /// Those that sign now, the newest first.
    items: Vec<PublicKey>,
}

/// A public key of signature `v1a`.
#[derive(Serialize, ToSchema)]
struct PublicKey {
    /// `whpk_` and base64 of 32 bytes.
    #[schema(example = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")]
    key: String,
    /// When it signs no more; null while it was not rotated.
    until: Option<Time>,
}

/// List a target's public keys
///
/// The keys that check its `v1a` signatures, as long as `signature` names that. They are no secret. Rotating the
/// secret makes a new one, and the ones before it go on signing as their secrets do.
#[utoipa::path(get, path = "/webhooks/targets/{id}/public-keys", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The keys.", body = PublicKeys)))]
async fn public_keys(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Json<PublicKeys>, Problem> {
    let catalog = &server.parts.catalog;
    let target = catalog.get_target(&caller.tenant, TargetId(id)).await?;
    let signs = target.request.schemes.contains(&Scheme::V1a);
    let details = catalog.target_details(target.id).await?.filter(|_| signs);
    let live = details
        .iter()
        .flat_map(|details| details.live_at(server.parts.clock.now()));
    let items = live.filter_map(|live| {
        Some(PublicKey {
            key: live.pair.as_ref()?.public_key(),
            until: live.until.map(Time),
        })
    });
    Ok(Json(PublicKeys {
        items: items.collect(),
    }))
}

/// Enable a target
///
/// It gets deliveries of events published from now on, and what failed before does not count any more.
/// Enabling an active target changes nothing; one that is not verified needs to be verified first: 409.
#[utoipa::path(post, path = "/webhooks/targets/{id}/enable", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The target as it is now.", body = TargetBody)))]
async fn enable_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    _: Once,
    Id(id): Id,
) -> Result<Tagged<TargetBody>, Problem> {
    let catalog = server.by(&caller);
    let target = catalog.enable_target(&caller.tenant, TargetId(id)).await?;
    Ok(Tagged(target.into()))
}

/// Disable a target
///
/// It gets no deliveries until it is enabled again; those that wait for it are canceled. A target is also
/// disabled when it answers 410, and when all its attempts have failed for days
/// (`delivery.disable_after`): `disabledReason` says so, and an event `hookwright.target.disabled` tells of it.
#[utoipa::path(post, path = "/webhooks/targets/{id}/disable", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "The target as it is now.", body = TargetBody)))]
async fn disable_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    _: Once,
    Id(id): Id,
) -> Result<Tagged<TargetBody>, Problem> {
    let patch = TargetPatch {
        state: Change::Set(TargetState::Disabled),
        ..TargetPatch::default()
    };
    let target = server
        .by(&caller)
        .patch_target(&caller.tenant, TargetId(id), patch)
        .await?;
    Ok(Tagged(target.into()))
}
