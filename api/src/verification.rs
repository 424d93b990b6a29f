//! `/webhooks/targets/{id}/verify` and `/test`: requests to a target that are no deliveries.

use crate::access::Manages;
use crate::auth::Caller;
use crate::conditions::Tagged;
use crate::idempotency::Once;
use crate::json::{Checks, Json};
use crate::page::Id;
use crate::problem::Problem;
use crate::target_fields::TargetBody;
use crate::{Config, Server, Shared};
use axum::extract::State;
use platform::catalog::{CatalogError, Target};
use platform::prober;
use schemas::ids::TargetId;
use schemas::outcome::reason;
use schemas::target::TargetState;
use schemas::verification::Verification;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "targets";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(verify_target))
        .routes(routes!(test_target))
}

/// How a target proves that it wants deliveries.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = Verification)]
#[allow(dead_code, reason = "describes schemas::verification::Verification")]
pub enum VerificationWord {
    /// Not at all.
    None,
    /// `GET` with `crc_token` in the query, to be answered with the token's HMAC.
    Crc,
    /// `POST` of a challenge, to be repeated.
    Echo,
    /// `OPTIONS` with `WebHook-Request-Origin`, to be allowed.
    CloudEvents,
}

/// The way a target proves itself: as it says, or as the server does.
pub fn allowed(checks: &mut Checks, given: Option<Verification>, config: &Config) -> Verification {
    let method = given.unwrap_or(config.verification);
    if method == Verification::None && config.verification != Verification::None {
        checks.fail(
            "verification",
            format!(
                "none is not allowed here: leave it out for {}, or name another way",
                config.verification.as_str()
            ),
        );
    }
    if method == Verification::CloudEvents && !config.has_origin {
        checks.fail(
            "verification",
            "cloudevents is not to be had here, since this server has no name (delivery.origin): crc or echo",
        );
    }
    method
}

/// Puts a target that has yet to prove itself to its challenge; the target as it is then. What goes wrong
/// meanwhile leaves it unverified, and it is asked again.
pub async fn challenged(server: &Server, caller: &Caller, target: Target) -> Target {
    if target.state != TargetState::Unverified || target.request.verification == Verification::None {
        return target;
    }
    let catalog = &server.by(caller);
    let asked = async {
        if let Some(details) = catalog.target_details(target.id).await? {
            // What it said is in the target, read again below.
            let _ = prober::ask(catalog, &*server.parts.prober, &details).await?;
        }
        catalog.get_target(&caller.tenant, target.id).await
    };
    match asked.await {
        Ok(now) => now,
        Err(error) => {
            tracing::debug!(%error, "a challenge's result could not be kept");
            target
        }
    }
}

/// Verify a target
///
/// Puts it to its challenge now. One that proves itself is active from then on, unless it is disabled.
/// 409 when it does not, or has no way to: `detail` says why.
#[utoipa::path(post, path = "/webhooks/targets/{id}/verify", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "It has proved itself.", body = TargetBody),
        (status = 409, description = "It has not.")))]
async fn verify_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    _: Once,
    Id(id): Id,
) -> Result<Tagged<TargetBody>, Problem> {
    let catalog = &server.by(&caller);
    let target = catalog.get_target(&caller.tenant, TargetId(id)).await?;
    if target.request.verification == Verification::None {
        return Err(CatalogError::Conflict(
            "this target needs no verification: set its `verification` to crc, echo or cloudevents first"
                .to_owned(),
        )
        .into());
    }
    let Some(details) = catalog.target_details(target.id).await? else {
        return Err(CatalogError::NotFound.into());
    };
    match prober::ask(catalog, &*server.parts.prober, &details).await? {
        Ok(()) => Ok(Tagged(
            catalog.get_target(&caller.tenant, target.id).await?.into(),
        )),
        Err(why) => Err(CatalogError::Conflict(why.to_string()).into()),
    }
}

/// What became of a test.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"delivered": false, "statusCode": 500, "error": "http_500", "response": "oops", "durationMs": 12}))]
struct TestResult {
    /// Whether the answer was 2xx.
    delivered: bool,
    /// The answer's status; null where there was none.
    status_code: Option<u16>,
    /// Why it was not delivered, as a short word; null where it was.
    error: Option<String>,
    /// The beginning of the answer's body.
    response: Option<String>,
    /// How long it took.
    duration_ms: u64,
}

/// Test a target
///
/// Sends it a signed example now, of type `hookwright.test`, and answers with what came of it. It is no delivery:
/// not in history, and never tried again. Disabled and unverified targets can be tested too.
#[utoipa::path(post, path = "/webhooks/targets/{id}/test", tag = TAG,
    params(("id" = i64, Path, description = "The target's id.", example = 186_243_735_552_001_i64)),
    responses((status = 200, description = "What the target answered.", body = TestResult)))]
async fn test_target(
    State(server): State<Shared>,
    Manages(caller): Manages,
    _: Once,
    Id(id): Id,
) -> Result<Json<TestResult>, Problem> {
    let catalog = &server.parts.catalog;
    // The tenant's own, or none.
    let target = catalog.get_target(&caller.tenant, TargetId(id)).await?;
    let Some(details) = catalog.target_details(target.id).await? else {
        return Err(CatalogError::NotFound.into());
    };
    let tested = server.parts.prober.test(&details).await;
    let delivered = matches!(tested.answer, Ok(200..=299));
    Ok(Json(TestResult {
        delivered,
        status_code: tested.answer.ok(),
        error: (!delivered).then(|| reason(tested.answer)),
        response: tested.excerpt,
        duration_ms: u64::try_from(tested.took.as_millis()).unwrap_or(u64::MAX),
    }))
}
