//! From our entries to SQS's, and from its per-entry results to ours. No I/O.
//!
//! An entry's id within its batch is its index, as text.

use super::{ATTRIBUTE, MAX_VISIBILITY};
use crate::aws;
use crate::delivery_queue::{InMessage, MAX_DELAY, OutMessage, QueueError, Receipt};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use bytes::Bytes;
use std::time::Duration;

/// A result for each entry that has one, by its index.
pub(super) type Results = Vec<(usize, Result<(), QueueError>)>;

/// Results as they come together: `None` for an entry not heard of.
pub(super) type Slots = Vec<Option<Result<(), QueueError>>>;

/// Entries to send, and where each stood in the batch.
pub(super) struct SendEntries {
    indices: Vec<usize>,
    entries: Vec<SendMessageBatchRequestEntry>,
}

impl SendEntries {
    /// The entries that can be sent, and the refusals of those that cannot.
    pub(super) fn of(batch: &[OutMessage]) -> (Self, Slots) {
        let mut sendable = Self {
            indices: Vec::with_capacity(batch.len()),
            entries: Vec::with_capacity(batch.len()),
        };
        let mut slots = vec![None; batch.len()];
        for (index, message) in batch.iter().enumerate() {
            match send_entry(index, message) {
                Ok(entry) => {
                    sendable.indices.push(index);
                    sendable.entries.push(entry);
                }
                Err(why) => slots[index] = Some(Err(QueueError::Refused(why))),
            }
        }
        (sendable, slots)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<usize>, Vec<SendMessageBatchRequestEntry>) {
        (self.indices, self.entries)
    }
}

fn send_entry(index: usize, message: &OutMessage) -> Result<SendMessageBatchRequestEntry, String> {
    if message.body.is_empty() {
        return Err("the body is empty; SQS takes at least one byte".to_owned());
    }
    let body = std::str::from_utf8(&message.body).map_err(|_| "the body is not UTF-8".to_owned())?;
    if message.delay > MAX_DELAY {
        return Err(format!(
            "the delay is {:?}; at most {MAX_DELAY:?} is possible",
            message.delay
        ));
    }
    let attribute = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(&message.attribute)
        .build()
        .map_err(|error| error.to_string())?;
    SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(body)
        .message_attributes(ATTRIBUTE, attribute)
        .message_group_id(&message.group)
        .delay_seconds(seconds(message.delay, MAX_DELAY.as_secs()))
        .build()
        .map_err(|error| error.to_string())
}

/// Entries of a delete, where each stood, and the refusals.
pub(super) fn delete_entries(
    receipts: &[Receipt],
) -> (Vec<usize>, Vec<DeleteMessageBatchRequestEntry>, Slots) {
    let entries = receipts.iter().enumerate().map(|(index, receipt)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle(receipt)?)
            .build()
            .map_err(|error| QueueError::Refused(error.to_string()))
    });
    sorted(entries)
}

/// Entries of a change of visibility, where each stood, and the refusals.
pub(super) fn extend_entries(
    entries: &[(Receipt, Duration)],
) -> (Vec<usize>, Vec<ChangeMessageVisibilityBatchRequestEntry>, Slots) {
    let entries = entries.iter().enumerate().map(|(index, (receipt, visibility))| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle(receipt)?)
            .visibility_timeout(seconds(*visibility, MAX_VISIBILITY))
            .build()
            .map_err(|error| QueueError::Refused(error.to_string()))
    });
    sorted(entries)
}

fn handle(receipt: &Receipt) -> Result<&str, QueueError> {
    match receipt {
        Receipt::Handle(handle) => Ok(handle),
        Receipt::Claim(..) => Err(QueueError::Refused("the receipt is not one of SQS".to_owned())),
    }
}

