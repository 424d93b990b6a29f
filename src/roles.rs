//! The roles that run in this process, and what each is given.

use crate::failure::Failure;
use crate::housekeeping;
use crate::open_files;
use crate::prepare::{bind, prepare, publishable};
use crate::selection::Selection;
use crate::settings;
use dispatcher::probe::Probe;
use platform::catalog::Catalog;
use platform::clock::Clock;
use platform::config::{Config, Topic};
use platform::delivery_queue::DeliveryQueue;
use platform::event_log::EventLog;
use platform::follow::Follower;
use platform::harness::ops::{self, Health};
use platform::harness::{self, Role, RoleError};
use platform::history::History;
use platform::payload_store::PayloadStore;
use platform::ports::Opener;
use platform::replays::Replays;
use platform::report::Reporter;
use platform::telemetry;
use recorder::mail::Mailer;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs the selected roles with the configured adapters.
pub async fn run(selection: Selection, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    telemetry::start_logs(&config.log)?;
    let process = Process::open(config, selection).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), roles = %process.names().join(","), api = ?process.api_address(),
        ops = %process.ops_address(), "started"
    );
    process.run().await
}

/// A process whose ports are open and whose listeners are bound; nothing runs yet.
pub struct Process {
    config: Config,
    selection: Selection,
    /// Where events come in.
    pub log: Arc<dyn EventLog>,
    queue: Arc<dyn DeliveryQueue>,
    payloads: Arc<dyn PayloadStore>,
    /// What is subscribed.
    pub catalog: Catalog,
    follower: Arc<Follower>,
    /// Tells history, and whoever watches.
    pub reporter: Reporter,
    reporting: tokio::task::JoinHandle<()>,
    clock: Clock,
    /// Cancelled to stop.
    pub shutdown: CancellationToken,
    health: Health,
    ops: TcpListener,
    api: Option<(TcpListener, Topic)>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    mailer: Option<Mailer>,
    /// More to run beside the roles.
    pub extra: Vec<Role>,
    // Declared last: the data folder is unlocked after everything that uses it is gone.
    _lock: Option<Arc<platform::data_dir::DataDir>>,
}

impl Process {
    /// Opens ports and listeners and tries every dependency.
    pub async fn open(config: Config, selection: Selection) -> Result<Self, Failure> {
        let clock = Clock::system();
        config.check_sealing()?;
        let mailer = match selection.recorder {
            true => settings::mailer(&config)?,
            false => None,
        };
        if selection.consumer {
            settings::check_topics(&config)?;
        }
        for warning in config.warnings() {
            tracing::warn!(key = warning.key, "{}", warning.message);
        }
        let topic = selection.api.then(|| publishable(&config)).transpose()?;
        // The listeners first: a taken port is found before any file is touched.
        let ops = bind(config.ops.listen, "ops.listen").await?;
        let api = match topic {
            Some(topic) => Some((bind(config.api.listen, "api.listen").await?, topic)),
            None => None,
        };
        let metrics = telemetry::start_metrics().map_err(|error| Failure::died(&error))?;
        let mut opener = Opener::new(&config, clock.clone());
        let log = opener.log().await?;
        let queue = opener.queue().await?;
        let payloads = opener.payloads().await?;
        let catalog = opener.catalog().await?;
        let lock = opener.lock();
        prepare(&config, log.as_ref(), queue.as_ref(), payloads.as_ref(), &catalog).await?;
        let follower = Follower::start(catalog.clone(), clock.clone())
            .await
            .map_err(|error| Failure::away("store.url", &error))?;
        let (reporter, task) = Reporter::new(log.clone(), config.events.attempts_topic.clone());
        let reporting = tokio::spawn(task);
        Ok(Self {
            config,
            selection,
            log,
            queue,
            payloads,
            catalog,
            follower,
            reporter,
            reporting,
            clock,
            shutdown: CancellationToken::new(),
            health: Health::default(),
            ops,
            api,
            metrics,
            mailer,
            extra: Vec::new(),
            _lock: lock,
        })
    }

    /// Runs the roles until a signal, then drains.
    pub async fn run(self) -> Result<(), Failure> {
        let signals =
            harness::stop_on_signals(self.shutdown.clone()).map_err(|error| Failure::died(&error))?;
        let (shutdown, grace) = (self.shutdown.clone(), self.config.shutdown.grace.0);
        let told = shutdown.clone();
        let telling = tokio::spawn(async move {
            told.cancelled().await;
            tracing::info!("stopping; draining what runs");
            Instant::now()
        });
        let Running {
            roles,
            reporting,
            _lock,
        } = self.start();
        let result = harness::supervise(roles, shutdown, grace).await;
        // All reporters are gone with the roles; the task appends what they left and ends.
        if tokio::time::timeout(Duration::from_secs(2), reporting)
            .await
            .is_err()
        {
            tracing::warn!("history records left behind at shutdown");
        }
        signals.abort();
        if let Ok(since) = telling.await {
            tracing::info!(drain_ms = since.elapsed().as_millis(), "stopped");
        }
        Ok(result?)
    }

    /// The addresses that were bound.
    pub fn ops_address(&self) -> String {
        self.ops.local_addr().map_or_else(
            |_| self.config.ops.listen.to_string(),
            |address| address.to_string(),
        )
    }

