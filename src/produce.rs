//! `hookwright produce`: writes events to the log.

use crate::cli::ProduceArgs;
use crate::failure::Failure;
use crate::prepare::log_key;
use crate::terminal::say;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use platform::clock::Clock;
use platform::config::{Config, Topic};
use platform::event_log::{EventLog, NewRecord};
use platform::plain;
use platform::ports::Opener;
use platform::telemetry;
use schemas::avro::{self, Framing, WebhookEvent};
use schemas::ids::{EventId, Tenant};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Records of one append.
const BATCH: usize = 500;

/// Writes what the arguments say.
pub async fn run(args: ProduceArgs, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    telemetry::start_logs(&config.log)?;
    schemas::pattern::check_event_type(&args.event_type)
        .map_err(|error| Failure::usage(format!("--type: {error}")))?;
    if let Some(tenant) = &args.tenant {
        Tenant::new(tenant).map_err(|error| Failure::usage(format!("--tenant: {error}")))?;
    }
    if let Some(id) = &args.id {
        EventId::new(id).map_err(|error| Failure::usage(format!("--id: {error}")))?;
    }
    let topic = topic(&config, args.topic.as_deref())?;
    let mut opener = Opener::new(&config, Clock::system());
    let log = opener.log().await?;
    let key = log_key(&config);
    let topics = [topic.name.clone()];
    let checked = match config.events.log {
        platform::config::LogKind::Embedded => log.provision(&topics).await,
        platform::config::LogKind::Kafka => log.check(&topics).await,
    };
    checked.map_err(|error| Failure::away(key, &error))?;
    let input = open(&args.file)?;
    let limit = config.events.max_payload.0;
    let make = |payload: Vec<u8>| -> Result<NewRecord, Failure> {
        if payload.len() > limit {
            return Err(Failure::usage(format!(
                "the payload has {} bytes; events.max_payload allows {limit}",
                payload.len()
            )));
        }
        if std::str::from_utf8(&payload).is_err() {
            return Err(Failure::usage(
                "the payload is not UTF-8 text, which is what a WebhookEvent carries",
            ));
        }
        let event = event(
            &args.event_type,
            payload.into(),
            args.id.clone(),
            args.tenant.clone(),
            args.content_type.clone(),
        );
        Ok(framed(&event, topic.framing))
    };
    let written = if args.ndjson {
        many(log.as_ref(), topic, input, make).await
    } else {
        one(log.as_ref(), topic, input, make).await
    };
    let written = written.map_err(|failure| failure.unwrap_or_else(|error| Failure::away(key, &error)))?;
    say(&format!(
        "{written} {} written to {}",
        if written == 1 { "event" } else { "events" },
        topic.name
    ));
    Ok(())
}

type Problem = Result<Failure, platform::event_log::LogError>;

async fn one(
    log: &dyn EventLog,
    topic: &Topic,
    mut input: Box<dyn BufRead>,
    make: impl Fn(Vec<u8>) -> Result<NewRecord, Failure>,
) -> Result<u64, Problem> {
    let mut payload = Vec::new();
    input.read_to_end(&mut payload).map_err(|error| {
        Ok(Failure::usage(format!(
            "cannot read the payload: {}",
            plain::io(&error)
        )))
    })?;
    // The line end that echo and editors add is not part of the payload.
    if payload.last() == Some(&b'\n') {
        payload.pop();
    }
    log.append(&topic.name, vec![make(payload).map_err(Ok)?])
        .await
        .map_err(Err)?;
    Ok(1)
}

async fn many(
    log: &dyn EventLog,
    topic: &Topic,
    input: Box<dyn BufRead>,
    make: impl Fn(Vec<u8>) -> Result<NewRecord, Failure>,
) -> Result<u64, Problem> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} events  {per_sec}  {elapsed}") {
        bar.set_style(style);
    }
    let mut batch = Vec::with_capacity(BATCH);
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line.map_err(|error| {
            Ok(Failure::usage(format!(
                "line {}: {}",
                number + 1,
                plain::io(&error)
            )))
        })?;
        if line.is_empty() {
            continue;
        }
        batch.push(make(line).map_err(Ok)?);
        if batch.len() == BATCH {
            log.append(&topic.name, std::mem::take(&mut batch))
                .await
                .map_err(Err)?;
            bar.inc(BATCH as u64);
        }
    }
    if !batch.is_empty() {
        let count = batch.len() as u64;
        log.append(&topic.name, batch).await.map_err(Err)?;
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(bar.position())
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file_read = std::fs::File::open(file);
    let opened = file_read
        .map_err(|error| Failure::usage(format!("cannot read {}: {}", file.display(), plain::io(&error))))?;
    Ok(Box::new(BufReader::new(opened)))
}

fn topic<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Topic, Failure> {
    let found = match name {
        None => config.events.topics.first(),
        Some(name) => config.events.topics.iter().find(|topic| topic.name == name),
    };
    let known = || {
        config
            .events
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let topic =
        found.ok_or_else(|| Failure::usage(format!("--topic: not one of events.topics ({})", known())))?;
    if !topic.takes_our_own() {
        return Err(Failure::usage(format!(
            "topic {} is of schemas other than our own; use your own producer for it",
            topic.name
        )));
    }
    Ok(topic)
}

/// An event id of our own: sorts by time.
pub fn new_id(clock: &Clock) -> String {
    let random = u128::from_be_bytes(platform::secrets::random_bytes::<16>());
    let ms = u64::try_from(clock.now().0).unwrap_or(0);
    format!("evt_{}", ulid::Ulid::from_parts(ms, random))
}

/// A v2 event.
pub fn event(
    event_type: &str,
    payload: Bytes,
    id: Option<String>,
    tenant: Option<String>,
    content_type: Option<String>,
) -> WebhookEvent {
    WebhookEvent {
        event_type: event_type.to_owned(),
        payload,
        event_id: id,
        tenant,
        content_type,
        occurred_at: None,
    }
}

/// The event as a raw record.
pub fn record(event: &WebhookEvent) -> NewRecord {
    framed(event, Framing::Raw)
}

fn framed(event: &WebhookEvent, framing: Framing) -> NewRecord {
    let value = match framing {
        Framing::Raw | Framing::Confluent | Framing::Header => avro::encode_v2(event),
        Framing::SingleObject => avro::encode_single_object(event),
    };
    NewRecord {
        key: event.event_id.clone().map(Bytes::from),
        value: value.into(),
        headers: Vec::new(),
    }
}