/// Entries apart from refusals, each with its index.
fn sorted<T>(entries: impl Iterator<Item = Result<T, QueueError>>) -> (Vec<usize>, Vec<T>, Slots) {
    let (mut indices, mut good, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in entries.enumerate() {
        match entry {
            Ok(entry) => {
                indices.push(index);
                good.push(entry);
                slots.push(None);
            }
            Err(error) => slots.push(Some(Err(error))),
        }
    }
    (indices, good, slots)
}

/// A message as SQS gave it; `None` without a receipt, which SQS never leaves out.
pub(super) fn received(message: Message) -> Option<InMessage> {
    let attribute = message
        .message_attributes
        .and_then(|mut attributes| attributes.remove(ATTRIBUTE))
        .and_then(|value| value.string_value)
        .unwrap_or_default();
    let receive_count = message
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount))
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    Some(InMessage {
        body: Bytes::from(message.body.unwrap_or_default()),
        attribute,
        receipt: Receipt::Handle(message.receipt_handle?),
        receive_count,
    })
}

/// Whole seconds, a part of one counted as one, at most `limit`.
pub(super) fn seconds(time: Duration, limit: u64) -> i32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(whole.min(limit)).unwrap_or(i32::MAX)
}

/// The results of an answered batch call. Entries SQS says nothing of are left out.
pub(super) fn results<'a>(
    indices: &[usize],
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
    sort: fn(&BatchResultErrorEntry) -> QueueError,
) -> Results {
    let index = |id: &str| id.parse::<usize>().ok().filter(|index| indices.contains(index));
    let done = done.filter_map(|id| Some((index(id)?, Ok(()))));
    let failed = failed
        .iter()
        .filter_map(|entry| Some((index(entry.id())?, Err(sort(entry)))));
    done.chain(failed).collect()
}

/// One failure for every entry of a call.
pub(super) fn all(indices: &[usize], failure: &QueueError) -> Results {
    indices
        .iter()
        .map(|index| (*index, Err(failure.clone())))
        .collect()
}

/// Puts results into their places.
pub(super) fn put(slots: &mut Slots, results: Results) {
    for (index, result) in results {
        slots[index] = Some(result);
    }
}

/// The results in order. An entry not heard of may have been taken or not: it is to be tried again.
pub(super) fn settle(slots: Slots) -> Vec<Result<(), QueueError>> {
    let silent = || {
        Err(QueueError::Unavailable(
            "SQS gave no result for this entry".to_owned(),
        ))
    };
    slots
        .into_iter()
        .map(|slot| slot.unwrap_or_else(silent))
        .collect()
}

/// What the failure of one entry of a send means.
pub(super) fn sort_send(entry: &BatchResultErrorEntry) -> QueueError {
    if entry.sender_fault() && !is_throttle(entry.code()) {
        QueueError::Refused(describe(entry))
    } else {
        QueueError::Unavailable(describe(entry))
    }
}

/// What the failure of one entry of a delete or of a change of visibility means.
pub(super) fn sort_receipt(entry: &BatchResultErrorEntry) -> QueueError {
    // SQS says InvalidParameterValue of a message that is deleted or visible again; the other
    // parameters are ours and valid.
    let gone = [
        "ReceiptHandleIsInvalid",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValue",
    ];
    if gone.contains(&entry.code()) {
        QueueError::Expired
    } else {
        sort_send(entry)
    }
}

/// Codes of the moment, whoever's fault SQS calls them.
fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "RequestThrottled"
            | "ThrottlingException"
            | "Throttling"
            | "OverLimit"
            | "KmsThrottled"
            | "KMS.ThrottlingException"
    )
}

/// Codes of a whole call that no repetition cures.
pub(super) fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "BatchRequestTooLong" | "AWS.SimpleQueueService.BatchRequestTooLong" | "InvalidMessageContents"
    )
}

fn describe(entry: &BatchResultErrorEntry) -> String {
    aws::shortened(&format!(
        "{}: {}",
        entry.code(),
        entry.message().unwrap_or("no message")
    ))
}
