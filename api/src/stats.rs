//! `/webhooks/stats`: how much was delivered, how well, and how fast.

use crate::Shared;
use crate::access::Reads;
use crate::history_query::{event_type, range, target};
use crate::json::{Checks, Json};
use crate::page::{Params, Scoped};
use crate::problem::{FieldError, Problem};
use crate::text::Time;
use axum::extract::State;
use platform::history::{Bucket, GroupBy, StatsQuery, StatsRow, Tally};
use schemas::delivery::DeliveryStatus;
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TAG: &str = "stats";

/// Items in an answer at most: more than a year of hours, or a month of days for each of 300 targets.
const MOST_ITEMS: usize = 10_000;
/// What is asked for when the request does not say from when: a day of hours, or a month of days.
const HOURS: Duration = Duration::from_hours(24);
const DAYS: Duration = Duration::from_hours(24 * 30);

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(get_stats))
}

/// Which counts to give.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsParams {
    /// From the hour or day that this lies in. By default 24 hours before `to`, or 30 days where the bucket is `day`.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Up to this: hours or days that begin before it. By default now.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// What time is cut into: `hour` or `day`, in UTC.
    #[param(value_type = Option<String>, default = "hour", example = "hour")]
    bucket: Option<String>,
    /// Only this target.
    #[param(value_type = Option<i64>, example = 186_243_735_552_001_i64)]
    target_id: Option<String>,
    /// Only events of this type, exactly.
    #[param(example = "core.orders.created.v1")]
    event_type: Option<String>,
    /// What to count apart: each `target`, or each `eventType`.
    #[param(example = "target")]
    group_by: Option<String>,
}

impl Scoped for StatsParams {}

impl StatsParams {
    /// The question: for one item more than there may be.
    fn check(self, now: Millis) -> Result<StatsQuery, Problem> {
        let mut checks = Checks::default();
        let (from, to) = range(&mut checks, self.from.as_deref(), self.to.as_deref());
        let bucket = match self.bucket.as_deref() {
            None | Some("hour") => Bucket::Hour,
            Some("day") => Bucket::Day,
            Some(other) => {
                checks.fail("bucket", format!("{other:?} is neither hour nor day"));
                Bucket::Hour
            }
        };
        let group_by = self.group_by.and_then(|text| {
            let group = match text.as_str() {
                "target" => Ok(Some(GroupBy::Target)),
                "eventType" => Ok(Some(GroupBy::EventType)),
                other => Err(format!("{other:?} is neither target nor eventType")),
            };
            checks.take("groupBy", group)
        });
        let to = to.unwrap_or(now);
        let back = match bucket {
            Bucket::Hour => HOURS,
            Bucket::Day => DAYS,
        };
        let from = from.unwrap_or_else(|| {
            let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
            Millis(to.0.saturating_sub(back))
        });
        let query = StatsQuery {
            bucket,
            from: bucket.begin(from),
            to,
            target: target(&mut checks, self.target_id),
            event_type: event_type(&mut checks, self.event_type),
            group_by,
            limit: u32::try_from(MOST_ITEMS).unwrap_or(u32::MAX).saturating_add(1),
        };
        checks.finish()?;
        Ok(query)
    }
}

/// What was counted, as a whole and bucket by bucket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "from": "2026-01-31T00:00:00.000Z", "to": "2026-02-01T00:00:00.000Z",
    "total": {
        "deliveries": {"total": 1200, "pending": 0, "retrying": 4, "delivered": 1193, "exhausted": 3, "canceled": 0,
            "successRate": 0.9975},
        "attempts": {"total": 1217, "outcomes": {"2xx": 1193, "5xx": 20, "timeout": 4}, "successRate": 0.9803,
            "durationMs": {"p50": 84, "p95": 213, "p99": 1008}}},
    "items": [{
        "from": "2026-01-31T23:00:00.000Z", "targetId": 186_243_735_552_001_i64, "eventType": null,
        "deliveries": {"total": 12, "pending": 0, "retrying": 1, "delivered": 11, "exhausted": 0, "canceled": 0,
            "successRate": 1.0},
        "attempts": {"total": 14, "outcomes": {"2xx": 11, "5xx": 3}, "successRate": 0.7857,
            "durationMs": {"p50": 80, "p95": 150, "p99": 150}}}]
}))]
struct Stats {
    /// When the first bucket begins that was asked for.
    from: Time,
    /// Before when the last one begins.
    to: Time,
    /// All items together.
    total: Counts,
    /// Buckets in which something happened, the oldest first; of each as many as there are targets or event types,
    /// if those are counted apart.
    items: Vec<StatsItem>,
}

/// What was counted in one bucket, of one group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StatsItem {
    /// When the hour or day begins.
    from: Time,
    /// The target, where targets are counted apart or one was asked for.
    target_id: Option<i64>,
    /// The event type, where they are counted apart or one was asked for; `*` for those beyond the first hundred of
    /// a target in one bucket, which are counted together.
    event_type: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

/// Deliveries and attempts of one time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// Deliveries of events accepted in this time.
    deliveries: DeliveryCounts,
    /// Attempts begun in this time, whenever their events were accepted.
    attempts: AttemptCounts,
}

