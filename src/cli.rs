//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Webhook delivery: events in from a log, signed POSTs out, at least once, with 24 hours of retries.
#[derive(Clone, Parser)]
#[command(name = "hookwright", version, max_term_width = 100)]
#[command(
    after_help = "Try it:\n  hookwright dev --demo\n\nEvery key of hookwright.toml is also set by the \
environment: HOOKWRIGHT_KAFKA__BROKERS=10.0.0.1:9092.\nExit codes: 0 clean stop, 64 bad usage or config, \
69 a dependency unavailable at start, 70 a role died."
)]
pub struct Cli {
    /// The configuration; ./hookwright.toml if it is there
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines look (on stderr)
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

impl Cli {
    /// The flag that sets this key, if it was given.
    pub fn sets(&self, key: &str) -> Option<String> {
        let Command::Dev(args) = &self.command else {
            return None;
        };
        match key {
            "data" | "store.url" if args.data.is_some() => Some("--data".to_owned()),
            "api.listen" if args.listen.is_some() => Some("--listen".to_owned()),
            _ => None,
        }
    }

    /// What the global flags set, as TOML.
    pub fn flags(&self) -> String {
        match self.log {
            None => String::new(),
            Some(LogFormat::Text) => "log.format = \"text\"\n".to_owned(),
            Some(LogFormat::Json) => "log.format = \"json\"\n".to_owned(),
        }
    }
}

/// The commands.
#[derive(Clone, Subcommand)]
pub enum Command {
    /// The whole pipeline in one process, on the embedded adapters, with nothing to configure
    #[command(
        after_help = "Examples:\n  hookwright dev --demo\n  hookwright dev --data /var/lib/hookwright --listen 127.0.0.1:8088"
    )]
    Dev(DevArgs),
    /// All roles in one process, with the configured adapters
    All,
    /// Event log → match → dispatch queue
    Consumer,
    /// Dispatch queue → signed POST
    Dispatcher,
    /// Retry queue → dispatch queue when due, dead letters at the end
    RetryManager,
    /// Attempts topic → history
    Recorder,
    /// The REST API
    Api,
    /// Creates topics, queues and bucket and migrates the database; safe to repeat
    Provision,
    /// Validates the configuration and tries every dependency
    Check,
    /// Writes events to the log
    #[command(
        after_help = "Examples:\n  hookwright produce --type core.orders.created.v1 order.json\n  \
echo '{\"orderId\":42}' | hookwright produce --type core.orders.created.v1 -\n  \
hookwright produce --type core.orders.created.v1 --ndjson orders.ndjson"
    )]
    Produce(ProduceArgs),
    /// A receiver for trying things out: verifies and prints each delivery
    #[command(
        after_help = "Examples:\n  hookwright listen --secret whsec_…\n  hookwright listen --addr 127.0.0.1:9001 --status 503 --delay 2s"
    )]
    Listen(ListenArgs),
    /// Tenants
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// API keys
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// `dev`.
#[derive(Clone, Args)]
pub struct DevArgs {
    /// Where everything is kept [default: ./hookwright-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Publishes an event each second to two local targets, one of which fails at first
    #[arg(long)]
    pub demo: bool,
}

/// `produce`.
#[derive(Clone, Args)]
pub struct ProduceArgs {
    /// The event type, such as core.orders.created.v1
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: String,
    /// Whose event it is; the topic's tenant if not given
    #[arg(long)]
    pub tenant: Option<String>,
    /// The event's id; derived from its place in the log if not given
    #[arg(long, conflicts_with = "ndjson")]
    pub id: Option<String>,
    /// The payload's media type; application/json if not given
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// The topic; the first of events.topics if not given
    #[arg(long)]
    pub topic: Option<String>,
    /// Each line is the payload of one event
    #[arg(long)]
    pub ndjson: bool,
    /// The payload; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

/// `listen`.
#[derive(Clone, Args)]
pub struct ListenArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub addr: SocketAddr,
    /// The target's secret; without it signatures are shown and not verified
    #[arg(long, value_name = "whsec_…")]
    pub secret: Option<String>,
    /// The status to answer with
    #[arg(long, default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// How long to wait before the answer, such as 2s
    #[arg(long, default_value = "0s", value_parser = platform::config::units::parse_span)]
    pub delay: std::time::Duration,
}

/// `tenants`.
#[derive(Clone, Subcommand)]
pub enum TenantsCommand {
    /// Creates a tenant
    #[command(after_help = "Example:\n  hookwright tenants create acme")]
    Create {
        /// 1 to 63 characters of a-z, 0-9, - and _
        name: String,
    },
}

/// `keys`.
#[derive(Clone, Subcommand)]
pub enum KeysCommand {
    /// Creates an API key and shows it, once
    #[command(after_help = "Example:\n  hookwright keys create --tenant acme --name ci")]
    Create {
        /// The tenant it speaks for
        #[arg(long)]
        tenant: String,
        /// What it is for
        #[arg(long, default_value = "cli")]
        name: String,
    },
}
