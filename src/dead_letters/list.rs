//! `hookwright dead-letters list`.

use super::Stop;
use super::choice::{choose, place};
use crate::cli::ListLettersArgs;
use crate::terminal::{complain, say};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use platform::event_log::{EventLog, Record};
use schemas::dead_letter::{DeadLetter, place_text};

/// Shows the chosen ones on stdout, and on stderr how many there are.
pub async fn run(args: ListLettersArgs, log: &dyn EventLog, topic: &str) -> Result<(), Stop> {
    let choice = choose(log, topic, &args.which, args.limit).await?;
    let mut lines = Vec::with_capacity(choice.chosen.len());
    if !choice.chosen.is_empty() {
        let mut scan = log.scan(topic).await?;
        loop {
            let records = scan.next().await?;
            if records.is_empty() {
                break;
            }
            let chosen = records
                .iter()
                .filter(|record| choice.chosen.contains_key(&place(record)));
            lines.extend(chosen.filter_map(|record| {
                let line = line(record, args.raw)?;
                Some((record.timestamp, place(record), line))
            }));
        }
    }
    lines.sort_unstable();
    for (_, _, line) in &lines {
        say(line);
    }
    let more = match choice.more {
        0 => String::new(),
        more => format!("; {more} more with a higher --limit"),
    };
    let injected = match choice.injected {
        0 => String::new(),
        injected => format!("; {injected} injected already (--again shows them)"),
    };
    complain(&format!("{} of {topic}{more}{injected}", lines.len()));
    Ok(())
}

/// A dead letter as one line: tabs between its columns.
fn line(record: &Record, raw: bool) -> Option<String> {
    let (letter, _) = DeadLetter::read(&record.headers)?;
    let (partition, offset) = place(record);
    let mut line = format!(
        "{partition}/{offset}\t{}\t{}\t{}\t{} B\t{}",
        record.timestamp.to_rfc3339(),
        plain(&letter.class),
        plain(&place_text(&letter.position)),
        record.value.len(),
        plain(&letter.detail),
    );
    if raw {
        line.push('\t');
        line.push_str(&STANDARD.encode(&record.value));
    }
    Some(line)
}

/// Text of a header without what would move a terminal's cursor or end the column.
fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}
