//! The command line: what can be measured, and with which sizes.

use crate::scenarios::isolation::Only;
use crate::{payload, world};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Measures hookwright from outside, and what the same machine could do at best.
#[derive(Parser)]
pub struct Cli {
    /// The product's binary [default: the one beside this binary].
    #[arg(long, global = true)]
    pub product: Option<PathBuf>,
    /// Where data folders are made; a real disk, or durability costs nothing.
    #[arg(long, global = true, default_value = "target/bench")]
    pub work: PathBuf,
    /// Bytes of a payload.
    #[arg(long, global = true, default_value_t = payload::DEFAULT_SIZE)]
    pub payload: usize,
    /// A configuration key of the product, such as delivery.per_target=64. May be given again.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Runs each throughput scenario so often and shows the run with the median rate.
    #[arg(long, global = true, default_value_t = 1)]
    pub repeat: u32,
    /// Writes the report as JSON too.
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The scenario.
    #[command(subcommand)]
    pub what: What,
}

/// What to measure.
#[derive(Clone, Subcommand)]
pub enum What {
    /// Everything, one after the other; the distributed part where its services are up.
    All {
        /// Tenth-size runs: to see that it works, not to quote.
        #[arg(long)]
        quick: bool,
    },
    /// POST to signed delivery, as fast as events are taken.
    EmbeddedThroughput {
        /// Targets of each event.
        #[arg(long, default_value_t = 1)]
        fanout: usize,
        /// How many events [default: 60,000 deliveries' worth].
        #[arg(long)]
        events: Option<u64>,
        /// Connections of the driver.
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
    /// Latency at a pace.
    EmbeddedLatency {
        /// Events per second.
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        /// For how long.
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// How fast a log that is already full is emptied.
    EmbeddedDrain {
        /// How many events.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
    },
    /// The consumer by itself, between a log in memory and a queue that acknowledges at once.
    NullQueue {
        /// How many events; a tenth of them for the fan-out of ten.
        #[arg(long, default_value_t = 2_000_000)]
        events: u64,
        /// Bytes of a record.
        #[arg(long, default_value_t = 300)]
        record: usize,
    },
    /// The consumer's rate from Kafka to SQS by fan-out, payload, partitions and subscriptions, beside the
    /// bare loop (needs `target/world/env`).
    Intake {
        /// Deliveries of a point; fewer where payloads are large.
        #[arg(long, default_value_t = 10_000)]
        deliveries: u64,
    },
    /// The consumer's latency when little happens, beside the broker's and the queue's own (needs
    /// `target/world/env`).
    QuietLatency {
        /// Records per second.
        #[arg(long, default_value_t = 25.0)]
        rate: f64,
        /// For how long, of each of the three parts.
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// The consumer's memory with a long backlog, and with 100 events of 5 MB (needs `target/world/env`).
    Backlog {
        /// Records of the backlog.
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// Memory while deliveries wait for a target that is down.
    EmbeddedWaiting {
        /// How many events.
        #[arg(long, default_value_t = 200_000)]
        events: u64,
        /// Seconds to watch after the last.
        #[arg(long, default_value_t = 20)]
        hold: u64,
        /// Then let the target work again and wait for all of them (minutes).
        #[arg(long)]
        recover: bool,
    },
    /// What nine targets see of a tenth that hangs, of one that is dead, and of another tenant's flood.
    Isolation {
        /// Events per second, each for all targets.
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        /// For how long: 25 s at 200/s are 5,000 deliveries of the one that hangs.
        #[arg(long, default_value_t = 25.0)]
        seconds: f64,
        /// Deliveries that wait for the dead one.
        #[arg(long, default_value_t = 100_000)]
        waiting: u64,
        /// Over Kafka, SQS, S3 and Postgres (needs `target/world/env`); an emulator bears a tenth of the rate.
        #[arg(long)]
        distributed: bool,
        /// One trouble alone.
        #[arg(long, value_enum)]
        only: Option<Only>,
        /// How often each trouble, between runs without any.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
    /// Decoding of records, beside apache-avro.
    Decode,
    /// Time to ready, memory and processor time of doing nothing.
    Idle,
    /// SIGKILL under load, again and again: nothing accepted may be lost.
    Crash {
        /// How often.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// Targets of each event.
        #[arg(long, default_value_t = 1)]
        fanout: usize,
        /// Chooses the moments [default: from the clock].
        #[arg(long)]
        seed: Option<u64>,
    },
    /// The API: events taken a second, and changes of the catalog at a pace while deliveries run. On Kafka and Postgres
    /// too where `target/world/env` names them.
    Api {
        /// Events posted.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// Catalog requests per second.
        #[arg(long, default_value_t = 2_000.0)]
        rate: f64,
        /// For how long.
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// SIGKILL with a backlog: how soon it moves again.
    Restart {
        /// Deliveries that wait at the kill.
        #[arg(long, default_value_t = 10_000)]
        queued: u64,
    },
    /// Replay of what a target missed while it was disabled, killed twice, beside nine targets that go on.
    Replay {
        /// Deliveries that it missed.
        #[arg(long, default_value_t = 100_000)]
        missed: u64,
        /// The target's rateLimit, deliveries per second.
        #[arg(long, default_value_t = 500)]
        limit: u32,
        /// Events per second to the nine, all through.
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        /// For how long the nine are measured before the replay.
        #[arg(long, default_value_t = 30.0)]
        seconds: f64,
    },
    /// Requests that hang at once: their memory.
    Hanging {
        /// How many; a process needs a file for each (`ulimit -n`).
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
    },
    /// The dispatcher by itself, beside the bare client loops.
    Sending {
        /// How many deliveries, and requests of each loop.
        #[arg(long, default_value_t = 100_000)]
        deliveries: u64,
    },
    /// Matching against a large catalog, on SQLite and, where it is up, on Postgres.
    Matching {
        /// How many subscriptions, 100 for each tenant.
        #[arg(long, default_value_t = 1_000_000)]
        subscriptions: u64,
    },
    /// What people ask of a large history, on Postgres (needs `target/world/env`, and 520 bytes of disk for each attempt).
    History {
        /// How many attempts, five for each delivery, two deliveries for each event.
        #[arg(long, default_value_t = 20_000_000)]
        attempts: u64,
    },
    /// The distributed pipeline and the limits of its queue (needs `target/world/env`).
    Distributed {
        /// Events through the whole pipeline.
        #[arg(long, default_value_t = 10_000)]
        events: u64,
        /// Events for consumer and dispatcher alone, and messages of the bare loops.
        #[arg(long, default_value_t = 20_000)]
        alone: u64,
        /// Events per second of the paced part.
        #[arg(long, default_value_t = 100.0)]
        rate: f64,
        /// Connections of the driver.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// How often consumer and dispatcher alone, between the bare loops.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
    /// The limit over HTTP: bare clients that sign and post to the sink.
    RawHttp {
        /// How many requests.
        #[arg(long, default_value_t = 100_000)]
        requests: u64,
        /// Tasks that send.
        #[arg(long, default_value_t = 64)]
        tasks: usize,
    },
    /// The limit of the queue: bare SDK loops on the SQS that `AWS_…` names.
    RawSqs {
        /// How many messages.
        #[arg(long, default_value_t = 20_000)]
        messages: u64,
    },
    /// The sink alone, until Ctrl-C; `/__stats`, `/__reset`, `/__hold/503`, `/__hold/hang`, `/__hold/accept`.
    Sink {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// The parts of `all`.
pub fn plan(quick: bool) -> Vec<What> {
    let part = if quick { 10 } else { 1 };
    let throughput = |fanout| What::EmbeddedThroughput {
        fanout,
        events: Some(if fanout == 1 { 60_000 } else { 20_000 } / part),
        connections: 64,
    };
    let mut plan = vec![
        What::RawHttp {
            requests: 100_000 / part,
            tasks: 64,
        },
        What::Idle,
        What::Decode,
        What::Matching {
            subscriptions: 1_000_000 / part,
        },
        throughput(1),
        throughput(5),
        What::EmbeddedLatency {
            rate: 200.0,
            seconds: 20.0 / part as f64,
        },
        What::EmbeddedDrain {
            events: 100_000 / part,
        },
        What::NullQueue {
            events: 2_000_000 / part,
            record: 300,
        },
        What::Sending {
            deliveries: 100_000 / part,
        },
        What::EmbeddedWaiting {
            events: 200_000 / part,
            hold: 20 / part,
            recover: false,
        },
        What::Isolation {
            rate: 200.0,
            seconds: 25.0 / part as f64,
            waiting: 100_000 / part,
            distributed: false,
            only: None,
            rounds: 1,
        },
        What::Crash {
            rounds: if quick { 2 } else { 10 },
            fanout: 1,
            seed: None,
        },
        What::Api {
            events: 100_000 / part,
            rate: 2_000.0,
            seconds: 20.0 / part as f64,
        },
        What::Restart {
            queued: 10_000 / part,
        },
        What::Replay {
            missed: 100_000 / part,
            limit: 500,
            rate: 200.0,
            seconds: 30.0 / part as f64,
        },
        What::Hanging {
            requests: 10_000 / part,
        },
    ];
    if world::World::is_there() {
        plan.push(What::Distributed {
            events: 10_000 / part,
            alone: 20_000 / part,
            rate: 100.0,
            connections: 64,
            rounds: if quick { 1 } else { 3 },
        });
        plan.push(What::Isolation {
            rate: 20.0,
            seconds: 50.0 / part as f64,
            waiting: 10_000 / part,
            distributed: true,
            only: None,
            rounds: 1,
        });
        plan.push(What::QuietLatency {
            rate: 25.0,
            seconds: 20.0 / part as f64,
        });
        plan.push(What::Backlog {
            records: 1_000_000 / part,
        });
        plan.push(What::Intake {
            deliveries: 10_000 / part,
        });
    } else {
        eprintln!("the distributed part is left out: source target/world/env to have it");
    }
    plan
}

/// Its name on the command line.
pub fn name(what: &What) -> &'static str {
    match what {
        What::All { .. } => "all",
        What::EmbeddedThroughput { .. } => "embedded-throughput",
        What::EmbeddedLatency { .. } => "embedded-latency",
        What::EmbeddedDrain { .. } => "embedded-drain",
        What::EmbeddedWaiting { .. } => "embedded-waiting",
        What::NullQueue { .. } => "null-queue",
        What::Decode => "decode",
        What::Idle => "idle",
        What::Isolation { .. } => "isolation",
        What::Matching { .. } => "matching",
        What::History { .. } => "history",
        What::Crash { .. } => "crash",
        What::Sending { .. } => "sending",
        What::Api { .. } => "api",
        What::Restart { .. } => "restart",
        What::Replay { .. } => "replay",
        What::Hanging { .. } => "hanging",
        What::Distributed { .. } => "distributed",
        What::Intake { .. } => "intake",
        What::QuietLatency { .. } => "quiet-latency",
        What::Backlog { .. } => "backlog",
        What::RawHttp { .. } => "raw-http",
        What::RawSqs { .. } => "raw-sqs",
        What::Sink { .. } => "sink",
    }
}
