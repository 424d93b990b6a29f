//! The delivery queue in SQS: four standard queues, every call a batch.
//!
//! | module | holds |
//! |---|---|
//! | `batch` | from our entries to SQS's and from its per-entry results to ours |
//! | `setup` | creating the four queues |
//!
//! A batch call has two ways to fail: as a whole, and entry by entry in an answer of status 200.
//! The SDK retries the first and never the second.

mod batch;
mod setup;

use super::{DeliveryQueue, Depth, InMessage, OutMessage, QueueError, QueueLimits, QueueName, Receipt};
use crate::aws;
use crate::telemetry::names;
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The one message attribute: everything but the body, as JSON.
const ATTRIBUTE: &str = "hookwright";

/// The longest a receive may wait, in seconds: SQS's limit.
const MAX_WAIT: u64 = 20;

/// The longest a message may stay hidden after a receive, in seconds: SQS's limit.
const MAX_VISIBILITY: u64 = 43_200;

/// What one send may carry, in bytes: SQS's 1 MiB, less room for group ids and entry ids.
const BATCH_BYTES: usize = 1_048_576 - 8_192;

/// Deliveries waiting in SQS.
#[derive(Debug)]
pub struct SqsQueue {
    client: Client,
    /// For receives: each attempt outlasts the poll that it carries.
    receiving: Client,
    prefix: String,
    /// Where calls go, for messages.
    place: String,
    receive_wait: Duration,
    /// Queue URLs, found at the first use, in the order of [`QueueName::ALL`].
    urls: [OnceCell<String>; 4],
}

impl SqsQueue {
    /// The queues `<prefix>-dispatch`, `-slow`, `-retry` and `-dead-letter`. Calls nothing yet.
    #[must_use]
    pub fn new(config: &SdkConfig, prefix: &str) -> Self {
        let sqs = Builder::from(config)
            // A long poll is silent for seconds on end; to the SDK's protection it looks stalled.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts(Duration::from_secs(5), Duration::from_secs(15)))
            .build();
        let client = Client::from_conf(sqs);
        let receive_wait = Duration::from_secs(MAX_WAIT);
        Self {
            receiving: receiving(&client, receive_wait),
            client,
            prefix: prefix.to_owned(),
            place: aws::place(config, "SQS", "AWS_ENDPOINT_URL_SQS"),
            receive_wait,
            urls: [const { OnceCell::const_new() }; 4],
        }
    }

    /// The same, whose receives wait for less. One that is under way when the process stops holds it
    /// up for as long: dropped, it would leave hidden what SQS still gives it.
    #[must_use]
    pub fn with_receive_wait(mut self, wait: Duration) -> Self {
        self.receive_wait = wait.min(Duration::from_secs(MAX_WAIT));
        self.receiving = receiving(&self.client, self.receive_wait);
        self
    }

    /// A queue's name.
    fn name(&self, queue: QueueName) -> String {
        format!("{}-{}", self.prefix, queue.suffix())
    }

    /// A queue's URL. A failure to find it is not remembered.
    async fn url(&self, queue: QueueName) -> Result<&str, QueueError> {
        let cell = match queue {
            QueueName::Dispatch => &self.urls[0],
            QueueName::Slow => &self.urls[1],
            QueueName::Retry => &self.urls[2],
            QueueName::DeadLetter => &self.urls[3],
        };
        let url = cell
            .get_or_try_init(|| async {
                count(queue, "get_url");
                let found = self
                    .client
                    .get_queue_url()
                    .queue_name(self.name(queue))
                    .send()
                    .await;
                match found {
                    Ok(answer) => Ok(answer.queue_url.unwrap_or_default()),
                    Err(error) => Err(self.unavailable(queue, &error)),
                }
            })
            .await?;
        Ok(url)
    }

    /// The failure of a whole call, as one that may pass.
    fn unavailable<E>(&self, queue: QueueName, error: &SdkError<E>) -> QueueError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        QueueError::Unavailable(if is_no_queue(error.code()) {
            format!(
                "queue {} does not exist at {}; run hookwright provision",
                self.name(queue),
                self.place
            )
        } else {
            aws::explain(error, &self.place)
        })
    }

    /// Sends one batch; `Err` when the call as a whole failed in a way that the batch as a whole
    /// may be to blame for.
    async fn send_whole(
        &self,
        queue: QueueName,
        url: &str,
        messages: &[OutMessage],
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let mut batch = batch::to_send(messages);
        let entries = std::mem::take(&mut batch.entries);
        if entries.is_empty() {
            return Ok(batch.results(&batch::silence()));
        }
        count(queue, "send");
        let call = self.client.send_message_batch().queue_url(url);
        match call.set_entries(Some(entries)).send().await {
            Ok(answer) => {
                let done = answer.successful().iter().map(|entry| entry.id());
                batch.note(done, answer.failed(), batch::sort_send);
                Ok(batch.results(&batch::silence()))
            }
            Err(error) if error.code().is_some_and(batch::is_refusal) => {
                Err(QueueError::Refused(aws::explain(&error, &self.place)))
            }
            Err(error) => Ok(batch.results(&self.unavailable(queue, &error))),
        }
    }
}

