//! Events of a time, from the log, that the target is subscribed to now.

use super::walk::{Again, Step, Stop, percent};
use super::{MATCH_MEMORY, Work};
use crate::matcher::Matcher;
use platform::event_log::{LogScan, Record, Span};
use platform::history::Standing;
use platform::replays::{Place, Replay, Which};
use schemas::delivery::DeliveryStatus;
use schemas::event::Event;
use schemas::ids::EventId;
use std::collections::{BTreeMap, VecDeque};

/// Records looked at in one step at most, whatever they are.
const LOOKED_AT: usize = 512;
/// Events that history is asked about at once.
const ASKED: usize = 64;

/// A walk over spans of the event topics, one topic after the other.
pub(super) struct LogWalk {
    replay: Replay,
    /// Its own, with nothing remembered from before: who subscribes and then asks for a replay finds it matched, though
    /// another process was told.
    matcher: Matcher,
    /// What is left, by topic.
    topics: BTreeMap<String, Vec<Span>>,
    total: u64,
    /// The first of those topics, being read, and what was read of it ahead.
    scan: Option<Box<dyn LogScan>>,
    ahead: VecDeque<Record>,
    /// Whether that topic's records have all been read.
    ended: bool,
}

fn records(topics: &BTreeMap<String, Vec<Span>>) -> u64 {
    let spans = topics.values().flatten();
    spans
        .map(|span| u64::try_from(span.end.saturating_sub(span.next)).unwrap_or(0))
        .sum()
}

impl LogWalk {
    pub(super) async fn open(work: &Work, replay: &Replay) -> Result<Self, Stop> {
        let (topics, total) = match &replay.place {
            Place::Log { topics, total } => (topics.clone(), *total),
            Place::Start | Place::History { .. } => {
                let mut topics = BTreeMap::new();
                for topic in &work.topics {
                    let found = work.log.find(topic, replay.from, replay.to).await?;
                    topics.insert(topic.clone(), found.ok_or_else(|| gone(replay))?);
                }
                let total = records(&topics);
                (topics, total)
            }
        };
        Ok(Self {
            replay: replay.clone(),
            matcher: Matcher::new(work.catalog.clone(), MATCH_MEMORY),
            topics,
            total,
            scan: None,
            ahead: VecDeque::new(),
            ended: false,
        })
    }

    /// The next record of the first topic; `None` at its end.
    async fn record(&mut self, work: &Work) -> Result<Option<Record>, Stop> {
        if self.ahead.is_empty() && !self.ended {
            let Some((topic, spans)) = self.topics.first_key_value() else {
                return Ok(None);
            };
            let mut scan = match self.scan.take() {
                Some(scan) => scan,
                None => work
                    .log
                    .scan_spans(topic, spans)
                    .await?
                    .ok_or_else(|| gone(&self.replay))?,
            };
            self.ahead = scan.next().await?.into();
            self.ended = self.ahead.is_empty();
            self.scan = Some(scan).filter(|_| !self.ended);
        }
        Ok(self.ahead.pop_front())
    }

    /// Goes on to the topic after the first, all of whose records are behind us; `false` when there is none.
    fn next_topic(&mut self) -> bool {
        self.topics.pop_first();
        self.ended = false;
        !self.topics.is_empty()
    }

    /// The record's event, if it is the tenant's, of the time, and subscribed to now.
    async fn wanted(&mut self, work: &Work, record: &Record) -> Option<Event> {
        let replay = &self.replay;
        // Most records of a shared topic are other tenants', and most producers say so in a header.
        let other = |tenant: &bytes::Bytes| *tenant != replay.tenant.as_str();
        if record.timestamp < replay.from
            || record.timestamp >= replay.to
            || record.header("tenant").is_some_and(other)
        {
            return None;
        }
        // What cannot be read was put aside when it came: the dead-letter topic has it.
        let event = work.event(record).await?;
        if event.tenant != replay.tenant {
            return None;
        }
        let targets = self.matcher.targets(&event).await;
        targets.contains(&replay.target).then_some(event)
    }

