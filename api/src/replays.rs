//! `/webhooks/replays`: events of a time, sent to one target again.

use crate::Shared;
use crate::access::{Manages, Reads};
use crate::auth::Caller;
use crate::history_query::range;
use crate::idempotency::Once;
use crate::json::{Checks, Json};
use crate::page::{Cursor, Id, List, PageParams, Params};
use crate::problem::{FieldError, Problem};
use crate::text::Time;
use axum::extract::State;
use http::StatusCode;
use platform::catalog::{Catalog, CatalogError};
use platform::replays::{NewReplay, Replay, ReplayState, Which};
use schemas::ids::{DeliveryId, MAX_NUMERIC_ID, TargetId, Tenant};
use schemas::target::TargetState;
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "replays";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_replays, create_replay))
        .routes(routes!(get_replay, stop_replay))
}

/// What to send again.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewReplay, example = json!({
    "targetId": 186_243_735_552_001_i64, "from": "2026-01-27T00:00:00Z", "to": "2026-01-28T00:00:00Z",
    "status": "missed"
}))]
struct NewReplayBody {
    /// The target.
    #[schema(value_type = i64)]
    target_id: Option<i64>,
    /// Events accepted at or after this.
    #[schema(value_type = String, format = DateTime)]
    from: Option<String>,
    /// Events accepted before this; now, when left out or in the future.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Which of them:
    /// `missed`: those that match the target's subscriptions now and were not delivered to it, also those that
    /// did not match then, and those whose retries still wait;
    /// `failed`: those whose delivery was given up or canceled;
    /// `all`: all that match now, delivered or not.
    #[schema(value_type = AskedFor)]
    status: Option<String>,
}

/// Which events.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = ReplayStatus)]
#[allow(dead_code, reason = "describes platform::replays::Which")]
enum AskedFor {
    /// Those not delivered.
    Missed,
    /// Those given up or canceled.
    Failed,
    /// All that match.
    All,
}

impl NewReplayBody {
    fn check(self, now: Millis) -> Result<NewReplay, Problem> {
        let mut checks = Checks::default();
        let target = checks.required("targetId", self.target_id, |id| target_id(id).map(Some));
        let (from, to) = range(&mut checks, self.from.as_deref(), self.to.as_deref());
        if self.from.is_none() {
            checks.fail("from", "is missing");
        }
        if from.is_some_and(|from| from >= now) {
            checks.fail("from", "is in the future");
        }
        let which = checks.required("status", self.status, |text| {
            let which = Which::from_word(&text)
                .filter(|which| matches!(which, Which::Missed | Which::Failed | Which::All));
            which
                .map(Some)
                .ok_or_else(|| format!("{text:?} is none of missed, failed and all"))
        });
        checks.finish()?;
        let missing = || Problem::invalid(Vec::new());
        Ok(NewReplay {
            target: target.ok_or_else(missing)?,
            which: which.ok_or_else(missing)?,
            delivery: None,
            from: from.ok_or_else(missing)?,
            to: to.map_or(now, |to| to.min(now)),
        })
    }
}

/// Checks a target's id given as a number.
pub(crate) fn target_id(id: i64) -> Result<TargetId, String> {
    if (1..=MAX_NUMERIC_ID).contains(&id) {
        Ok(TargetId(id))
    } else {
        Err(format!("{id} is not a target's id"))
    }
}

/// A replay, and how far it has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Replay, example = json!({
    "id": 186_243_735_559_002_i64, "targetId": 186_243_735_552_001_i64, "status": "missed", "deliveryId": null,
    "from": "2026-01-27T00:00:00.000Z", "to": "2026-01-28T00:00:00.000Z", "state": "running", "error": null,
    "progress": {"percent": 41, "examined": 3120, "sent": 812, "lost": 0},
    "createdAt": "2026-02-01T09:00:00.000Z", "updatedAt": "2026-02-01T09:00:17.250Z"
}))]
pub(crate) struct ReplayBody {
    /// Its id.
    id: i64,
    /// The target.
    target_id: i64,
    /// What is sent: `missed`, `failed` or `all` as asked for; `exhausted` for a redrive, `one` for a resend.
    #[schema(value_type = String)]
    status: &'static str,
    /// The delivery, of a resend.
    delivery_id: Option<String>,
    /// Events accepted at or after this.
    from: Time,
    /// Events accepted before this.
    to: Time,
    /// How far it has come.
    #[schema(value_type = StateWord)]
    state: &'static str,
    /// Why it failed: the target is gone or disabled, or the log no longer holds all that was still to be read.
    error: Option<String>,
    /// What came of it so far.
    progress: Progress,
    /// When it was asked for.
    created_at: Time,
    /// When it was last worked on.
    updated_at: Time,
}

/// How far a replay has come.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = ReplayState)]
#[allow(dead_code, reason = "describes platform::replays::ReplayState")]
enum StateWord {
    /// Not begun.
    Waiting,
    /// Begun, and not at its end.
    Running,
    /// Everything was sent.
    Done,
    /// Given up; `error` says why. What was sent before stays sent.
    Failed,
    /// Stopped by a DELETE. What was sent before stays sent.
    Canceled,
}

