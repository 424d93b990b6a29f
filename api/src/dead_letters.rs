//! `/webhooks/dead-letters`: deliveries that were given up.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::deliveries::DeliveryBody;
use crate::history_query::DeadLetterParams;
use crate::idempotency::Once;
use crate::json::{Checks, Json};
use crate::page::{Cursor, List, MAX_LIMIT, Params};
use crate::problem::Problem;
use crate::replays::{ReplayBody, check_target, no_such_target, one, target_id};
use crate::resend::resendable;
use axum::extract::State;
use http::StatusCode;
use platform::replays::{NewReplay, Which};
use schemas::delivery::DeliveryStatus;
use schemas::ids::{TargetId, Tenant};
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "dead letters";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_dead_letters))
        .routes(routes!(redrive))
}

/// List dead letters
///
/// Deliveries that were given up, newest event first: those with status `exhausted`. Each can be looked at, with
/// its attempts, at `/webhooks/deliveries/{id}`.
#[utoipa::path(get, path = "/webhooks/dead-letters", tag = TAG, params(DeadLetterParams),
    responses((status = 200, description = "One page of deliveries.", body = List<DeliveryBody>)))]
async fn list_dead_letters(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<DeadLetterParams>,
) -> Result<Json<List<DeliveryBody>>, Problem> {
    let (limit, query) = params.check()?;
    let rows = server.parts.history.deliveries(&caller.tenant, &query).await?;
    Ok(Json(List::of(rows, limit, |row| {
        Cursor::Moment(row.accepted_at, row.id.as_str().to_owned())
    })))
}

/// Which dead letters to send again: all, those of one target, or one.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"targetId": 186_243_735_552_001_i64}))]
struct Redrive {
    /// Only those of this target.
    target_id: Option<i64>,
    /// Only this one.
    delivery_id: Option<String>,
}

/// The replays that send dead letters again, one for each target.
#[derive(Serialize, ToSchema)]
struct Redriven {
    /// The replays made, at most 250.
    items: Vec<ReplayBody>,
    /// Whether there are dead letters of more targets: ask again.
    more: bool,
}

/// Redrive dead letters
///
/// Sends deliveries that were given up once more, in the background, as a replay of each target's: at the same
/// rates, with the same ids, attempts numbered on, and a new retry window that begins when each is sent. Targets
/// that are disabled, not verified or gone keep their dead letters. A delivery that fails again is a dead letter
/// again; in the dead-letter queue, which is for the operator, it stays the one message it was.
#[utoipa::path(post, path = "/webhooks/dead-letters/redrive", tag = TAG, request_body = Redrive,
    responses((status = 202, description = "They will be sent.", body = Redriven),
        (status = 404, description = "There is no delivery with this id, or it is another tenant's."),
        (status = 409, description = "The target is disabled, not verified, or gone; the delivery is no dead letter; \
            or 1,000 replays are not done yet."),
        (status = 410, description = "The event log no longer holds the delivery's event.")))]
async fn redrive(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<Redrive>,
) -> Result<(StatusCode, Json<Redriven>), Problem> {
    let (parts, tenant) = (&server.parts, &caller.tenant);
    let mut checks = Checks::default();
    let target = body
        .target_id
        .and_then(|id| checks.take("targetId", target_id(id).map(Some)));
    if body.target_id.is_some() && body.delivery_id.is_some() {
        checks.fail("deliveryId", "not together with targetId");
    }
    checks.finish()?;
    let (new, more) = match (target, body.delivery_id) {
        (_, Some(id)) => {
            let row = resendable(&server, tenant, &id).await?;
            if row.status != DeliveryStatus::Exhausted {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    format!("the delivery is {}, and no dead letter", row.status.as_str()),
                ));
            }
            (vec![one(row.id, row.target, row.accepted_at)], false)
        }
        (Some(target), None) => {
            check_target(&parts.catalog, tenant, target, no_such_target).await?;
            (vec![exhausted(target, parts.clock.now())], false)
        }
        (None, None) => all(&server, tenant).await?,
    };
    let replays = server.replays_by(&caller).under(once.claim());
    let made = replays.create(tenant, new).await?;
    let items = made.into_iter().map(ReplayBody::from).collect();
    Ok((StatusCode::ACCEPTED, Json(Redriven { items, more })))
}

/// A replay for each target with dead letters that takes deliveries and has none under way; and whether
/// there are more of them.
async fn all(server: &Shared, tenant: &Tenant) -> Result<(Vec<NewReplay>, bool), Problem> {
    let parts = &server.parts;
    let now = parts.clock.now();
    let targets = parts.history.targets_given_up(tenant, MAX_LIMIT + 1).await?;
    let most = MAX_LIMIT as usize;
    let more = targets.len() > most;
    let new = targets
        .into_iter()
        .take(most)
        .map(|target| exhausted(target, now));
    Ok((new.collect(), more))
}

fn exhausted(target: TargetId, now: Millis) -> NewReplay {
    NewReplay {
        target,
        which: Which::Exhausted,
        delivery: None,
        from: Millis(0),
        to: now,
    }
}
