//! Logs and metrics.
//!
//! Log lines are lower case with fields, on stderr: stdout belongs to what a command answers.
//! Nothing secret, no payload and no signature is ever a field. Metric names are the contract's;
//! labels never carry a tenant, a target or an id.

use crate::config::{Log, LogFormat};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Names of the metrics, as the contract has them.
pub mod names {
    /// Records read from the event topics.
    pub const EVENTS_CONSUMED: &str = "hookwright_events_consumed_total";
    /// Events that matched no target.
    pub const EVENTS_UNMATCHED: &str = "hookwright_events_unmatched_total";
    /// Records put into the dead-letter topic.
    pub const EVENTS_DEAD_LETTERED: &str = "hookwright_events_dead_lettered_total";
    /// Deliveries acknowledged by the dispatch queue.
    pub const DELIVERIES_ENQUEUED: &str = "hookwright_deliveries_enqueued_total";
    /// Those of them that were sent again, by a resend, a replay or a redrive.
    pub const DELIVERIES_RESENT: &str = "hookwright_deliveries_resent_total";
    /// Attempts, by `outcome`.
    pub const ATTEMPTS: &str = "hookwright_attempts_total";
    /// Seconds from acceptance to delivery.
    pub const DELIVERY_LATENCY: &str = "hookwright_delivery_latency_seconds";
    /// Seconds one attempt took.
    pub const ATTEMPT_DURATION: &str = "hookwright_attempt_duration_seconds";
    /// Calls to the queue, by `queue` and `call`.
    pub const QUEUE_REQUESTS: &str = "hookwright_queue_requests_total";
    /// Messages waiting, by `queue`.
    pub const QUEUE_DEPTH: &str = "hookwright_queue_depth";
    /// Records not yet finished, by `topic` and `partition`.
    pub const CONSUMER_LAG: &str = "hookwright_consumer_lag";
    /// Events begun and not finished.
    pub const INFLIGHT_EVENTS: &str = "hookwright_inflight_events";
    /// Their bytes.
    pub const INFLIGHT_BYTES: &str = "hookwright_inflight_bytes";
    /// Seconds since the log took the oldest event that is read and not finished.
    pub const OLDEST_EVENT: &str = "hookwright_oldest_event_seconds";
    /// Matches of events, by where they came `from`.
    pub const MATCHES: &str = "hookwright_matches_total";
    /// Payloads put into the payload store.
    pub const PAYLOADS_SPILLED: &str = "hookwright_payloads_spilled_total";
    /// Their bytes.
    pub const SPILLED_BYTES: &str = "hookwright_spilled_bytes_total";
    /// Attempts running now.
    pub const INFLIGHT_DELIVERIES: &str = "hookwright_inflight_deliveries";
    /// Deliveries that came up and had to wait, by `why`. Not attempts.
    pub const DELIVERIES_POSTPONED: &str = "hookwright_deliveries_postponed_total";
    /// Circuit breakers open now.
    pub const BREAKERS_OPEN: &str = "hookwright_breakers_open";
    /// Mails to targets' contacts, by `outcome`.
    pub const MAILS: &str = "hookwright_mails_total";
    /// Packs of waiting deliveries put into the payload store.
    pub const PACKS: &str = "hookwright_packs_total";
    /// The deliveries in them.
    pub const PACKED_DELIVERIES: &str = "hookwright_packed_deliveries_total";
    /// Operational events that the log did not take in time.
    pub const NOTICES_DROPPED: &str = "hookwright_operational_events_dropped_total";
    /// History records that could not be written.
    pub const HISTORY_DROPPED: &str = "hookwright_history_dropped_total";
    /// Seconds since the catalog was last heard of.
    pub const CATALOG_AGE: &str = "hookwright_catalog_age_seconds";
}

/// The filter that a `log.level` asks for.
///
/// # Errors
/// When it asks for none; says what would be right.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, String> {
    // A bare word is a level or a slip of one; tracing takes a slip for the name of a module, and
    // falls silent.
    let slip = |rule: &str| !rule.contains(['=', '[']) && rule.trim().parse::<LevelFilter>().is_err();
    match EnvFilter::try_new(level) {
        Ok(filter) if !level.split(',').any(slip) => Ok(filter),
        Ok(_) | Err(_) => Err(format!(
            "\"{level}\" is not a level (trace, debug, info, warn, error, off) or a filter such as \"info,dispatcher=debug\""
        )),
    }
}