/// What came of a replay so far.
#[derive(Serialize, ToSchema)]
struct Progress {
    /// How much of the time, or of the deliveries, is done: 0 to 100.
    percent: u32,
    /// Events or deliveries looked at that might be sent.
    examined: u64,
    /// Deliveries sent. What became of them is their own story.
    sent: u64,
    /// Deliveries that could not be sent: the log no longer holds the event.
    lost: u64,
}

impl From<Replay> for ReplayBody {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id,
            target_id: replay.target.0,
            status: replay.which.as_str(),
            delivery_id: replay.delivery.map(|id| id.as_str().to_owned()),
            from: Time(replay.from),
            to: Time(replay.to),
            state: ReplayState::as_str(replay.state),
            error: replay.error,
            progress: Progress {
                percent: replay.percent,
                examined: replay.counts.examined,
                sent: replay.counts.sent,
                lost: replay.counts.lost,
            },
            created_at: Time(replay.created_at),
            updated_at: Time(replay.updated_at),
        }
    }
}

/// Whether deliveries can be sent to a target.
///
/// # Errors
/// `gone` for one that is not there, 409 for one that takes none.
pub(crate) async fn check_target(
    catalog: &Catalog,
    tenant: &Tenant,
    id: TargetId,
    gone: impl FnOnce() -> Problem,
) -> Result<(), Problem> {
    match catalog.get_target(tenant, id).await {
        Ok(target) if target.state == TargetState::Active => Ok(()),
        Ok(target) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!("target {id} is {} and takes no deliveries", target.state.as_str()),
        )),
        Err(CatalogError::NotFound) => Err(gone()),
        Err(error) => Err(error.into()),
    }
}

/// 422 for a target that is not there.
pub(crate) fn no_such_target() -> Problem {
    Problem::invalid(vec![FieldError::new("targetId", "there is no such target")])
}

/// A replay of one delivery, whenever its event was accepted.
pub(crate) fn one(delivery: DeliveryId, target: TargetId, accepted_at: Millis) -> NewReplay {
    NewReplay {
        target,
        which: Which::One,
        delivery: Some(delivery),
        from: accepted_at,
        to: Millis(accepted_at.0.saturating_add(1)),
    }
}

/// Replay events
///
/// Sends events of a time to one target again, from the event log, in the background: at no more than
/// `replay.rate` deliveries a second, and no more than the target's own `rateLimit`. Deliveries keep their ids,
/// so that a receiver that has seen one knows it; their attempts are numbered on, and each has a new retry
/// window. The event log's retention is how far back one can go: where it no longer holds the beginning of the
/// time, the replay fails and says so, and nothing is sent; where it deletes events before the replay has come to them, it
/// fails there.
///
/// What was delivered is known from history: an event that history has forgotten (30 days, unless configured otherwise)
/// counts as missed. What is sent while a delivery's retries still wait comes beside them. Of the replays to one target one is
/// worked on at a time, by turns of a few seconds.
#[utoipa::path(post, path = "/webhooks/replays", tag = TAG, request_body = NewReplayBody,
    responses((status = 202, description = "It will be done. Ask for it by its id to see how far it is.", body = ReplayBody),
        (status = 409, description = "The target is disabled or not verified, or 1,000 replays are not done yet.")))]
async fn create_replay(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Json(body): Json<NewReplayBody>,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let new = body.check(server.parts.clock.now())?;
    check_target(&server.parts.catalog, &caller.tenant, new.target, no_such_target).await?;
    accept(&server, &caller, &once, new).await
}

/// Makes one replay, and answers with it.
pub(crate) async fn accept(
    server: &Shared,
    caller: &Caller,
    once: &Once,
    new: NewReplay,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let replays = server.replays_by(caller).under(once.claim());
    let made = replays.create(&caller.tenant, vec![new]).await?;
    let replay = made.into_iter().next().ok_or_else(Problem::not_found)?;
    Ok((StatusCode::ACCEPTED, Json(replay.into())))
}

/// List replays
///
/// Resends and redrives are replays too. Those at their end are kept for 30 days.
#[utoipa::path(get, path = "/webhooks/replays", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of replays.", body = List<ReplayBody>)))]
async fn list_replays(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<PageParams>,
) -> Result<Json<List<ReplayBody>>, Problem> {
    let (limit, page) = params.by_id()?;
    let rows = server.parts.replays.list(&caller.tenant, page).await?;
    Ok(Json(List::of(rows, limit, |row| Cursor::Id(row.id))))
}

/// Get a replay
///
/// How far it has come.
#[utoipa::path(get, path = "/webhooks/replays/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The replay's id.", example = 186_243_735_559_002_i64)),
    responses((status = 200, description = "The replay.", body = ReplayBody)))]
async fn get_replay(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Id(id): Id,
) -> Result<Json<ReplayBody>, Problem> {
    let replay = server.parts.replays.get(&caller.tenant, id).await?;
    Ok(Json(replay.into()))
}

/// Stop a replay
///
/// Within about a second nothing more is sent; what was sent stays so. The replay can still be looked up. One
/// that is at its end stays as it is.
#[utoipa::path(delete, path = "/webhooks/replays/{id}", tag = TAG,
    params(("id" = i64, Path, description = "The replay's id.", example = 186_243_735_559_002_i64)),
    responses((status = 204, description = "It is stopped, or at its end.")))]
async fn stop_replay(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    server.replays_by(&caller).cancel(&caller.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