    /// The API's address, if this process has it.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn names(&self) -> Vec<&'static str> {
        let Selection {
            consumer,
            dispatcher,
            retry_manager,
            recorder,
            api,
        } = self.selection;
        let all = [
            ("consumer", consumer),
            ("dispatcher", dispatcher),
            ("retry-manager", retry_manager),
            ("recorder", recorder),
            ("api", api),
        ];
        all.into_iter()
            .filter(|(_, selected)| *selected)
            .map(|(name, _)| name)
            .collect()
    }

    fn start(mut self) -> Running {
        for name in self.names() {
            self.health.expect(name);
        }
        let mut roles = std::mem::take(&mut self.extra);
        if self.selection.consumer {
            roles.push(self.consumer());
            roles.push(self.replay());
        }
        if self.selection.dispatcher {
            open_files::warn_if_few(self.config.delivery.concurrency);
            roles.push(self.dispatcher());
        }
        if self.selection.retry_manager {
            roles.push(self.retry_manager());
        }
        if self.selection.recorder {
            roles.push(self.recorder());
        }
        if let Some((listener, topic)) = self.api.take() {
            roles.push(self.api(listener, &topic));
        }
        roles.extend(housekeeping::roles(
            self.follower.clone(),
            self.queue.clone(),
            self.payloads.clone(),
            self.catalog.clone(),
            housekeeping::Kept {
                idempotency_keys: self.config.api.idempotency_kept.0,
                audit: self.config.store.audit.0,
            },
            &self.shutdown,
        ));
        let Self {
            ops,
            health,
            metrics,
            shutdown,
            reporting,
            _lock,
            ..
        } = self;
        roles.push(Role::new("ops", ops::serve(ops, health, metrics, shutdown)));
        Running {
            roles,
            reporting,
            _lock,
        }
    }

    fn consumer(&self) -> Role {
        let parts = consumer::Parts {
            log: self.log.clone(),
            queue: self.queue.clone(),
            payloads: self.payloads.clone(),
            catalog: self.follower.clone(),
            reporter: self.reporter.clone(),
            clock: self.clock.clone(),
        };
        Role::new(
            "consumer",
            consumer::run(
                settings::consumer(&self.config),
                parts,
                self.ready("consumer"),
                self.shutdown.clone(),
            ),
        )
    }

    /// What is sent again comes from the log to the queue, as what the consumer reads.
    fn replay(&self) -> Role {
        let settings = settings::consumer(&self.config);
        let rate = self.config.replay.rate;
        // The database lies in the data folder, which is this process's alone.
        let alone = self._lock.is_some() && self.config.store.url.is_none();
        let parts = consumer::replay::Parts {
            log: self.log.clone(),
            queue: self.queue.clone(),
            payloads: self.payloads.clone(),
            catalog: self.follower.clone(),
            history: History::new(&self.catalog),
            replays: Replays::new(&self.catalog),
            reporter: self.reporter.clone(),
            clock: self.clock.clone(),
        };
        let shutdown = self.shutdown.clone();
        Role::new("replay", async move {
            if alone {
                parts.replays.forget_leases().await?;
            }
            consumer::replay::run(settings, rate, parts, shutdown).await?;
            Ok::<(), RoleError>(())
        })
    }

    fn dispatcher(&self) -> Role {
        let parts = dispatcher::Parts {
            queue: self.queue.clone(),
            payloads: self.payloads.clone(),
            log: self.log.clone(),
            catalog: self.follower.clone(),
            reporter: self.reporter.clone(),
            clock: self.clock.clone(),
        };
        Role::new(
            "dispatcher",
            dispatcher::run(
                settings::dispatcher(&self.config),
                parts,
                self.ready("dispatcher"),
                self.shutdown.clone(),
            ),
        )
    }

    fn retry_manager(&self) -> Role {
        let config = retry_manager::Config {
            packs: settings::packs(&self.config),
        };
        let parts = retry_manager::Parts {
            queue: self.queue.clone(),
            payloads: self.payloads.clone(),
            announcer: settings::announcer(&self.config, &self.log, &self.clock),
            reporter: self.reporter.clone(),
            clock: self.clock.clone(),
        };
        Role::new(
            "retry-manager",
            retry_manager::run(config, parts, self.ready("retry-manager"), self.shutdown.clone()),
        )
    }

    fn recorder(&mut self) -> Role {
        let settings = recorder::Config {
            group: format!("{}-recorder", self.config.kafka.group),
            topic: self.config.events.attempts_topic.clone(),
            keep: self.config.store.history.0,
            disable_after: self.config.delivery.disable_after.0,
        };
        let parts = recorder::Parts {
            log: self.log.clone(),
            history: History::new(&self.catalog),
            catalog: self.catalog.clone(),
            announcer: settings::announcer(&self.config, &self.log, &self.clock),
            mailer: self.mailer.take(),
            clock: self.clock.clone(),
        };
        Role::new(
            "recorder",
            recorder::run(settings, parts, self.ready("recorder"), self.shutdown.clone()),
        )
    }

    fn api(&self, listener: TcpListener, topic: &Topic) -> Role {
        let config = &self.config;
        let settings = settings::api(config, topic);
        let parts = api::Parts {
            catalog: self.catalog.clone(),
            history: History::new(&self.catalog),
            replays: Replays::new(&self.catalog),
            log: self.log.clone(),
            prober: Arc::new(Probe::new(&settings::dispatcher(config), self.clock.clone())),
            clock: self.clock.clone(),
        };
        let (ready, shutdown) = (self.ready("api"), self.shutdown.clone());
        Role::new("api", async move {
            ready();
            api::run(settings, parts, listener, shutdown)
                .await
                .map_err(RoleError::from)
        })
    }

    fn ready(&self, role: &'static str) -> impl FnOnce() + Send + 'static {
        let health = self.health.clone();
        move || health.ready(role)
    }
}

struct Running {
    roles: Vec<Role>,
    reporting: tokio::task::JoinHandle<()>,
    /// The data folder stays this process's until all of them have ended.
    _lock: Option<Arc<platform::data_dir::DataDir>>,
}
