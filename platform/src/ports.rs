//! The adapters a configuration asks for, opened.

use crate::catalog::data_keys::{DataKeyError, DataKeys};
use crate::catalog::{Catalog, CatalogError, PostgresOptions};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, LogKind, PayloadsKind, QueueKind, SyncKind};
use crate::data_dir::{self, DataDir, DataDirError};
use crate::delivery_queue::DeliveryQueue;
use crate::delivery_queue::embedded::EmbeddedQueue;
use crate::delivery_queue::intake::LATE;
use crate::delivery_queue::sqs::SqsQueue;
use crate::event_log::EventLog;
use crate::event_log::embedded::EmbeddedLog;
use crate::event_log::kafka::{KafkaConfig, KafkaLog};
use crate::payload_store::PayloadStore;
use crate::payload_store::embedded::DirectoryStore;
use crate::payload_store::s3::S3Store;
use crate::secrets::Sealer;
use crate::secrets::kms::Kms;
use crate::sqlite::Sync;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the configuration names is not there: the key, and why.
    #[error("{key}: {why}")]
    Unavailable {
        /// The key that names it.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl OpenError {
    /// What `key` names is not there.
    pub fn unavailable(key: &'static str, why: &dyn std::fmt::Display) -> Self {
        Self::Unavailable {
            key,
            why: why.to_string(),
        }
    }
}

/// Opens the adapters of one process. The data folder is locked once, by whatever needs it first.
pub struct Opener<'a> {
    config: &'a Config,
    clock: Clock,
    data: Option<Arc<DataDir>>,
    aws: Option<aws_config::SdkConfig>,
}

impl<'a> Opener<'a> {
    /// Opens what `config` asks for.
    #[must_use]
    pub fn new(config: &'a Config, clock: Clock) -> Self {
        Self {
            config,
            clock,
            data: None,
            aws: None,
        }
    }

    /// The lock of the data folder, to be held as long as the adapters are used; `None` while
    /// nothing embedded is open.
    #[must_use]
    pub fn lock(&self) -> Option<Arc<DataDir>> {
        self.data.clone()
    }

    fn data(&mut self) -> Result<&Path, OpenError> {
        if self.data.is_none() {
            let data =
                DataDir::open(&self.config.data).map_err(|error| OpenError::unavailable("data", &error))?;
            self.data = Some(Arc::new(data));
        }
        Ok(&self.config.data)
    }

    /// The data folder, with a database's file in it that is its owner's alone.
    fn data_with(&mut self, database: &str) -> Result<&Path, OpenError> {
        let data = self.data()?;
        data_dir::create_file(&data.join(database))
            .map_err(|error| OpenError::unavailable("data", &DataDirError::explain(data, &error)))?;
        Ok(data)
    }

    fn sync(&self) -> Sync {
        match self.config.embedded.sync {
            SyncKind::Normal => Sync::Normal,
            SyncKind::Full => Sync::Full,
        }
    }

    async fn aws(&mut self) -> &aws_config::SdkConfig {
        if self.aws.is_none() {
            let aws = &self.config.aws;
            let settings = crate::aws::AwsSettings {
                region: aws.region.clone(),
                endpoint: aws.endpoint.clone(),
            };
            self.aws = Some(crate::aws::load(&settings).await);
        }
        // Unwrap safety: set just above.
        self.aws.as_ref().expect("loaded")
    }

    /// The event log.
    ///
    /// # Errors
    /// [`OpenError`] names the key.
    pub async fn log(&mut self) -> Result<Arc<dyn EventLog>, OpenError> {
        match self.config.events.log {
            LogKind::Embedded => {
                let (sync, clock) = (self.sync(), self.clock.clone());
                let retention = self.config.embedded.retention.0;
                let log = EmbeddedLog::open(self.data_with("log.db")?, sync, clock, retention)
                    .map_err(|error| OpenError::unavailable("data", &error))?;
                Ok(Arc::new(log))
            }
            LogKind::Kafka => {
                let kafka = &self.config.kafka;
                let log = KafkaLog::new(KafkaConfig {
                    brokers: kafka.brokers.clone(),
                    partitions: kafka.partitions,
                    properties: kafka.properties.clone(),
                    instance: kafka.instance.clone(),
                    protocol: kafka.protocol,
                    ..KafkaConfig::default()
                });
                Ok(Arc::new(log))
            }
        }
    }

    /// The delivery queue.
    ///
    /// # Errors
    /// [`OpenError`] names the key.
    pub async fn queue(&mut self) -> Result<Arc<dyn DeliveryQueue>, OpenError> {
        match self.config.queue.kind {
            QueueKind::Embedded => {
                let (sync, clock) = (self.sync(), self.clock.clone());
                let queue = EmbeddedQueue::open(self.data_with("queue.db")?, sync, clock)
                    .map_err(|error| OpenError::unavailable("data", &error))?;
                Ok(Arc::new(queue))
            }
            QueueKind::Sqs => {
                let prefix = self.config.queue.prefix.clone();
                let wait = receive_wait(self.config.shutdown.grace.0);
                Ok(Arc::new(
                    SqsQueue::new(self.aws().await, &prefix).with_receive_wait(wait),
                ))
            }
        }
    }

    /// The payload store.
    ///
    /// # Errors
    /// [`OpenError`] names the key.
    pub async fn payloads(&mut self) -> Result<Arc<dyn PayloadStore>, OpenError> {
        match self.config.payloads.kind {
            PayloadsKind::Embedded => {
                let sync = self.sync();
                let store = DirectoryStore::open(&self.data()?.join("payloads"), sync)
                    .map_err(|error| OpenError::unavailable("data", &error))?;
                Ok(Arc::new(store))
            }
            PayloadsKind::S3 => {
                let bucket = self.config.payloads.bucket.clone();
                Ok(Arc::new(S3Store::new(self.aws().await, &bucket)))
            }
        }
    }

