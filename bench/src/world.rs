//! The services of the distributed pipeline, as the benchmark itself speaks to them: to fill the log,
//! to look at the queues, to measure what they can do without the product, and to clean up.

use crate::http::call;
use crate::ledger::{Ledger, now_ns};
use crate::payload::Template;
use crate::scenarios::random_key;
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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the services are, and the names one run uses in them.
#[derive(Clone)]
pub struct World {
    /// Kafka.
    pub brokers: String,
    /// The SQS client; its endpoint is that of `AWS_…`.
    pub sqs: aws_sdk_sqs::Client,
    /// Prefix of queue, topic and bucket names.
    pub name: String,
    /// URL of a database of one's own.
    pub database_url: String,
    /// What secrets in that database are sealed with.
    pub secrets_key: String,
    server_url: String,
    /// S3, where `WORLD_S3_ENDPOINT` names it.
    pub s3: Option<SocketAddr>,
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
        // One process may have several, one after the other or beside each other.
        let name = format!(
            "bench-{}-{}",
            std::process::id(),
            now_ns() / 1_000_000 % 1_000_000_000
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
            secrets_key: random_key(),
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

    /// The same services and the same database, with names of one's own for all else.
    pub fn named(&self, part: &str) -> Self {
        Self {
            name: format!("{}-{part}", self.name),
            ..self.clone()
        }
    }

    /// The product's configuration, without its secrets: the events of `tenant`, in topics of so many
    /// partitions.
    pub fn config(&self, folder: &Path, tenant: &str, partitions: u32) -> Result<String> {
        let [events, dead_letter, attempts] = self.topics();
        let text = |text: &str| serde_json::to_string(text);
        Ok(format!(
            r#"data = {data}

[events]
log = "kafka"
topics = [{{ name = {events}, framing = "raw", tenant = "{tenant}" }}]
dead_letter_topic = {dead_letter}
attempts_topic = {attempts}

[kafka]
brokers = {brokers}
group = {name}
partitions = {partitions}

[queue]
kind = "sqs"
prefix = {name}

[payloads]
kind = "s3"
bucket = {name}

[store]
url = {database}

[delivery]
allow_http = true
allow_networks = ["127.0.0.0/8"]
"#,
            // A JSON string is a TOML basic string, for the characters that occur here.
            data = text(&folder.join("data").to_string_lossy())?,
            events = text(&events)?,
            dead_letter = text(&dead_letter)?,
            attempts = text(&attempts)?,
            brokers = text(&self.brokers)?,
            name = text(&self.name)?,
            database = text(&self.database_url)?,
        ))
    }

    /// Writes `seqs` to the log as v1 records, and returns when all of them are acknowledged.
    pub async fn fill_log(&self, seqs: Range<u64>, template: Template, ledger: Arc<Ledger>) -> Result<()> {
        let (sent, count) = (ledger.clone(), seqs.end - seqs.start);
        let first = seqs.start;
        self.fill_events(count, move |n| {
            sent.sent(first + n, now_ns());
            template.avro_v1(first + n, now_ns())
        })
        .await?;
        let now = now_ns();
        seqs.for_each(|seq| ledger.accepted(seq, now));
        Ok(())
    }

    /// Writes `count` records to the log, made from their numbers, and returns when all of them are
    /// acknowledged.
    pub async fn fill_events(
        &self,
        count: u64,
        make: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Result<()> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "16777216")
            .set("queue.buffering.max.kbytes", "65536")
            .set("linger.ms", "5");
        let topic = self.topics()[0].clone();
        tokio::task::spawn_blocking(move || {
            let acks = Arc::new(AtomicU64::new(0));
            let producer: BaseProducer<Acks> = config.create_with_context(Acks(acks.clone()))?;
            for n in 0..count {
                let datum = make(n);
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
            let acked = acks.load(Ordering::Relaxed);
            if acked != count {
                bail!("{acked} of {count} records were acknowledged by {topic}");
            }
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
        let mut left = self.clean_up_part().await;
        if let Err(error) = self.sql("DROP DATABASE IF EXISTS").await {
            left.push(format!("database: {error:#}"));
        }
        left
    }

    /// The same, and leaves the database.
    pub async fn clean_up_part(&self) -> Vec<String> {
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
            if let Err(error) = self.empty_bucket(s3).await {
                left.push(format!("objects of bucket {}: {error:#}", self.name));
            }
            let deleted = call(s3, Method::DELETE, &format!("/{}", self.name), None, None).await;
            if !deleted.is_ok_and(|(status, _)| status.is_success() || status == 404) {
                left.push(format!("bucket {}", self.name));
            }
        }
        left
    }

    /// Removes the objects of the bucket, which cannot be removed before them.
    async fn empty_bucket(&self, s3: SocketAddr) -> Result<()> {
        loop {
            let list = format!("/{}?list-type=2", self.name);
            let (_, listed) = call(s3, Method::GET, &list, None, None).await?;
            let listed = String::from_utf8_lossy(&listed);
            let keys: Vec<&str> = listed
                .split("<Key>")
                .skip(1)
                .filter_map(|rest| Some(rest.split_once("</Key>")?.0))
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                let object = format!("/{}/{key}", self.name);
                let (status, _) = call(s3, Method::DELETE, &object, None, None).await?;
                if !status.is_success() {
                    bail!("{object}: {status}");
                }
            }
        }
    }

    /// Removes the topics of this run.
    pub async fn delete_topics(&self) -> Result<()> {
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
        let (_, database) = self
            .database_url
            .rsplit_once('/')
            .context("a URL with a database")?;
        let statement = format!("{what} {database}");
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
