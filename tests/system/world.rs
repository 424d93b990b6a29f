//! What a test uses of the real Kafka, SQS, S3 and Postgres: names that are its own, made by
//! `hookwright provision`, and gone with it.

use crate::aws::{Aws, REGION};
use crate::kafka::Kafka;
use crate::product::{Product, Setup};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;

/// base64 of 32 bytes.
const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One test's part of the services. Dropped last, and what it made with it.
pub struct World {
    /// What all names begin with.
    name: String,
    /// Kafka, past the product.
    pub kafka: Kafka,
    /// SQS and S3, past the product.
    pub aws: Aws,
    /// Where Kafka is.
    pub brokers: String,
    /// Where SQS is.
    pub sqs: String,
    /// The server's own database.
    postgres: String,
    /// The API key of tenant `default`, once provisioned.
    key: OnceLock<String>,
}

/// What `target/world/env` says.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or localstack/up and `source target/world/env`")
    })
}

/// The Python of `tests/clients`.
pub fn python() -> String {
    variable("WORLD_PYTHON")
}

/// The folder with what makes TypeScript clients.
pub fn node() -> String {
    variable("WORLD_NODE")
}

/// Where `localstack/up` keeps what it has fetched.
pub fn fetched() -> String {
    variable("WORLD_CACHE")
}

impl World {
    /// New names, and an empty database.
    pub async fn new() -> Self {
        Self::on(&variable("WORLD_KAFKA_BROKERS")).await
    }

    /// The same on other brokers.
    pub async fn on(brokers: &str) -> Self {
        let number = RandomState::new().hash_one(std::process::id());
        let (brokers, sqs) = (brokers.to_owned(), variable("WORLD_SQS_ENDPOINT"));
        for needed in ["WORLD_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            variable(needed);
        }
        let world = Self {
            name: format!("system-{number:016x}"),
            kafka: Kafka::new(&brokers),
            aws: Aws::new(&sqs),
            brokers,
            sqs,
            postgres: variable("WORLD_POSTGRES_URL"),
            key: OnceLock::new(),
        };
        let created = world.sql(&format!("CREATE DATABASE {}", world.database())).await;
        created.expect("a database of WORLD_POSTGRES_URL");
        world
    }

    /// A topic of this test's own.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// A queue's name.
    pub fn queue(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }

    /// The consumer's group.
    pub fn group(&self) -> &str {
        &self.name
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.name
    }

    fn database(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Host and port of Postgres.
    pub fn postgres_address(&self) -> &str {
        let (_, place) = self.postgres.rsplit_once('@').expect("user@host/database");
        place.split('/').next().expect("a host")
    }

    /// The URL of this test's database; `address` stands in for the server's own.
    pub fn database_at(&self, address: &str) -> String {
        let (user, _) = self.postgres.rsplit_once('@').expect("user@host/database");
        format!("{user}@{address}/{}", self.database())
    }

    /// A setup of the distributed pipeline with these names. What a test sets over it wins.
    pub fn setup(&self) -> Setup {
        let setup = Setup::new();
        std::fs::write(setup.folder().join("hookwright.toml"), self.configuration()).expect("a file");
        setup
            .env("AWS_ENDPOINT_URL_SQS", &self.sqs)
            .env("AWS_REGION", REGION)
            .env("AWS_ENDPOINT_URL_S3", &variable("WORLD_S3_ENDPOINT"))
            .set("store.url", &self.database_at(self.postgres_address()))
            .set("secrets.key", SEAL)
    }

    fn configuration(&self) -> String {
        // One partition, so that offsets say in which order records were finished. A short session,
        // so that the successor of a process that was killed need not wait 45 s for its partition.
        format!(
            r#"
            [events]
            log = "kafka"
            topics = [
                {{ name = "{events}", framing = "raw" }},
                {{ name = "{other}", framing = "single-object" }},
            ]
            dead_letter_topic = "{dead_letter}"
            attempts_topic = "{attempts}"
            [kafka]
            brokers = "{brokers}"
            group = "{name}"
            partitions = 1
            properties = {{ "session.timeout.ms" = "3000", "heartbeat.interval.ms" = "500" }}
            [queue]
            kind = "sqs"
            prefix = "{name}"
            [payloads]
            kind = "s3"
            bucket = "{name}"
            [delivery]
            allow_http = true
            allow_networks = ["127.0.0.0/8"]
            "#,
            events = self.topic("events"),
            other = self.topic("other"),
            dead_letter = self.topic("dead-letter"),
            attempts = self.topic("attempts"),
            brokers = self.brokers,
            name = self.name,
        )
    }

    /// Makes topics, queues, bucket and tables, and a key of tenant `default`.
    pub async fn provision(&self, setup: &Setup) {
        setup.run(&["provision"]).await.ok();
        setup.run(&["tenants", "create", "default"]).await.ok();
        let key = setup.run(&["keys", "create", "--tenant", "default"]).await.ok();
        self.key
            .set(key.trim().to_owned())
            .expect("a world is provisioned once");
    }

    /// Starts the product with that key, and waits until it is ready.
    pub async fn start(&self, setup: &Setup, role: &str) -> Product {
        let mut product = setup.start(&[role]).await;
        product.key = self.key.get().expect("provision comes first").clone();
        product
    }

    /// A setup as it is, provisioned, and all roles on it.
    pub async fn all(&self) -> (Setup, Product) {
        let setup = self.setup();
        self.provision(&setup).await;
        let product = self.start(&setup, "all").await;
        (setup, product)
    }

    async fn sql(&self, statement: &str) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect(&self.postgres).await?;
        // Safe: it holds no name but our own.
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await
    }

    /// Removes everything; what could not be removed.
    async fn remove(&self, aws: &Aws) -> Vec<String> {
        let mut left = Vec::new();
        for kind in ["dispatch", "slow", "retry", "dead-letter"] {
            let name = serde_json::json!({"QueueName": self.queue(kind)});
            // One that was never made is none to delete.
            if let Ok(found) = aws.try_sqs("GetQueueUrl", &name).await
                && let Err(error) = aws.try_sqs("DeleteQueue", &found).await
            {
                left.push(error);
            }
        }
        left.extend(aws.delete_bucket(self.bucket()).await.err());
        let topics = ["events", "other", "dead-letter", "attempts"].map(|kind| self.topic(kind));
        let groups = [self.name.clone(), format!("{}-recorder", self.name)];
        left.extend(self.kafka.delete(&topics, &groups).await.err());
        let dropped = self
            .sql(&format!("DROP DATABASE {} WITH (FORCE)", self.database()))
            .await;
        left.extend(dropped.err().map(|error| error.to_string()));
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // On a thread and a runtime of its own: the test's runtime is busy dropping this, and may be
        // ending by a panic.
        let remove = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            // A client of its own: the other's connections belong to the test's runtime.
            runtime.block_on(self.remove(&Aws::new(&self.sqs)))
        };
        let left = std::thread::scope(|scope| scope.spawn(remove).join());
        let left = left.unwrap_or_else(|_| vec!["a panic while cleaning up".to_owned()]);
        if std::thread::panicking() {
            left.iter().for_each(|what| eprintln!("left behind: {what}"));
        } else {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}
