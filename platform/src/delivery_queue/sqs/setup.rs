//! Creates the four queues, or brings existing ones to these settings.

use super::{SqsQueue, count};
use crate::delivery_queue::{QueueError, QueueName};
use aws_sdk_sqs::types::QueueAttributeName;
use std::collections::HashMap;

/// How often a message may be received and not deleted before SQS gives it up: it catches a
/// message that crashes whoever takes it. Attempts at a target are counted in the message instead.
const MAX_RECEIVES: u32 = 20;

const DAY: u32 = 86_400;

impl SqsQueue {
    /// Creates the queues that do not exist and sets the attributes of all.
    pub(super) async fn create_queues(&self) -> Result<(), QueueError> {
        let dead_letter = self.create(QueueName::DeadLetter, 14 * DAY, None).await?;
        let arn = self.arn(QueueName::DeadLetter, &dead_letter).await?;
        for queue in [QueueName::Dispatch, QueueName::Slow, QueueName::Retry] {
            self.create(queue, 4 * DAY, Some(&arn)).await?;
        }
        Ok(())
    }

    /// Creates one queue and answers its URL.
    ///
    /// Created bare and then set: creating an existing queue with other attributes than it has is
    /// an error, creating it with none is not.
    async fn create(
        &self,
        queue: QueueName,
        retention: u32,
        dead_letter: Option<&str>,
    ) -> Result<String, QueueError> {
        count(queue, "create");
        let created = self
            .client
            .create_queue()
            .queue_name(self.name(queue))
            .send()
            .await
            .map_err(|error| self.unavailable(queue, &error))?;
        let url = created.queue_url.unwrap_or_default();
        let mut attributes = HashMap::from([
            (QueueAttributeName::MessageRetentionPeriod, retention.to_string()),
            (QueueAttributeName::VisibilityTimeout, "120".to_owned()),
            // Queues from before August 2025 still have a quarter of it.
            (QueueAttributeName::MaximumMessageSize, "1048576".to_owned()),
        ]);
        if let Some(arn) = dead_letter {
            let policy = serde_json::json!({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES});
            attributes.insert(QueueAttributeName::RedrivePolicy, policy.to_string());
        }
        count(queue, "set_attributes");
        self.client
            .set_queue_attributes()
            .queue_url(&url)
            .set_attributes(Some(attributes))
            .send()
            .await
            .map_err(|error| self.unavailable(queue, &error))?;
        Ok(url)
    }

    /// The name by which a redrive policy knows a queue.
    async fn arn(&self, queue: QueueName, url: &str) -> Result<String, QueueError> {
        count(queue, "get_attributes");
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .map_err(|error| self.unavailable(queue, &error))?;
        answer
            .attributes()
            .and_then(|attributes| attributes.get(&QueueAttributeName::QueueArn))
            .cloned()
            .ok_or_else(|| QueueError::Unavailable(format!("queue {} has no QueueArn", self.name(queue))))
    }
}