#[async_trait]
impl DeliveryQueue for SqsQueue {
    async fn send(&self, queue: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        let url = match self.url(queue).await {
            Ok(url) => url,
            Err(error) => return vec![Err(error); batch.len()],
        };
        let refusal = match self.send_whole(queue, url, batch).await {
            Ok(results) => return results,
            Err(refusal) => refusal,
        };
        if batch.len() == 1 {
            return vec![Err(refusal)];
        }
        // One entry, or all of them together: only those that fail alone are to blame.
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            match self.send_whole(queue, url, std::slice::from_ref(message)).await {
                Ok(alone) => results.extend(alone),
                Err(refusal) => results.push(Err(refusal)),
            }
        }
        results
    }

    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        let url = self.url(queue).await?;
        let wait = wait.min(self.receive_wait).as_millis().div_ceil(1000);
        count(queue, "receive");
        let answer = self
            .receiving
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(max.clamp(1, super::MAX_RECEIVE) as i32)
            .wait_time_seconds(wait as i32)
            .visibility_timeout(batch::seconds(visibility, MAX_VISIBILITY))
            .message_attribute_names(ATTRIBUTE)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| self.unavailable(queue, &error))?;
        let messages = answer.messages.unwrap_or_default();
        Ok(messages.into_iter().filter_map(batch::received).collect())
    }

    async fn delete(&self, queue: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        let url = match self.url(queue).await {
            Ok(url) => url,
            Err(error) => return vec![Err(error); receipts.len()],
        };
        let mut batch = batch::to_delete(receipts);
        let entries = std::mem::take(&mut batch.entries);
        if entries.is_empty() {
            return batch.results(&batch::silence());
        }
        count(queue, "delete");
        let call = self.client.delete_message_batch().queue_url(url);
        match call.set_entries(Some(entries)).send().await {
            Ok(answer) => {
                let done = answer.successful().iter().map(|entry| entry.id());
                batch.note(done, answer.failed(), batch::sort_receipt);
                batch.results(&batch::silence())
            }
            Err(error) => batch.results(&self.unavailable(queue, &error)),
        }
    }

    async fn extend(&self, queue: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
        let url = match self.url(queue).await {
            Ok(url) => url,
            Err(error) => return vec![Err(error); entries.len()],
        };
        let mut batch = batch::to_extend(entries);
        let entries = std::mem::take(&mut batch.entries);
        if entries.is_empty() {
            return batch.results(&batch::silence());
        }
        count(queue, "extend");
        let call = self.client.change_message_visibility_batch().queue_url(url);
        match call.set_entries(Some(entries)).send().await {
            Ok(answer) => {
                let done = answer.successful().iter().map(|entry| entry.id());
                batch.note(done, answer.failed(), batch::sort_receipt);
                batch.results(&batch::silence())
            }
            Err(error) => batch.results(&self.unavailable(queue, &error)),
        }
    }

    async fn depth(&self, queue: QueueName) -> Result<Depth, QueueError> {
        let url = self.url(queue).await?;
        count(queue, "depth");
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            .send()
            .await
            .map_err(|error| self.unavailable(queue, &error))?;
        let number = |name: &QueueAttributeName| {
            answer
                .attributes()
                .and_then(|attributes| attributes.get(name))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        Ok(Depth {
            visible: number(&QueueAttributeName::ApproximateNumberOfMessages),
            delayed: number(&QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            in_flight: number(&QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        })
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            receive_entries: super::MAX_RECEIVE,
            batch_entries: 10,
            batch_bytes: BATCH_BYTES,
            linger: Duration::from_millis(5),
            concurrency: 32,
            // An idle queue costs a request per wait.
            receive_wait: self.receive_wait,
            drop_receive: false,
        }
    }

    async fn provision(&self) -> Result<(), QueueError> {
        self.create_queues().await
    }

    async fn check(&self) -> Result<(), QueueError> {
        for queue in QueueName::ALL {
            self.depth(queue).await?;
        }
        Ok(())
    }
}

/// A client, on the same connections, whose answers may take so much longer.
fn receiving(client: &Client, wait: Duration) -> Client {
    let attempt = wait + Duration::from_secs(5);
    let config = client.config().to_builder();
    Client::from_conf(
        config
            .timeout_config(timeouts(attempt, attempt + Duration::from_secs(5)))
            .build(),
    )
}

/// Timeouts of one attempt and of a call with its retries.
fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// The two codes of one fault: of the JSON protocol, and of the query protocol some clones speak.
fn is_no_queue(code: Option<&str>) -> bool {
    matches!(
        code,
        Some("QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue")
    )
}

/// Counts a request: each costs money.
fn count(queue: QueueName, call: &'static str) {
    metrics::counter!(names::QUEUE_REQUESTS, "queue" => queue.suffix(), "call" => call).increment(1);
}