/// Starts logging. Called once, before anything that logs.
///
/// # Errors
/// When `log.level` is not a filter; says so.
pub fn start_logs(log: &Log) -> Result<(), crate::config::ConfigError> {
    let filter =
        filter(&log.level).map_err(|message| crate::config::ConfigError::new("log.level", message))?;
    // SQL statements are not log lines; the AWS SDK and librdkafka speak through our own messages.
    let quiet = [
        "sqlx=warn",
        "aws_config=warn",
        "hyper_util=warn",
        "hyper=warn",
        "rustls=warn",
    ];
    let filter = quiet
        .iter()
        .filter_map(|rule| rule.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    drop(match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
    });
    Ok(())
}

/// Upper bounds of the latency histograms, in seconds: 1 ms to 24 h.
const BUCKETS: [f64; 18] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    86_400.0,
];

/// Starts collecting metrics and answers with the handle that prints them.
///
/// # Errors
/// When the recorder cannot be installed.
pub fn start_metrics() -> Result<PrometheusHandle, String> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .map_err(|error| error.to_string())?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    describe();
    Ok(handle)
}

fn describe() {
    metrics::describe_counter!(names::EVENTS_CONSUMED, "records read from the event topics");
    metrics::describe_counter!(names::EVENTS_UNMATCHED, "events that matched no target");
    metrics::describe_counter!(
        names::EVENTS_DEAD_LETTERED,
        "records put into the dead-letter topic"
    );
    metrics::describe_counter!(
        names::DELIVERIES_ENQUEUED,
        "deliveries acknowledged by the dispatch queue"
    );
    metrics::describe_counter!(names::ATTEMPTS, "attempts by outcome");
    metrics::describe_histogram!(names::DELIVERY_LATENCY, "seconds from acceptance to delivery");
    metrics::describe_histogram!(names::ATTEMPT_DURATION, "seconds one attempt took");
    metrics::describe_counter!(names::QUEUE_REQUESTS, "calls to the queue");
    metrics::describe_gauge!(names::QUEUE_DEPTH, "messages waiting, by queue");
    metrics::describe_gauge!(names::CONSUMER_LAG, "records not yet finished");
    metrics::describe_gauge!(names::INFLIGHT_EVENTS, "events begun and not finished");
    metrics::describe_gauge!(names::INFLIGHT_BYTES, "bytes of events begun and not finished");
    metrics::describe_gauge!(
        names::OLDEST_EVENT,
        "seconds since the log took the oldest event that is read and not finished"
    );
    metrics::describe_counter!(names::MATCHES, "matches of events, by where they came from");
    metrics::describe_counter!(names::PAYLOADS_SPILLED, "payloads put into the payload store");
    metrics::describe_counter!(
        names::SPILLED_BYTES,
        "bytes of payloads put into the payload store"
    );
    metrics::describe_gauge!(names::INFLIGHT_DELIVERIES, "attempts running now");
    metrics::describe_counter!(
        names::DELIVERIES_POSTPONED,
        "deliveries that came up and had to wait, by why"
    );
    metrics::describe_gauge!(names::BREAKERS_OPEN, "circuit breakers open now");
    metrics::describe_counter!(
        names::HISTORY_DROPPED,
        "history records that could not be written"
    );
    metrics::describe_counter!(
        names::PACKS,
        "packs of waiting deliveries put into the payload store"
    );
    metrics::describe_counter!(names::PACKED_DELIVERIES, "deliveries put into packs");
    metrics::describe_counter!(names::MAILS, "mails to targets' contacts, by outcome");
    metrics::describe_counter!(
        names::NOTICES_DROPPED,
        "operational events that the log did not take in time"
    );
    metrics::describe_gauge!(names::CATALOG_AGE, "seconds since the catalog was last heard of");
    // A counter that never moved is still there to be read.
    metrics::counter!(names::EVENTS_CONSUMED).absolute(0);
    metrics::counter!(names::EVENTS_UNMATCHED).absolute(0);
    metrics::counter!(names::EVENTS_DEAD_LETTERED).absolute(0);
    metrics::counter!(names::DELIVERIES_ENQUEUED).absolute(0);
    metrics::counter!(names::PAYLOADS_SPILLED).absolute(0);
    metrics::counter!(names::SPILLED_BYTES).absolute(0);
    metrics::counter!(names::HISTORY_DROPPED).absolute(0);
    metrics::counter!(names::NOTICES_DROPPED).absolute(0);
    metrics::counter!(names::PACKS).absolute(0);
    metrics::counter!(names::PACKED_DELIVERIES).absolute(0);
    metrics::gauge!(names::INFLIGHT_DELIVERIES).set(0.0);
    metrics::gauge!(names::BREAKERS_OPEN).set(0.0);
}

