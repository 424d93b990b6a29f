//! `/webhooks/deliveries/{id}/resend`: one delivery, sent again.

use crate::Shared;
use crate::access::Manages;
use crate::deliveries::may_be_delivery_id;
use crate::idempotency::Once;
use crate::json::Json;
use crate::outages::Dependency;
use crate::page::Name;
use crate::problem::Problem;
use crate::replays::{ReplayBody, accept, check_target, one};
use axum::extract::State;
use http::StatusCode;
use platform::event_log::LogError;
use platform::history::DeliveryRow;
use schemas::ids::{DeliveryId, Tenant};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(resend_delivery))
}

/// Resend a delivery
///
/// Sends it once more, whatever became of it, from the event log: a replay of one delivery, which the answer
/// names. Delivery and event keep their ids, attempts are numbered on, and it has a new retry window. A
/// delivery that is still on its way is sent in addition: what waits still comes.
#[utoipa::path(post, path = "/webhooks/deliveries/{id}/resend", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery's id.", example = "dlv_0f2a163e1df6ac11a3fd38aee9c27cc6")),
    responses((status = 202, description = "It will be sent.", body = ReplayBody),
        (status = 409, description = "The target was deleted, is disabled, or not verified."),
        (status = 410, description = "The event log no longer holds the event.")))]
async fn resend_delivery(
    State(server): State<Shared>,
    Manages(caller): Manages,
    once: Once,
    Name(id): Name,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let row = resendable(&server, &caller.tenant, &id).await?;
    accept(&server, &caller, &once, one(row.id, row.target, row.accepted_at)).await
}

/// The delivery, if it can be sent again.
///
/// # Errors
/// 404 for one that is not there, 409 where its target takes none, 410 where the log no longer has its event.
pub(crate) async fn resendable(server: &Shared, tenant: &Tenant, id: &str) -> Result<DeliveryRow, Problem> {
    if !may_be_delivery_id(id) {
        return Err(Problem::not_found());
    }
    let parts = &server.parts;
    let (row, place) = parts.history.placed(tenant, &DeliveryId::from_text(id)).await?;
    let target = row.target;
    let deleted = || Problem::new(StatusCode::CONFLICT, format!("target {target} was deleted"));
    check_target(&parts.catalog, tenant, target, deleted).await?;
    let held = match place {
        Some(place) => parts.log.read_at(&place).await.map_err(unread)?.is_some(),
        None => false,
    };
    if held {
        Ok(row)
    } else {
        Err(Problem::new(
            StatusCode::GONE,
            "the event log no longer holds this delivery's event",
        ))
    }
}

fn unread(error: LogError) -> Problem {
    let (LogError::Unavailable(cause) | LogError::Refused(cause)) = error;
    Problem::unavailable(
        "the event log does not answer; nothing was sent, try again in a moment",
        Dependency::EventLog,
        cause,
    )
}
