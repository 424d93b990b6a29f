//! Which dead letters a command is about.

use crate::cli::Which;
use platform::event_log::{EventLog, LogError, Record};
use schemas::dead_letter::{self, DeadLetter, Place};
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The dead letters of a topic, as far as a choice needs to know them.
#[derive(Debug, Default)]
pub struct Survey {
    /// Those that fit the filters.
    fitting: Vec<Fitting>,
    /// Those that are marked as injected, whether they fit or not.
    injected: HashSet<Place>,
}

#[derive(Debug)]
struct Fitting {
    /// When it was put aside.
    at: Millis,
    place: Place,
    /// What it is a copy of. Two of one record are one: a consumer that is killed between the copy and its
    /// offset makes another.
    original: (Position, Millis),
}

/// What was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Their places, each with those of the same record's other copies.
    pub chosen: HashMap<Place, Vec<Place>>,
    /// How many come from each topic.
    pub origins: BTreeMap<Arc<str>, usize>,
    /// How many more would fit.
    pub more: usize,
    /// How many are left out because they are injected already.
    pub injected: usize,
}

impl Survey {
    /// Notes one record of the dead-letter topic.
    fn note(&mut self, which: &Which, record: &Record) {
        if let Some(places) = dead_letter::read_mark(&record.headers, &record.value) {
            self.injected.extend(places);
            return;
        }
        let Some((letter, _)) = DeadLetter::read(&record.headers) else {
            return;
        };
        let at = record.timestamp;
        let fits = (which.class.is_empty() || which.class.contains(&letter.class))
            && which
                .origin
                .as_ref()
                .is_none_or(|origin| **origin == *letter.position.topic)
            && which.from.is_none_or(|from| at >= from)
            && which.to.is_none_or(|to| at < to);
        if fits {
            self.fitting.push(Fitting {
                at,
                place: place(record),
                original: (letter.position, letter.timestamp),
            });
        }
    }

    /// The oldest ones, no more than `limit`; those that are injected only where `again` says so.
    fn choose(mut self, again: bool, limit: usize) -> Choice {
        self.fitting.sort_by_key(|fitting| (fitting.at, fitting.place));
        let mut choice = Choice::default();
        let mut first: HashMap<(Position, Millis), Place> = HashMap::new();
        for fitting in self.fitting {
            if !again && self.injected.contains(&fitting.place) {
                choice.injected += 1;
            } else if let Some(same) = first.get(&fitting.original) {
                choice.chosen.entry(*same).or_default().push(fitting.place);
            } else if choice.chosen.len() < limit {
                *choice
                    .origins
                    .entry(fitting.original.0.topic.clone())
                    .or_default() += 1;
                choice.chosen.insert(fitting.place, Vec::new());
                first.insert(fitting.original, fitting.place);
            } else {
                choice.more += 1;
            }
        }
        choice
    }
}

/// Where a record of the dead-letter topic stands.
pub fn place(record: &Record) -> Place {
    (record.position.partition, record.position.offset)
}

/// Reads the dead-letter topic through and chooses.
///
/// # Errors
/// When the log cannot be read.
pub async fn choose(
    log: &dyn EventLog,
    topic: &str,
    which: &Which,
    limit: usize,
) -> Result<Choice, LogError> {
    let (mut scan, mut survey) = (log.scan(topic).await?, Survey::default());
    loop {
        let records = scan.next().await?;
        if records.is_empty() {
            return Ok(survey.choose(which.again, limit));
        }
        for record in &records {
            survey.note(which, record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn all() -> Which {
        Which {
            class: Vec::new(),
            origin: None,
            from: None,
            to: None,
            again: false,
        }
    }

    fn record(at: i64, place: Place, headers: Vec<(String, Bytes)>, value: Bytes) -> Record {
        Record {
            position: Position {
                topic: Arc::from("dead"),
                partition: place.0,
                offset: place.1,
            },
            timestamp: Millis(at),
            key: None,
            value,
            headers: headers.into(),
        }
    }

    /// The copy of a record of `topic`, at `at` in the dead-letter topic.
    fn letter(at: i64, place: Place, class: &str, topic: &str, offset: i64) -> Record {
        let letter = DeadLetter {
            position: Position {
                topic: Arc::from(topic),
                partition: 0,
                offset,
            },
            timestamp: Millis(offset),
            class: class.to_owned(),
            detail: String::new(),
        };
        record(at, place, letter.headers().to_vec(), Bytes::new())
    }

    fn mark(places: &[Place]) -> Record {
        let (headers, value) = dead_letter::mark(places);
        record(100, (9, 9), headers, value)
    }

    fn chosen(records: &[Record], which: &Which, limit: usize) -> (Vec<Place>, usize, usize) {
        let mut survey = Survey::default();
        records.iter().for_each(|record| survey.note(which, record));
        let choice = survey.choose(which.again, limit);
        let mut places: Vec<Place> = choice.chosen.keys().copied().collect();
        places.sort_unstable();
        (places, choice.more, choice.injected)
    }

    #[test]
    fn what_fits_is_chosen_the_oldest_first() {
        let records = [
            letter(30, (0, 0), "truncated", "a", 1),
            letter(10, (1, 0), "unknown_schema", "b", 1),
            letter(20, (2, 0), "truncated", "b", 2),
            record(5, (3, 0), Vec::new(), Bytes::from_static(b"of somebody else")),
        ];
        let table = [
            (all(), 9, vec![(0, 0), (1, 0), (2, 0)], 0),
            (all(), 2, vec![(1, 0), (2, 0)], 1),
            (
                Which {
                    class: vec!["truncated".to_owned()],
                    ..all()
                },
                9,
                vec![(0, 0), (2, 0)],
                0,
            ),
            (
                Which {
                    origin: Some("b".to_owned()),
                    ..all()
                },
                9,
                vec![(1, 0), (2, 0)],
                0,
            ),
            (
                Which {
                    from: Some(Millis(20)),
                    to: Some(Millis(30)),
                    ..all()
                },
                9,
                vec![(2, 0)],
                0,
            ),
        ];
        for (number, (which, limit, places, more)) in table.into_iter().enumerate() {
            assert_eq!(chosen(&records, &which, limit), (places, more, 0), "row {number}");
        }
    }

    #[test]
    fn what_is_marked_is_left_out_wherever_the_mark_stands_unless_asked_for_again() {
        let records = [
            mark(&[(0, 1), (1, 5)]),
            letter(10, (0, 0), "truncated", "a", 1),
            letter(20, (0, 1), "truncated", "a", 2),
        ];
        assert_eq!(chosen(&records, &all(), 9), (vec![(0, 0)], 0, 1));
        let again = Which { again: true, ..all() };
        assert_eq!(chosen(&records, &again, 9), (vec![(0, 0), (0, 1)], 0, 0));
    }

    #[test]
    fn two_copies_of_one_record_are_one_and_both_are_marked() {
        let records = [
            letter(10, (0, 0), "truncated", "a", 1),
            letter(20, (3, 1), "truncated", "a", 1),
        ];
        let mut survey = Survey::default();
        records.iter().for_each(|record| survey.note(&all(), record));
        let choice = survey.choose(false, 1);
        assert_eq!(choice.chosen, HashMap::from([((0, 0), vec![(3, 1)])]));
        assert_eq!(
            (choice.more, choice.origins),
            (0, BTreeMap::from([(Arc::from("a"), 1)]))
        );
    }
}
