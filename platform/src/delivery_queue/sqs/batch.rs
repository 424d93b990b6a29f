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

/// The entries of a batch that can be put to SQS, and the results so far.
pub(super) struct Batch<T> {
    /// The entries, each with its index in the batch as its id.
    pub(super) entries: Vec<T>,
    slots: Vec<Option<Result<(), QueueError>>>,
}

impl<T> Batch<T> {
    /// Sorts entries from refusals.
    fn of(made: impl Iterator<Item = Result<T, QueueError>>) -> Self {
        let mut batch = Self {
            entries: Vec::new(),
            slots: Vec::new(),
        };
        for entry in made {
            match entry {
                Ok(entry) => {
                    batch.entries.push(entry);
                    batch.slots.push(None);
                }
                Err(error) => batch.slots.push(Some(Err(error))),
            }
        }
        batch
    }

    /// Notes what SQS answered.
    pub(super) fn note<'a>(
        &mut self,
        done: impl Iterator<Item = &'a str>,
        failed: &[BatchResultErrorEntry],
        sort: fn(&BatchResultErrorEntry) -> QueueError,
    ) {
        let failed = failed.iter().map(|entry| (entry.id(), Err(sort(entry))));
        for (id, result) in done.map(|id| (id, Ok(()))).chain(failed) {
            // An id we did not give is nothing to act on.
            if let Some(slot) = id
                .parse::<usize>()
                .ok()
                .and_then(|index| self.slots.get_mut(index))
            {
                *slot = Some(result);
            }
        }
    }

    /// The results in order: what was noted, else `rest`.
    pub(super) fn results(self, rest: &QueueError) -> Vec<Result<(), QueueError>> {
        self.slots
            .into_iter()
            .map(|slot| slot.unwrap_or_else(|| Err(rest.clone())))
            .collect()
    }
}

/// The result of an entry SQS says nothing of: it may have been taken or not.
pub(super) fn silence() -> QueueError {
    QueueError::Unavailable("SQS gave no result for this entry".to_owned())
}

/// Messages as entries of a send.
pub(super) fn to_send(messages: &[OutMessage]) -> Batch<SendMessageBatchRequestEntry> {
    let entries = messages.iter().enumerate();
    Batch::of(entries.map(|(index, message)| send_entry(index, message).map_err(QueueError::Refused)))
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

/// Receipts as entries of a delete.
pub(super) fn to_delete(receipts: &[Receipt]) -> Batch<DeleteMessageBatchRequestEntry> {
    Batch::of(receipts.iter().enumerate().map(|(index, receipt)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle(receipt)?)
            .build()
            .map_err(|error| QueueError::Refused(error.to_string()))
    }))
}

/// Receipts as entries of a change of visibility.
pub(super) fn to_extend(entries: &[(Receipt, Duration)]) -> Batch<ChangeMessageVisibilityBatchRequestEntry> {
    Batch::of(entries.iter().enumerate().map(|(index, (receipt, visibility))| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle(receipt)?)
            .visibility_timeout(seconds(*visibility, MAX_VISIBILITY))
            .build()
            .map_err(|error| QueueError::Refused(error.to_string()))
    }))
}

fn handle(receipt: &Receipt) -> Result<&str, QueueError> {
    match receipt {
        Receipt::Handle(handle) => Ok(handle),
        Receipt::Claim(..) => Err(QueueError::Refused("the receipt is not one of SQS".to_owned())),
    }
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
        "InvalidParameterValueException",
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