    /// The catalog. SQLite's is brought to the newest form here; a Postgres is migrated by
    /// `hookwright provision`, since several processes share it.
    ///
    /// # Errors
    /// [`OpenError`] names the key.
    pub async fn catalog(&mut self) -> Result<Catalog, OpenError> {
        let embedded = self.config.store_url().starts_with("sqlite:");
        self.open_catalog(embedded).await
    }

    /// The catalog, brought to the newest form, with a data key where `secrets.kms_key` asks for one.
    ///
    /// # Errors
    /// [`OpenError`] names the key.
    pub async fn provisioned_catalog(&mut self) -> Result<Catalog, OpenError> {
        self.open_catalog(true).await
    }

    async fn open_catalog(&mut self, provision: bool) -> Result<Catalog, OpenError> {
        self.config.check_sealing()?;
        let url = self.config.store_url();
        if url.starts_with("sqlite:") && self.config.store.url.is_none() {
            data_dir::create(&self.config.data).map_err(|error| {
                OpenError::unavailable("data", &DataDirError::explain(&self.config.data, &error))
            })?;
        }
        let sealer = self.sealer(&url, provision).await?;
        let unavailable = |error: CatalogError| OpenError::unavailable("store.url", &error);
        let catalog = Catalog::open_with(&url, sealer, self.clock.clone(), self.postgres())
            .await
            .map_err(unavailable)?;
        if provision {
            catalog.migrate().await.map_err(unavailable)?;
        }
        Ok(catalog)
    }

    fn postgres(&self) -> PostgresOptions {
        PostgresOptions {
            connections: self.config.store.connections,
            wait: self.config.store.wait.0,
            row_level_security: self.config.store.row_level_security,
        }
    }

    /// What seals and opens: the keys of the configuration, and those that KMS decrypts.
    async fn sealer(&mut self, url: &str, make: bool) -> Result<Sealer, OpenError> {
        let (key, mut opens) = self.config.master_keys()?;
        let (postgres, clock) = (self.postgres(), self.clock.clone());
        let of_kms = match &self.config.secrets.kms_key {
            None => None,
            Some(kms_key) => {
                let kms = Kms::new(self.aws().await);
                let keys = DataKeys::open(url, postgres, &clock, (&kms, kms_key), make).await;
                let keys = keys.map_err(|error| match error {
                    DataKeyError::Catalog(error) => OpenError::unavailable("store.url", &error),
                    error @ (DataKeyError::Service(_) | DataKeyError::None) => {
                        OpenError::unavailable("secrets.kms_key", &error)
                    }
                })?;
                opens.extend(keys.others);
                Some(keys.current)
            }
        };
        match (key, of_kms) {
            // Both: the step between the two.
            (Some(key), of_kms) => {
                opens.extend(of_kms);
                Ok(Sealer::new(key, opens))
            }
            (None, Some(of_kms)) => Ok(Sealer::new(of_kms, opens)),
            (None, None) => Err(self.config.check_sealing().err().map_or_else(
                || OpenError::unavailable("secrets.key", &"is needed"),
                OpenError::Config,
            )),
        }
    }
}

/// How long a receive may wait, so that one under way when the process is told to stop has ended, and
/// what it brought late is visible again, before the grace has.
fn receive_wait(grace: Duration) -> Duration {
    const REST: Duration = Duration::from_secs(1);
    grace.saturating_sub(LATE + REST).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::NewRecord;
    use bytes::Bytes;
    use std::os::unix::fs::PermissionsExt as _;

    /// Everything below a folder, with what others than its owner may do.
    fn open_to_others(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = path.metadata().unwrap();
            if about.permissions().mode() & 0o077 != 0 {
                found.push(format!("{:o} {}", about.permissions().mode(), path.display()));
            }
            if about.is_dir() {
                found.extend(open_to_others(&path));
            }
        }
        found
    }

    #[test]
    fn a_receive_ends_before_the_grace_does() {
        let waits = [30, 20, 8, 2].map(|grace| receive_wait(Duration::from_secs(grace)).as_secs());
        assert_eq!(waits, [27, 17, 5, 1]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_data_folder_and_all_in_it_are_its_owners_alone() {
        let above = tempfile::tempdir().unwrap();
        let (seal, data) = (Sealer::random().1, above.path().join("some/data"));
        let flags = format!("data = {data:?}\nsecrets.key = \"{seal}\"\n");
        let config = Config::load(None, "", &flags).unwrap();
        // The second time the files are there, and were open to all, as earlier versions made them.
        for _ in 0..2 {
            let mut opener = Opener::new(&config, Clock::system());
            let log = opener.log().await.unwrap();
            let queue = opener.queue().await.unwrap();
            let payloads = opener.payloads().await.unwrap();
            let catalog = opener.catalog().await.unwrap();
            log.provision(&["t".to_owned()]).await.unwrap();
            log.append("t", vec![NewRecord::default()]).await.unwrap();
            queue.provision().await.unwrap();
            payloads.put("a/b", Bytes::from_static(b"payload")).await.unwrap();
            catalog.create_tenant(&crate::config::default_tenant()).await.ok();
            for name in ["log.db", "log.db-wal", "queue.db", "hookwright.db", "lock"] {
                assert!(data.join(name).exists(), "{name}");
            }
            assert_eq!(open_to_others(above.path()), Vec::<String>::new());
            drop((log, queue, payloads, catalog, opener));
            for name in ["log.db", "queue.db", "hookwright.db", "lock"] {
                let open = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(data.join(name), open).unwrap();
            }
        }
    }
}