/// Deliveries by where they stand now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryCounts {
    /// All of them.
    total: u64,
    /// Not yet tried.
    pending: u64,
    /// Tried without success, to be tried again.
    retrying: u64,
    /// Answered with 2xx.
    delivered: u64,
    /// Given up.
    exhausted: u64,
    /// Ended because the target is gone, disabled or not verified.
    canceled: u64,
    /// Of those that have ended (delivered, exhausted or canceled) the share that was delivered; null if none has.
    success_rate: Option<f64>,
}

/// Attempts by what came of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptCounts {
    /// All of them.
    total: u64,
    /// How many by what came of them: `1xx` to `5xx` by the answer's status, or why there was no answer: `timeout`, `connect`,
    /// `tls`, `dns`, `blocked`, `protocol`, `payload_missing`, `other`. What is not there did not happen.
    outcomes: BTreeMap<String, u64>,
    /// The share answered with 2xx; null if there were none.
    success_rate: Option<f64>,
    /// How long they took, with or without an answer; null if there were none.
    duration_ms: Option<Percentiles>,
}

/// How long attempts took, in milliseconds: exact below 32 ms, within 3.2% above.
#[derive(Serialize, ToSchema)]
struct Percentiles {
    /// Half took no longer.
    p50: u32,
    /// 95% took no longer.
    p95: u32,
    /// 99% took no longer.
    p99: u32,
}

impl Counts {
    fn of(tally: &Tally) -> Self {
        let count = |status: DeliveryStatus| count(tally.deliveries.get(status.as_str()));
        let delivered = count(DeliveryStatus::Delivered);
        let exhausted = count(DeliveryStatus::Exhausted);
        let canceled = count(DeliveryStatus::Canceled);
        let outcomes = tally.attempts.iter();
        let outcomes: BTreeMap<String, u64> = outcomes
            .map(|(word, times)| (word.clone(), self::count(Some(times))))
            .collect();
        let attempts = outcomes.values().sum();
        let quantile = |share| tally.durations.quantile(share);
        let durations = (quantile(0.5), quantile(0.95), quantile(0.99));
        Self {
            deliveries: DeliveryCounts {
                total: tally
                    .deliveries
                    .values()
                    .map(|times| self::count(Some(times)))
                    .sum(),
                pending: count(DeliveryStatus::Pending),
                retrying: count(DeliveryStatus::Retrying),
                delivered,
                exhausted,
                canceled,
                success_rate: rate(delivered, delivered + exhausted + canceled),
            },
            attempts: AttemptCounts {
                total: attempts,
                success_rate: rate(outcomes.get("2xx").copied().unwrap_or(0), attempts),
                outcomes,
                duration_ms: match durations {
                    (Some(p50), Some(p95), Some(p99)) => Some(Percentiles { p50, p95, p99 }),
                    _ => None,
                },
            },
        }
    }
}

fn count(times: Option<&i64>) -> u64 {
    times.and_then(|times| u64::try_from(*times).ok()).unwrap_or(0)
}

/// A share of all, to four places; none of nothing.
fn rate(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| (part as f64 / all as f64 * 10_000.0).round() / 10_000.0)
}

impl From<StatsRow> for StatsItem {
    fn from(row: StatsRow) -> Self {
        Self {
            from: Time(row.at),
            target_id: row.target.map(|target| target.0),
            event_type: row.event_type,
            counts: Counts::of(&row.tally),
        }
    }
}

/// Get stats
///
/// How many deliveries stand where, what came of how many attempts, and how long they took: by hour or day, as a
/// whole, by target or by event type. They are counted while history is written, not when they are asked for, and are
/// kept as long as history is.
///
/// Each delivery and each attempt is counted once, as history has it. Deliveries count in the time in which their
/// event was accepted, attempts in the time in which they began. At most 10,000 items are given: with more, narrow the
/// time, or ask for one target.
#[utoipa::path(get, path = "/webhooks/stats", tag = TAG, params(StatsParams),
    responses((status = 200, description = "The counts.", body = Stats)))]
async fn get_stats(
    State(server): State<Shared>,
    Reads(caller): Reads,
    Params(params): Params<StatsParams>,
) -> Result<Json<Stats>, Problem> {
    let query = params.check(server.parts.clock.now())?;
    let rows = server.parts.history.stats(&caller.tenant, &query).await?;
    if rows.len() > MOST_ITEMS {
        return Err(Problem::invalid(vec![FieldError::new(
            "from",
            format!(
                "there are more than {MOST_ITEMS} items from {} to {}: ask for a shorter time, for bucket=day or for one \
                 target or event type",
                query.from.to_rfc3339(),
                query.to.to_rfc3339()
            ),
        )]));
    }
    let mut total = Tally::default();
    for row in &rows {
        total.add(&row.tally);
    }
    Ok(Json(Stats {
        from: Time(query.from),
        to: Time(query.to),
        total: Counts::of(&total),
        items: rows.into_iter().map(StatsItem::from).collect(),
    }))
}