/// A dependency that fails now and then would write a pair of lines each time: one that was told to be back within
/// this time counts as back again only when it has worked for [`SETTLED`].
const LATELY: Duration = Duration::from_secs(10);
const SETTLED: Duration = Duration::from_secs(2);

/// Remembers whether a dependency is away, so that going and coming back are one log line each.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    away: AtomicBool,
    /// Whether the log says that it is away.
    told: AtomicBool,
    /// When it last failed, in milliseconds of this process.
    failed: AtomicU64,
    /// When it was last told to be back, in the same; [`NEVER`] if it never was.
    back: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// What an [`Outage`] is measured from.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Outage {
    /// Watches the dependency called `what`.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self {
            what,
            away: AtomicBool::new(false),
            told: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            back: AtomicU64::new(NEVER),
        }
    }

    /// It failed: warns the first time.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        if self.fails(BEGAN.elapsed()) {
            tracing::warn!(dependency = self.what, %error, "dependency is away; trying on");
        }
    }

    /// Whether it failed when it was last tried.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// It works: says so if it had failed.
    pub fn works(&self) {
        if self.told.load(Ordering::Relaxed) && self.succeeds(BEGAN.elapsed()) {
            tracing::info!(dependency = self.what, "dependency is back");
        }
    }

    /// Notes a failure; whether it is to be told.
    fn fails(&self, now: Duration) -> bool {
        self.away.store(true, Ordering::Relaxed);
        self.failed.store(millis(now), Ordering::Relaxed);
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Notes a success; whether it is to be told.
    fn succeeds(&self, now: Duration) -> bool {
        self.away.store(false, Ordering::Relaxed);
        let passed =
            |since: &AtomicU64| now.saturating_sub(Duration::from_millis(since.load(Ordering::Relaxed)));
        let was_back_lately = self.back.load(Ordering::Relaxed) != NEVER && passed(&self.back) < LATELY;
        let tells =
            (!was_back_lately || passed(&self.failed) >= SETTLED) && self.told.swap(false, Ordering::Relaxed);
        if tells {
            self.back.store(millis(now), Ordering::Relaxed);
        }
        tells
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_goes_and_comes_is_told_at_once_and_one_that_flutters_seldom() {
        let outage = Outage::new("x");
        let at = Duration::from_millis;
        assert!(!outage.succeeds(at(0)), "it was never away");
        assert!(outage.fails(at(1_000)));
        assert!(outage.succeeds(at(1_001)));
        assert!(!outage.succeeds(at(1_002)), "told once");
        assert!(outage.fails(at(1_100)));
        for time in (1_200..5_000).step_by(100) {
            assert!(!outage.succeeds(at(time)));
            assert!(!outage.is_away());
            assert!(!outage.fails(at(time + 50)));
            assert!(outage.is_away());
        }
        assert!(!outage.succeeds(at(6_949)), "not settled");
        assert!(!outage.is_away());
        assert!(outage.succeeds(at(6_950)));
        assert!(outage.fails(at(16_949)));
        assert!(!outage.succeeds(at(16_949)), "back lately");
        assert!(outage.succeeds(at(16_950)));
    }
}
