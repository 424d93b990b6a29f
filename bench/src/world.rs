//! The services of the distributed pipeline, as the benchmark itself speaks to them: to fill the log,
//! to look at the queues, to measure what they can do without the product, and to clean up.

use crate::http::call;
use crate::ledger::{Ledger, now_ns};
use crate::payload::Template;
use anyhow::{Context as _, Result, bail};
use aws_config::BehaviorVersion;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use hyper::Method;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the services are, and the names one run uses in them.
pub struct World {
    /// Kafka.
    pub brokers: String,
    /// The SQS client; its endpoint is that of `AWS_…`.
    pub sqs: aws_sdk_sqs::Client,
    /// Prefix of queue, topic and bucket names.
    pub name: String,
    /// URL of a database of one's own.
    pub database_url: String,
    server_url: String,
    s3: Option<SocketAddr>,
}

impl World {
    /// From `WORLD_…` and `AWS_…`, as `target/world/env` sets them.
    ///
    /// # Errors
    /// When one is not set.
    pub async fn from_env() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: run localstack/up, then source target/world/env")
            })
        };
        let server_url = variable("WORLD_POSTGRES_URL")?;
        let name = format!(
            "bench-{}-{}",
            std::process::id(),
            now_ns() / 1_000_000_000 % 1_000_000
        );
        let (server, _) = server_url
            .rsplit_once('/')
            .context("WORLD_POSTGRES_URL is not a URL with a database")?;
        Ok(Self {
            brokers: variable("WORLD_KAFKA_BROKERS")?,
            sqs: sqs_client().await?,
            database_url: format!("{server}/{}", name.replace('-', "_")),
            s3: std::env::var("WORLD_S3_ENDPOINT")
                .ok()
                .and_then(|url| url.strip_prefix("http://")?.trim_end_matches('/').parse().ok()),
            name,
            server_url,
        })
    }

    /// Whether the environment says where the services are.
    pub fn is_there() -> bool {
        std::env::var_os("WORLD_KAFKA_BROKERS").is_some()
    }

    /// Makes the database of this run.
    pub async fn create_database(&self) -> Result<()> {
        self.sql("CREATE DATABASE").await
    }

    /// The topics of this run: events, dead letters, attempts.
    pub fn topics(&self) -> [String; 3] {
        ["events", "dead-letter", "attempts"].map(|kind| format!("{}.{kind}", self.name))
    }

    /// Writes `seqs` to the log as v1 records, and returns when all of them are acknowledged.
    pub async fn fill_log(&self, seqs: Range<u64>, template: Template, ledger: Arc<Ledger>) -> Result<()> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5");
        let topic = self.topics()[0].clone();
        tokio::task::spawn_blocking(move || {
            let acks = Arc::new(AtomicU64::new(0));
            let producer: BaseProducer<Acks> = config.create_with_context(Acks(acks.clone()))?;
            for seq in seqs.clone() {
                let datum = template.avro_v1(seq, now_ns());
                ledger.sent(seq, now_ns());
                let mut record = BaseRecord::<(), [u8]>::to(&topic).payload(&datum);
                while let Err((error, back)) = producer.send(record) {
                    if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                        return Err(error.into());
                    }
                    record = back;
                    producer.poll(Duration::from_millis(50));
                }
                producer.poll(Duration::ZERO);
            }
            producer.flush(Duration::from_secs(60))?;
            let (acked, wanted) = (acks.load(Ordering::Relaxed), seqs.end - seqs.start);
            if acked != wanted {
                bail!("{acked} of {wanted} records were acknowledged by {topic}");
            }
            let now = now_ns();
            seqs.for_each(|seq| ledger.accepted(seq, now));
            Ok(())
        })
        .await?
    }

    /// The URL of one of this run's queues.
    pub async fn queue_url(&self, kind: &str) -> Result<String> {
        let name = format!("{}-{kind}", self.name);
        let answer = self.sqs.get_queue_url().queue_name(&name).send().await;
        answer
            .map_err(aws_sdk_sqs::Error::from)
            .with_context(|| format!("queue {name}"))?
            .queue_url
            .context("a queue without a URL")
    }

    /// How many messages a queue holds, whether visible or not.
    pub async fn depth(&self, url: &str) -> Result<u64> {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(counts.to_vec()))
            .send()
            .await
            .map_err(aws_sdk_sqs::Error::from)?;
        let attributes = answer.attributes.unwrap_or_default();
        Ok(counts
            .iter()
            .filter_map(|name| attributes.get(name)?.parse::<u64>().ok())
            .sum())
    }

    /// Removes what this run made, as far as it can; what it could not remove.
    pub async fn clean_up(&self) -> Vec<String> {
        let mut left = Vec::new();
        for kind in ["dispatch", "slow", "retry", "dead-letter"] {
            if let Ok(url) = self.queue_url(kind).await
                && self.sqs.delete_queue().queue_url(url).send().await.is_err()
            {
                left.push(format!("queue {}-{kind}", self.name));
            }
        }
        if let Err(error) = self.delete_topics().await {
            left.push(format!("topics {}.…: {error:#}", self.name));
        }
        if let Some(s3) = self.s3 {
            let deleted = call(s3, Method::DELETE, &format!("/{}", self.name), None, None).await;
            if !deleted.is_ok_and(|(status, _)| status.is_success() || status == 404) {
                left.push(format!("bucket {}", self.name));
            }
        }
        if let Err(error) = self.sql("DROP DATABASE IF EXISTS").await {
            left.push(format!("database: {error:#}"));
        }
        left
    }

    async fn delete_topics(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()?;
        let topics = self.topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        for result in admin.delete_topics(&topics, &AdminOptions::new()).await? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => bail!("{topic}: {code}"),
            }
        }
        Ok(())
    }

    async fn sql(&self, what: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.server_url)
            .await
            .context("the Postgres of WORLD_POSTGRES_URL")?;
        // Safe: the name is made of this process' number and the time.
        let statement = format!("{what} {}", self.name.replace('-', "_"));
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }
}

/// A client for the SQS that `AWS_…` names.
pub async fn sqs_client() -> Result<aws_sdk_sqs::Client> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    if config.region().is_none() {
        bail!("AWS_REGION is not set: run localstack/up, then source target/world/env");
    }
    Ok(aws_sdk_sqs::Client::new(&config))
}

/// Counts what the brokers acknowledged.
struct Acks(Arc<AtomicU64>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
