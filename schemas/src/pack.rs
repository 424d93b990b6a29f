//! Many waiting deliveries in one object, and the one message that waits for all of them.
//!
//! The object holds messages as [`wire`](crate::wire) writes them, unchanged:
//!
//! ```text
//! "hookwright pack 1\n"
//! for each message: length of its attribute, length of its body (4 bytes each, big-endian), both
//! ```
//!
//! The message that stands for it has the body `-` and an attribute of its own version, so that a release
//! that knows no packs refuses it instead of taking it for a delivery:
//!
//! | field | |
//! |---|---|
//! | `v` | 2 |
//! | `tn`, `tg` | tenant and target of all its deliveries |
//! | `due` | when the first of them is due |
//! | `n` | how many there were at first |
//! | `ptr` | the object |
//! | `since` | when the retry window of the oldest began of those still in it; the first in the object is the oldest |
//! | `left` | how many of the first have left it, if any |
//! | `out` | which may leave it now, if that has been decided: `most` of them, and those whose window began `until` then |

use crate::delivery::PayloadPointer;
use crate::ids::{TargetId, Tenant};
use crate::time::Millis;
use crate::wire::{NO_BODY, WireError, WireMessage};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What waits for longer may be packed: it is held for up to a minute and a half before, and what is due never waits.
pub const WORTH: Duration = Duration::from_secs(120);

/// The version of the attribute of a pack's message.
pub const VERSION: u32 = 2;

/// What an object begins with.
const BEGIN: &[u8] = b"hookwright pack 1\n";
/// The two lengths before a message.
const LENGTHS: usize = 8;

/// A pack, as its message has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Whose its deliveries are.
    pub tenant: Tenant,
    /// Where they go.
    pub target: TargetId,
    /// When the first of them is due.
    pub due_at: Millis,
    /// How many its object holds.
    pub count: u32,
    /// The object that holds them, those whose retry window began first before the others.
    pub object: PayloadPointer,
    /// When the retry window of the oldest began of those that have not left.
    pub since: Millis,
    /// How many of the first have left.
    pub left: u32,
    /// Which may leave now, if that has been decided.
    pub out: Option<Out>,
}

/// Which of a pack's deliveries may leave it, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// So many of them at most.
    pub most: u32,
    /// Those whose retry window began then or before.
    pub until: Millis,
}

impl Out {
    /// All of them.
    pub const ALL: Self = Self::those(Millis(i64::MAX));
    /// The oldest.
    pub const ONE: Self = Self { most: 1, ..Self::ALL };

