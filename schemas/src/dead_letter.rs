//! Records of the dead-letter topic: what could not be read, as it was, with its place and the reason in
//! headers of our own behind those it had; and marks, which say what has been injected again.

use crate::event::Position;
use crate::time::Millis;
use bytes::Bytes;
use std::sync::Arc;

const TOPIC: &str = "hookwright-topic";
const PARTITION: &str = "hookwright-partition";
const OFFSET: &str = "hookwright-offset";
const TIMESTAMP: &str = "hookwright-timestamp";
const ERROR: &str = "hookwright-error";
const DETAIL: &str = "hookwright-error-detail";
const OURS: [&str; 6] = [TOPIC, PARTITION, OFFSET, TIMESTAMP, ERROR, DETAIL];

/// The header of a record that was injected again: the place it first had, as of [`place_text`]. Its event
/// id is derived from there, so that injecting it twice makes one event to receivers.
pub const ORIGIN: &str = "hookwright-origin";

/// The header of a mark: how many records it names.
const INJECTED: &str = "hookwright-injected";

/// Names and values beside a record.
pub type Headers = [(String, Bytes)];

/// What the headers of a dead letter say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record stood.
    pub position: Position,
    /// Its timestamp there.
    pub timestamp: Millis,
    /// Why it could not be read: a short word, such as `truncated`.
    pub class: String,
    /// The same at length, without any of the payload.
    pub detail: String,
}

impl DeadLetter {
    /// The headers that say so, to stand behind those of the record.
    #[must_use]
    pub fn headers(&self) -> [(String, Bytes); 6] {
        let values = [
            self.position.topic.to_string(),
            self.position.partition.to_string(),
            self.position.offset.to_string(),
            self.timestamp.0.to_string(),
            self.class.clone(),
            self.detail.clone(),
        ];
        let mut values = values.into_iter();
        OURS.map(|name| (name.to_owned(), Bytes::from(values.next().unwrap_or_default())))
    }

    /// What the headers of a dead letter say, and those that the record had; `None` for a record that is
    /// none of ours.
    #[must_use]
    pub fn read(headers: &Headers) -> Option<(Self, &Headers)> {
        let (before, ours) = headers.split_at_checked(headers.len().checked_sub(OURS.len())?)?;
        if ours
            .iter()
            .zip(OURS)
            .any(|((name, _), expected)| name != expected)
        {
            return None;
        }
        let text = |at: usize| std::str::from_utf8(&ours[at].1).ok();
        let letter = Self {
            position: Position {
                topic: Arc::from(text(0)?),
                partition: text(1)?.parse().ok()?,
                offset: text(2)?.parse().ok()?,
            },
            timestamp: Millis(text(3)?.parse().ok()?),
            class: text(4)?.to_owned(),
            detail: text(5)?.to_owned(),
        };
        Some((letter, before))
    }

    /// The headers to inject the record with: its own, and the place it had at first.
    #[must_use]
    pub fn injected(&self, own: &Headers) -> Vec<(String, Bytes)> {
        let mut headers = own.to_vec();
        // One that was injected before, and was unreadable again, has it.
        if !own.iter().any(|(name, _)| name == ORIGIN) {
            headers.push((ORIGIN.to_owned(), Bytes::from(place_text(&self.position))));
        }
        headers
    }
}

/// A place as `topic/partition/offset`. No topic's name has a slash.
#[must_use]
pub fn place_text(position: &Position) -> String {
    format!("{}/{}/{}", position.topic, position.partition, position.offset)
}

/// The place of [`place_text`]; `None` for other text.
#[must_use]
pub fn read_place(text: &str) -> Option<Position> {
    let mut parts = text.split('/');
    let position = Position {
        topic: Arc::from(parts.next().filter(|topic| !topic.is_empty())?),
        partition: parts.next()?.parse().ok()?,
        offset: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(position)
}

/// Partition and offset of a record within the dead-letter topic.
pub type Place = (i32, i64);

/// A mark that these records have been injected: its headers and its value, a line `partition/offset` each.
#[must_use]
pub fn mark(places: &[Place]) -> (Vec<(String, Bytes)>, Bytes) {
    let lines: String = places
        .iter()
        .map(|(partition, offset)| format!("{partition}/{offset}\n"))
        .collect();
    let count = Bytes::from(places.len().to_string());
    (vec![(INJECTED.to_owned(), count)], Bytes::from(lines))
}

/// The places that a mark names; `None` for a record that is no mark.
#[must_use]
pub fn read_mark(headers: &Headers, value: &[u8]) -> Option<Vec<Place>> {
    // The only header: an unreadable record that has one of that name has others of ours behind it.
    let [(name, _)] = headers else {
        return None;
    };
    if name != INJECTED {
        return None;
    }
    std::str::from_utf8(value)
        .ok()?
        .lines()
        .map(|line| {
            let (partition, offset) = line.split_once('/')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            position: Position {
                topic: Arc::from("orders"),
                partition: 3,
                offset: 42,
            },
            timestamp: Millis(1_767_225_599_123),
            class: "truncated".to_owned(),
            detail: "the datum ends early".to_owned(),
        }
    }

    fn own() -> Vec<(String, Bytes)> {
        vec![
            ("event-id".to_owned(), Bytes::from_static(b"a")),
            ("of-its-own".to_owned(), Bytes::from_static(b"\xff\x00")),
        ]
    }

    #[test]
    fn what_was_said_is_read_back_and_the_records_own_headers_stay_apart() {
        let headers = [own(), letter().headers().to_vec()].concat();
        assert_eq!(DeadLetter::read(&headers), Some((letter(), &own()[..])));
        assert_eq!(DeadLetter::read(&own()), None);
        assert_eq!(DeadLetter::read(&headers[..7]), None, "one of ours is missing");
        let mut wrong = headers;
        wrong[4].1 = Bytes::from_static(b"not a number");
        assert_eq!(DeadLetter::read(&wrong), None);
    }

    #[test]
    fn a_record_keeps_its_first_place_however_often_it_is_injected() {
        let first = letter().injected(&own());
        assert_eq!(
            first.last(),
            Some(&(ORIGIN.to_owned(), Bytes::from_static(b"orders/3/42")))
        );
        let mut again = letter();
        again.position.offset = 77;
        assert_eq!(again.injected(&first), first);
    }

    #[test]
    fn a_place_is_read_back_and_other_text_is_none() {
        let position = letter().position;
        assert_eq!(read_place(&place_text(&position)), Some(position));
        for text in ["", "orders", "orders/3", "/3/42", "orders/3/42/1", "orders/x/42"] {
            assert_eq!(read_place(text), None, "{text}");
        }
    }

    #[test]
    fn a_dead_letter_is_no_mark_whatever_its_own_headers_say() {
        let (mut headers, value) = mark(&[(0, 1)]);
        assert_eq!(read_mark(&headers, &value), Some(vec![(0, 1)]));
        assert_eq!(read_mark(&headers, b"0/x"), None);
        headers.extend(letter().headers());
        assert_eq!(read_mark(&headers, &value), None);
    }

    proptest! {
        #[test]
        fn marks_come_back_as_they_were(places: Vec<(i32, i64)>) {
            let (headers, value) = mark(&places);
            prop_assert_eq!(read_mark(&headers, &value), Some(places));
        }
    }
}
