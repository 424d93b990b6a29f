//! The S3 adapter, held to the suite over LocalStack.

use crate::payload_store::PayloadWorld;
use crate::support::{World, unique, world};
use async_trait::async_trait;
use aws_config::SdkConfig;
use platform::aws::{self, AwsSettings};
use platform::payload_store::PayloadStore;
use platform::payload_store::s3::S3Store;
use std::sync::Arc;

/// The bucket of one case.
struct Bucket {
    config: SdkConfig,
    name: String,
}

impl Bucket {
    async fn new() -> Self {
        let settings = AwsSettings {
            endpoint: Some(world("WORLD_S3_ENDPOINT")),
            region: None,
        };
        let bucket = Self {
            config: aws::load(&settings).await,
            name: unique("case"),
        };
        S3Store::new(&bucket.config, &bucket.name)
            .provision()
            .await
            .unwrap();
        bucket
    }

    fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }
}

#[async_trait]
impl World for Bucket {
    async fn remove(&self) {
        let client = self.client();
        let objects = client.list_objects_v2().bucket(&self.name).send().await.unwrap();
        for object in objects.contents() {
            let key = object.key().unwrap();
            client
                .delete_object()
                .bucket(&self.name)
                .key(key)
                .send()
                .await
                .unwrap();
        }
        client.delete_bucket().bucket(&self.name).send().await.unwrap();
    }
}

#[async_trait]
impl PayloadWorld for Bucket {
    async fn open(&self) -> Arc<dyn PayloadStore> {
        Arc::new(S3Store::new(&self.config, &self.name))
    }
}

mod payloads {
    payload_store_suite!(super::Bucket::new().await);
}