    /// Notes that a record is behind us.
    fn pass(&mut self, record: &Record) {
        let place = &record.position;
        let spans = self.topics.get_mut(&*place.topic).into_iter().flatten();
        for span in spans.filter(|span| span.partition == place.partition) {
            span.next = span.next.max(place.offset + 1);
        }
    }

    pub(super) async fn next(&mut self, work: &Work, most: usize) -> Result<Step, Stop> {
        let mut looked_at: Vec<(Record, Option<Event>)> = Vec::new();
        let mut ids: Vec<EventId> = Vec::new();
        let mut done = false;
        while looked_at.len() < LOOKED_AT && ids.len() < ASKED {
            let Some(record) = self.record(work).await? else {
                // Not before its last records have been passed.
                if looked_at.is_empty() && self.next_topic() {
                    continue;
                }
                done = self.topics.is_empty();
                break;
            };
            let event = self.wanted(work, &record).await;
            ids.extend(event.iter().map(|event| event.id.clone()));
            looked_at.push((record, event));
        }
        let replay = &self.replay;
        let which = replay.which;
        let known = work.history.standing(&replay.tenant, replay.target, &ids).await?;
        let mut again = Vec::with_capacity(most);
        let mut examined = 0;
        let mut rest = looked_at.into_iter();
        while let Some((record, event)) = rest.next() {
            let standing = event.as_ref().and_then(|event| known.get(&event.id));
            let is_sent = event.is_some() && is_sent(which, standing);
            if is_sent && again.len() >= most {
                // For the next step, with all that follow.
                let left = rest.map(|(record, _)| record);
                let left: Vec<Record> = std::iter::once(record).chain(left).collect();
                left.into_iter()
                    .rev()
                    .for_each(|record| self.ahead.push_front(record));
                break;
            }
            self.pass(&record);
            examined += u64::from(event.is_some());
            if let Some(mut event) = event.filter(|_| is_sent) {
                if let Some(standing) = standing {
                    event.accepted_at = standing.accepted_at;
                }
                again.push(Again {
                    event,
                    record,
                    delivery: standing.and_then(|standing| standing.delivery),
                });
            }
        }
        Ok(Step {
            again,
            examined,
            lost: 0,
            place: Place::Log {
                topics: self.topics.clone(),
                total: self.total,
            },
            percent: if done {
                100
            } else {
                percent(records(&self.topics), self.total).min(99)
            },
            done,
        })
    }
}

fn gone(replay: &Replay) -> Stop {
    Stop::Failed(format!(
        "the event log no longer holds all events since {}: ask for a later time",
        replay.from.to_rfc3339()
    ))
}

/// Whether an event is sent again, by what history knows of it.
fn is_sent(which: Which, standing: Option<&Standing>) -> bool {
    let status = standing
        .and_then(|standing| standing.delivery)
        .map(|(status, _)| status);
    match which {
        Which::Missed => status != Some(DeliveryStatus::Delivered),
        Which::All | Which::Failed | Which::Exhausted | Which::One => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::time::Millis;

    #[test]
    fn missed_is_what_was_not_delivered() {
        let standing = |delivery| {
            Some(Standing {
                accepted_at: Millis(0),
                delivery,
            })
        };
        for (standing, missed) in [
            (None, true),
            (standing(None), true),
            (standing(Some((DeliveryStatus::Delivered, 1))), false),
            (standing(Some((DeliveryStatus::Pending, 0))), true),
            (standing(Some((DeliveryStatus::Retrying, 3))), true),
            (standing(Some((DeliveryStatus::Exhausted, 14))), true),
            (standing(Some((DeliveryStatus::Canceled, 0))), true),
        ] {
            assert_eq!(is_sent(Which::Missed, standing.as_ref()), missed, "{standing:?}");
            assert!(is_sent(Which::All, standing.as_ref()), "{standing:?}");
        }
    }
}
