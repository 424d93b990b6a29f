//! The SQS adapter, held to the suite over LocalStack.

use crate::delivery_queue::QueueWorld;
use crate::support::{World, unique, world};
use async_trait::async_trait;
use aws_config::SdkConfig;
use platform::aws::{self, AwsSettings};
use platform::delivery_queue::sqs::SqsQueue;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use std::sync::Arc;

/// Four queues of one case.
struct Queues {
    config: SdkConfig,
    prefix: String,
}

impl Queues {
    async fn new() -> Self {
        let settings = AwsSettings {
            endpoint: Some(world("WORLD_SQS_ENDPOINT")),
            region: None,
        };
        let queues = Self {
            config: aws::load(&settings).await,
            prefix: unique("case"),
        };
        SqsQueue::new(&queues.config, &queues.prefix)
            .provision()
            .await
            .unwrap();
        queues
    }
}

#[async_trait]
impl World for Queues {
    async fn remove(&self) {
        let client = aws_sdk_sqs::Client::new(&self.config);
        for queue in QueueName::ALL {
            let name = format!("{}-{}", self.prefix, queue.suffix());
            let url = client
                .get_queue_url()
                .queue_name(name)
                .send()
                .await
                .unwrap()
                .queue_url;
            client.delete_queue().set_queue_url(url).send().await.unwrap();
        }
    }
}

#[async_trait]
impl QueueWorld for Queues {
    async fn open(&self) -> Arc<dyn DeliveryQueue> {
        Arc::new(SqsQueue::new(&self.config, &self.prefix))
    }
}

mod queue {
    delivery_queue_suite!(super::Queues::new().await);
}
