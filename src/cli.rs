//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use platform::catalog::Scope;
use schemas::time::Millis;
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
    /// Records that could not be read: lists them, and injects them again once the cause is gone
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Tenants
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// API keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Writes a tenant's targets, filters and subscriptions as one JSON document
    #[command(
        after_help = "Secrets and private keys are not in it; the values of targets' headers are. A file is made for its owner alone.\n\n\
Examples:\n  hookwright export --tenant acme acme.json\n  hookwright export --tenant acme | jq '.targets | length'"
    )]
    Export(ExportArgs),
    /// Brings such a document in, all of it or nothing
    #[command(
        after_help = "An entry is the tenant's own of the same id; where there is none, one with the same content; otherwise it is made, by \
its id if that is free. So the same document once more changes nothing. Nothing is deleted, and no state of a target that is there is \
changed. Entries pass the checks of the API.\n\nA target that is made gets a new secret: POST /v1/webhooks/targets/ID/secret shows one.\n\n\
Examples:\n  hookwright import --tenant acme acme.json --dry-run\n  hookwright import --tenant acme acme.json"
    )]
    Import(ImportArgs),
    /// What is sealed in the database
    #[command(subcommand)]
    Secrets(SecretsCommand),
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

/// `dead-letters`.
#[derive(Clone, Subcommand)]
pub enum DeadLettersCommand {
    /// Shows what waits in the dead-letter topic, the oldest first
    #[command(
        after_help = "A line each: place in the dead-letter topic, when it was put there, class, place it had, size, reason. \
Payloads are shown only with --raw.\n\nExamples:\n  hookwright dead-letters list\n  hookwright dead-letters list --class unknown_schema --origin orders --limit 500\n  \
hookwright dead-letters list --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z\n  hookwright dead-letters list --limit 1 --raw | tail -n 1 | cut -f 7 | base64 -d > record\n\n\
On the embedded log, stop hookwright first: the data folder is one process's."
    )]
    List(ListLettersArgs),
    /// Appends dead letters again to the topics they came from, with the bytes, the key and the headers they had
    #[command(
        after_help = "Remove the cause first (the schema, the topic's framing, events.max_payload): what still cannot be read \
comes back as a new dead letter.\n\nWhat is injected is marked in the dead-letter topic, and not injected again by a later run. A run that is \
killed may leave a few hundred records injected and not marked, and two runs at once do not know of each other: those come twice, as one \
event with the same webhook-id, which receivers tell by it. Records with no event id of their own take it from the place they had at \
first (header hookwright-origin).\n\nExamples:\n  hookwright dead-letters inject --class unknown_schema --limit 1\n  hookwright dead-letters inject --class unknown_schema\n  \
hookwright dead-letters inject --origin orders-old --topic orders\n\n\
On the embedded log, stop hookwright first: the data folder is one process's."
    )]
    Inject(InjectArgs),
}

/// Which dead letters.
#[derive(Clone, Args)]
pub struct Which {
    /// Only those of this class, such as truncated; may be repeated
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,
    /// Only those that came from this topic
    #[arg(long, value_name = "TOPIC")]
    pub origin: Option<String>,
    /// Only those put aside at this time or later, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = Millis::parse_rfc3339)]
    pub from: Option<Millis>,
    /// Only those put aside before this time
    #[arg(long, value_name = "TIME", value_parser = Millis::parse_rfc3339)]
    pub to: Option<Millis>,
    /// Also those that are injected already
    #[arg(long)]
    pub again: bool,
}

/// `dead-letters list`.
#[derive(Clone, Args)]
pub struct ListLettersArgs {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Adds the record's bytes, in base64, to each line
    #[arg(long)]
    pub raw: bool,
}

/// `dead-letters inject`.
#[derive(Clone, Args)]
pub struct InjectArgs {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// At most so many, the oldest first; all if not given
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The topic to inject into, one of events.topics; the one each came from if not given
    #[arg(long)]
    pub topic: Option<String>,
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
    #[command(
        after_help = "Examples:\n  hookwright keys create --tenant acme --name ci\n  \
hookwright keys create --tenant acme --name orders --scope publish --expires-in 90d"
    )]
    Create {
        /// The tenant it speaks for
        #[arg(long)]
        tenant: String,
        /// What it is for
        #[arg(long, default_value = "cli")]
        name: String,
        /// What it may be used for: manage, publish or read; may be repeated; all three if not given
        #[arg(long, value_name = "SCOPE", value_parser = Scope::from_word)]
        scope: Vec<Scope>,
        /// How long it is good for, such as 90d; for ever if not given
        #[arg(long, value_name = "DURATION", value_parser = platform::config::units::parse_span)]
        expires_in: Option<std::time::Duration>,
    },
    /// Shows a tenant's API keys, the newest first, without their values
    #[command(
        after_help = "A line each: id, first characters, scopes, when it was made, ends and was last used, name.\n\n\
Example:\n  hookwright keys list --tenant acme"
    )]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Revokes an API key: within 2 seconds it is refused everywhere
    #[command(after_help = "Example:\n  hookwright keys revoke --tenant acme 186243735552004")]
    Revoke {
        /// The tenant it speaks for
        #[arg(long)]
        tenant: String,
        /// Its id
        id: i64,
    },
}

/// `secrets`.
#[derive(Clone, Subcommand)]
pub enum SecretsCommand {
    /// Seals everything under secrets.key that a key of secrets.old_keys has sealed
    #[command(
        after_help = "Everything goes on meanwhile, and a run that is interrupted is taken up by the next. All processes must have \
the new key first, as secrets.key or in secrets.old_keys: docs/operations.md tells the order.\n\nExample:\n  hookwright secrets rotate"
    )]
    Rotate,
}

/// `export`.
#[derive(Clone, Args)]
pub struct ExportArgs {
    /// Whose
    #[arg(long)]
    pub tenant: String,
    /// Where to write it; - for standard output
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

/// `import`.
#[derive(Clone, Args)]
pub struct ImportArgs {
    /// Whose it is to be
    #[arg(long)]
    pub tenant: String,
    /// Says what would be done, and does nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The document; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}