    /// Those whose retry window began `until` then.
    #[must_use]
    pub const fn those(until: Millis) -> Self {
        Self {
            most: u32::MAX,
            until,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Attribute {
    v: u32,
    tn: Tenant,
    tg: TargetId,
    due: Millis,
    n: u32,
    ptr: PayloadPointer,
    #[serde(default = "long_ago")]
    since: Millis,
    #[serde(default, skip_serializing_if = "is_none")]
    left: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out: Option<Out>,
}

/// A pack that says nothing of its oldest is taken for one that has to be looked into.
fn long_ago() -> Millis {
    Millis(0)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(left: &u32) -> bool {
    *left == 0
}

impl Pack {
    /// How many have not left.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.count.saturating_sub(self.left)
    }

    /// The queue's message group, as that of its deliveries.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}:{}", self.tenant, self.target)
    }

    /// The message that stands for it.
    #[must_use]
    pub fn message(&self) -> WireMessage {
        let attribute = Attribute {
            v: VERSION,
            tn: self.tenant.clone(),
            tg: self.target,
            due: self.due_at,
            n: self.count,
            ptr: self.object.clone(),
            since: self.since,
            left: self.left,
            out: self.out,
        };
        WireMessage {
            body: Bytes::from_static(NO_BODY),
            // Unwrap safety: text and numbers under fixed names, written to memory, cannot fail.
            attribute: serde_json::to_string(&attribute).expect("plain fields serialise"),
        }
    }

    /// Reads a message's attribute.
    ///
    /// # Errors
    /// When it is of no pack.
    pub fn from_attribute(attribute: &str) -> Result<Self, WireError> {
        let read: Attribute = serde_json::from_str(attribute).map_err(|_| WireError::NotJson)?;
        if read.v != VERSION {
            return Err(WireError::UnknownVersion(read.v));
        }
        Ok(Self {
            tenant: read.tn,
            target: read.tg,
            due_at: read.due,
            count: read.n,
            object: read.ptr,
            since: read.since,
            left: read.left,
            out: read.out,
        })
    }
}

/// How many bytes of an object a message takes.
#[must_use]
pub fn size(message: &WireMessage) -> usize {
    LENGTHS + message.attribute.len() + message.body.len()
}

/// Writes an object.
#[must_use]
pub fn write(messages: &[WireMessage]) -> Bytes {
    let bytes = messages.iter().map(size).sum::<usize>() + BEGIN.len();
    let mut object = Vec::with_capacity(bytes);
    object.extend_from_slice(BEGIN);
    for message in messages {
        for part in [message.attribute.as_bytes(), &message.body] {
            // Unwrap safety: a message has at most 1 MiB.
            let length = u32::try_from(part.len()).expect("a message's part is short");
            object.extend_from_slice(&length.to_be_bytes());
        }
        object.extend_from_slice(message.attribute.as_bytes());
        object.extend_from_slice(&message.body);
    }
    object.into()
}

/// An object that is no pack this release can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object is not a pack of waiting deliveries, or of another version")]
pub struct NotAPack;

/// Reads an object back. Bodies are slices of it, not copies.
///
/// # Errors
/// When it is none.
pub fn read(object: &Bytes) -> Result<Vec<WireMessage>, NotAPack> {
    let mut rest = match object.get(..BEGIN.len()) {
        Some(BEGIN) => object.slice(BEGIN.len()..),
        Some(_) | None => return Err(NotAPack),
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = |at: usize| -> Result<usize, NotAPack> {
            let bytes = rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            let length = u32::from_be_bytes(bytes.ok_or(NotAPack)?);
            usize::try_from(length).map_err(|_| NotAPack)
        };
        let (attribute, body) = (length(0)?, length(4)?);
        let end = LENGTHS.checked_add(attribute).ok_or(NotAPack)?;
        let whole = end.checked_add(body).filter(|whole| *whole <= rest.len());
        let whole = whole.ok_or(NotAPack)?;
        let text = std::str::from_utf8(&rest[LENGTHS..end]).map_err(|_| NotAPack)?;
        messages.push(WireMessage {
            body: rest.slice(end..whole),
            attribute: text.to_owned(),
        });
        rest = rest.slice(whole..);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;

    fn pack() -> Pack {
        Pack {
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(7),
            due_at: Millis(1_767_225_599_123),
            count: 1000,
            object: PayloadPointer {
                bucket: "hookwright-payloads".to_owned(),
                key: "packs/acme/7/0".to_owned(),
                size: 18,
                sha256: crate::ids::sha256_hex(b""),
            },
            since: Millis(1_767_225_500_000),
            left: 0,
            out: None,
        }
    }

    #[test]
    fn what_has_left_and_what_may_leave_are_in_the_message() {
        let mut pack = pack();
        for out in [Out::ALL, Out::ONE, Out::those(Millis(7))] {
            (pack.left, pack.out) = (3, Some(out));
            let attribute = pack.message().attribute;
            assert_eq!(Pack::from_attribute(&attribute), Ok(pack.clone()));
        }
        assert_eq!(pack.waiting(), 997);
        let attribute = pack.message().attribute;
        assert_eq!(attribute, include_str!("../golden/pack_out.attribute.json"));
        // As messages were before they said so.
        let early = include_str!("../golden/pack_early.attribute.json");
        let read = Pack::from_attribute(early).unwrap();
        assert_eq!((read.since, read.left, read.out), (Millis(0), 0, None));
    }

    #[test]
    fn a_packs_message_never_changes_its_form_and_no_older_release_takes_it_for_a_delivery() {
        let message = pack().message();
        assert_eq!(message.attribute, include_str!("../golden/pack.attribute.json"));
        assert_eq!(&message.body[..], b"-");
        assert_eq!(Pack::from_attribute(&message.attribute), Ok(pack()));
        assert_eq!(
            wire::decode(message.body, &message.attribute),
            Err(WireError::UnknownVersion(VERSION))
        );
        let with_more = message.attribute.replacen('{', r#"{"new":{"a":[1,null]},"#, 1);
        assert_eq!(Pack::from_attribute(&with_more), Ok(pack()));
        let delivery = include_str!("../golden/delivery_inline.attribute.json");
        assert!(Pack::from_attribute(delivery).is_err());
    }

    #[test]
    fn an_object_that_is_damaged_is_refused() {
        let message = WireMessage {
            body: Bytes::from_static(b"body"),
            attribute: "{}".to_owned(),
        };
        let good = write(&[message.clone(), message]);
        assert_eq!(read(&good).unwrap().len(), 2);
        let one = BEGIN.len() + LENGTHS + 6;
        for end in 0..good.len() {
            let cut = read(&good.slice(..end));
            let is_whole = end == BEGIN.len() || end == one;
            assert_eq!(cut.is_ok(), is_whole, "{end}");
        }
        let mut huge = good.to_vec();
        huge[BEGIN.len()..BEGIN.len() + LENGTHS].fill(0xff);
        assert_eq!(read(&huge.into()), Err(NotAPack));
        let mut not_text = good.to_vec();
        not_text[BEGIN.len() + LENGTHS] = 0xff;
        assert_eq!(read(&not_text.into()), Err(NotAPack));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            messages in prop::collection::vec((".{0,40}", prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        ) {
            let messages: Vec<WireMessage> = messages
                .into_iter()
                .map(|(attribute, body)| WireMessage { body: body.into(), attribute })
                .collect();
            let object = write(&messages);
            prop_assert_eq!(object.len(), BEGIN.len() + messages.iter().map(size).sum::<usize>());
            prop_assert_eq!(read(&object), Ok(messages));
        }

        #[test]
        fn no_object_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&Bytes::from([BEGIN, &tail].concat()));
        }
    }
}
