//! `dev --demo`: a local receiver, two targets, an event each second, and each attempt as it happens. Its targets are
//! disabled when it ends.

use crate::failure::Failure;
use crate::produce;
use crate::receiver::{self, Received};
use crate::roles::Process;
use crate::terminal::{Colour, coloured, say};
use hyper::StatusCode;
use platform::catalog::{Catalog, CatalogError, Change, NewTarget, Page, TargetPatch};
use platform::clock::Clock;
use platform::config::default_tenant;
use platform::event_log::EventLog;
use platform::harness::Role;
use schemas::delivery::DeliveryStatus;
use schemas::history::{AttemptRecord, HistoryRecord};
use schemas::ids::TargetId;
use schemas::schedule::RetryPolicy;
use schemas::target::TargetState;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// What the demo publishes.
const EVENT_TYPE: &str = "core.orders.created.v1";
/// Its targets' paths; the second one fails twice before it accepts.
const STEADY: &str = "/steady";
const FLAKY: &str = "/flaky";
/// How often `/flaky` fails before it accepts.
const FAILURES: u32 = 2;
/// What the demo presets beside `dev`: at first, while more of what it tries fails than later, `/flaky` would have its
/// circuit breaker open, and the demo would show nothing of it for half a minute.
pub const PRESETS: &str = "breaker.min_attempts = 100\n";

/// Adds the demo to a process.
pub async fn add(process: &mut Process) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| Failure::died(&error))?;
    let address = listener.local_addr().map_err(|error| Failure::died(&error))?;
    let mut names = HashMap::new();
    for path in [STEADY, FLAKY] {
        let id = target(&process.catalog, path, &format!("http://{address}{path}"))
            .await
            .map_err(|error| Failure::away("store.url", &error))?;
        names.insert(id, path);
    }
    let targets: Vec<TargetId> = names.keys().copied().collect();
    say(&format!(
        "demo: publishing {EVENT_TYPE} every second to two targets; {FLAKY} fails twice before it accepts"
    ));
    let stop = process.shutdown.clone();
    process.extra.push(Role::new("demo receiver", async move {
        let answers = |received: Received| std::future::ready(receiver::status(answer(&received)));
        receiver::serve(listener, answers, stop).await;
        Ok::<(), Infallible>(())
    }));
    let watch = process.reporter.watch();
    let stop = process.shutdown.clone();
    process.extra.push(Role::new("demo printer", async move {
        print(watch, names, stop).await;
        Ok::<(), Infallible>(())
    }));
    let (catalog, stop) = (process.catalog.clone(), process.shutdown.clone());
    process.extra.push(Role::new("demo targets", async move {
        stop.cancelled().await;
        // Nobody answers there any more: a start without the demo would show what fails at them.
        for id in targets {
            let patch = TargetPatch {
                state: Change::Set(TargetState::Disabled),
                ..TargetPatch::default()
            };
            match catalog.patch_target(&default_tenant(), id, patch).await {
                // Somebody may have deleted it meanwhile.
                Ok(_) | Err(CatalogError::NotFound) => {}
                Err(error) => tracing::warn!(%error, "a target of the demo could not be disabled"),
            }
        }
        Ok::<(), Infallible>(())
    }));
    let (log, topic) = (
        process.log.clone(),
        process.config().events.topics[0].name.clone(),
    );
    let stop = process.shutdown.clone();
    process
        .extra
        .push(Role::new("demo publisher", publish(log, topic, stop)));
    Ok(())
}

/// The demo's target of that path: the one of an earlier run, or a new endpoint.
async fn target(catalog: &Catalog, path: &str, url: &str) -> Result<TargetId, CatalogError> {
    let tenant = default_tenant();
    let description = format!("demo {path}");
    let known = catalog
        .list_targets(
            &tenant,
            Page {
                limit: 250,
                before: None,
            },
        )
        .await?;
    if let Some(target) = known
        .into_iter()
        .find(|target| target.description.as_deref() == Some(&description))
    {
        let patch = TargetPatch {
            url: Change::Set(url.to_owned()),
            state: Change::Set(TargetState::Active),
            ..TargetPatch::default()
        };
        return Ok(catalog.patch_target(&tenant, target.id, patch).await?.id);
    }
    let quick = RetryPolicy {
        first: Duration::from_secs(1),
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    let new = NewTarget {
        description: Some(description),
        retry: Some(quick),
        ..NewTarget::at(url)
    };
    let (endpoint, _secret) = catalog
        .create_endpoint(&tenant, new, vec!["core.orders.*".to_owned()])
        .await?;
    Ok(endpoint.id)
}

/// By the number of the attempt alone: what an earlier run had tried goes on where it was.
fn answer(received: &Received) -> StatusCode {
    let attempt: u32 = received.header("webhook-attempt").parse().unwrap_or(1);
    if received.path == FLAKY && attempt <= FAILURES {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    }
}

async fn publish(
    log: Arc<dyn EventLog>,
    topic: String,
    shutdown: CancellationToken,
) -> Result<(), platform::event_log::LogError> {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut order = 1_000;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        order += 1;
        let payload = format!("{{\"orderId\":{order},\"total\":\"49.90\",\"currency\":\"EUR\"}}");
        let event = produce::event(
            EVENT_TYPE,
            payload.into(),
            Some(produce::new_id(&Clock::system())),
            None,
            None,
        );
        log.append(&topic, vec![produce::record(&event)]).await?;
    }
}

async fn print(
    mut watch: broadcast::Receiver<Arc<HistoryRecord>>,
    names: HashMap<TargetId, &'static str>,
    shutdown: CancellationToken,
) {
    loop {
        let record = tokio::select! {
            () = shutdown.cancelled() => return,
            record = watch.recv() => record,
        };
        match record.as_deref() {
            Ok(HistoryRecord::Attempt(record)) => {
                if let Some(line) = line(
                    record,
                    names.get(&record.target).copied().unwrap_or("another target"),
                ) {
                    say(&line);
                }
            }
            Ok(HistoryRecord::Event(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// One attempt as a line, such as `12:00:01  evt_…  core.orders.created.v1  → /steady   200   3 ms`.
fn line(record: &AttemptRecord, target: &str) -> Option<String> {
    let attempt = record.attempt.as_ref()?;
    let time = attempt.started_at.to_rfc3339();
    let result = match (attempt.status_code, &attempt.error) {
        (Some(code), _) => code.to_string(),
        (None, Some(error)) => error.clone(),
        (None, None) => "?".to_owned(),
    };
    let (colour, after) = match record.status {
        DeliveryStatus::Delivered if record.number > 1 => (
            Colour::Green,
            format!("   delivered on attempt {}", record.number),
        ),
        DeliveryStatus::Delivered => (Colour::Green, String::new()),
        DeliveryStatus::Retrying | DeliveryStatus::Pending => {
            let pause = record.next_at.map_or(0, |next| {
                next.since(record.recorded_at).as_millis().div_ceil(1000)
            });
            (
                Colour::Yellow,
                format!("   retry in {pause} s (attempt {})", record.number + 1),
            )
        }
        DeliveryStatus::Exhausted | DeliveryStatus::Canceled => {
            (Colour::Red, format!("   {}", record.status.as_str()))
        }
    };
    let (time, id, event_type) = (&time[11..19], &record.event_id, &record.event_type);
    let (result, ms) = (coloured(&format!("{result:>3}"), colour), attempt.duration_ms);
    Some(format!(
        "  {time}  {id}  {event_type}  → {target:<8}  {result}  {ms:>4} ms{after}"
    ))
}
