//! `hookwright dead-letters inject`.

use super::Stop;
use super::choice::{Choice, choose, place};
use crate::cli::InjectArgs;
use crate::failure::Failure;
use crate::terminal::{complain, say};
use platform::config::Config;
use platform::event_log::{EventLog, LogError, NewRecord, Record};
use schemas::dead_letter::{self, DeadLetter, Place};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The topics that may be injected into: the one asked for, or all that the consumer reads.
pub fn targets(config: &Config, asked: Option<&str>) -> Result<Vec<String>, Failure> {
    let topics = config.events.topics.iter().map(|topic| topic.name.clone());
    let topics: Vec<String> = topics.collect();
    match asked {
        None => Ok(topics),
        Some(asked) if topics.iter().any(|topic| topic == asked) => Ok(vec![asked.to_owned()]),
        Some(asked) => Err(Failure::usage(format!(
            "--topic: \"{asked}\" is not one of events.topics ({})",
            topics.join(", ")
        ))),
    }
}

/// Injects the chosen ones into `targets`: into the only one if one was asked for.
pub async fn run(args: InjectArgs, log: &dyn EventLog, topic: &str, targets: &[String]) -> Result<(), Stop> {
    let into = args.topic.as_deref();
    let choice = choose(log, topic, &args.which, args.limit.unwrap_or(usize::MAX)).await?;
    if into.is_none() {
        known(&choice, targets).map_err(Stop::Usage)?;
    }
    let mut injected = 0;
    let result = inject(log, topic, into, &choice, &mut injected).await;
    let left = choice.chosen.len() - injected;
    say(&format!(
        "{injected} {} injected",
        if injected == 1 { "record" } else { "records" }
    ));
    if left > 0 {
        complain(&format!(
            "{left} left; run the command again to go on: what is injected is marked"
        ));
    } else if choice.more > 0 {
        complain(&format!("{} more without --limit", choice.more));
    }
    Ok(result?)
}

/// Whether the consumer still reads all topics that dead letters came from.
fn known(choice: &Choice, targets: &[String]) -> Result<(), Failure> {
    for (origin, count) in &choice.origins {
        if !targets.iter().any(|target| **target == **origin) {
            return Err(Failure::usage(format!(
                "--topic: {count} come from \"{origin}\", which is not one of events.topics ({}); \
                 say where they go with --origin {origin} --topic",
                targets.join(", ")
            )));
        }
    }
    Ok(())
}

async fn inject(
    log: &dyn EventLog,
    topic: &str,
    into: Option<&str>,
    choice: &Choice,
    injected: &mut usize,
) -> Result<(), LogError> {
    if choice.chosen.is_empty() {
        return Ok(());
    }
    // It ends where the topic ends now: what comes back unreadable is not met again.
    let mut scan = log.scan(topic).await?;
    loop {
        let records = scan.next().await?;
        if records.is_empty() {
            return Ok(());
        }
        let mut batches: BTreeMap<Arc<str>, Vec<(Place, NewRecord)>> = BTreeMap::new();
        for record in records {
            let place = place(&record);
            if choice.chosen.contains_key(&place)
                && let Some((origin, new)) = as_it_was(record)
            {
                let target = into.map_or(origin, Arc::from);
                batches.entry(target).or_default().push((place, new));
            }
        }
        for (target, batch) in batches {
            let (places, new): (Vec<Place>, Vec<NewRecord>) = batch.into_iter().unzip();
            let count = new.len();
            log.append(&target, new).await?;
            // Marked once they are durable: a death in between injects these again, and loses none.
            let copies = places.iter().flat_map(|place| &choice.chosen[place]);
            let marked: Vec<Place> = places.iter().chain(copies).copied().collect();
            let (headers, value) = dead_letter::mark(&marked);
            let mark = NewRecord {
                key: None,
                value,
                headers,
            };
            log.append(topic, vec![mark]).await?;
            *injected += count;
        }
    }
}

/// The record as its producer wrote it, and where.
fn as_it_was(record: Record) -> Option<(Arc<str>, NewRecord)> {
    let (letter, own) = DeadLetter::read(&record.headers)?;
    let headers = letter.injected(own);
    let new = NewRecord {
        key: record.key,
        value: record.value,
        headers,
    };
    Some((letter.position.topic, new))
}
