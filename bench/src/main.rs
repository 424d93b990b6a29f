//! Measures hookwright from outside, and what the same machine could do at best.
//!
//! A driver posts events ([`driver`]), the product runs as a process of its own ([`product`]), a sink
//! receives the deliveries ([`sink`]); both write one ledger ([`ledger`]), from which each scenario
//! ([`scenarios`]) makes a row of the report ([`report`]). `docs/performance.md` says what the rows mean.

#![allow(clippy::print_stdout, reason = "a command-line tool prints its results")]
#![allow(clippy::print_stderr, reason = "a command-line tool says what it is doing")]

mod driver;
mod http;
mod ledger;
mod payload;
mod proc;
mod product;
mod report;
mod scenarios;
mod signing;
mod sink;
mod world;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use report::{Report, Row, median};
use scenarios::{
    Context, crash, distributed, drain, embedded, idle, isolation, matching, raw_http, raw_sqs, waiting,
};
use sink::Sink;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures hookwright from outside, and what the same machine could do at best.
#[derive(Parser)]
struct Cli {
    /// The product's binary [default: the one beside this binary].
    #[arg(long, global = true)]
    product: Option<PathBuf>,
    /// Where data folders are made; a real disk, or durability costs nothing.
    #[arg(long, global = true, default_value = "target/bench")]
    work: PathBuf,
    /// Bytes of a payload.
    #[arg(long, global = true, default_value_t = payload::DEFAULT_SIZE)]
    payload: usize,
    /// A configuration key of the product, such as delivery.per_target=64. May be given again.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Runs each throughput scenario so often and shows the run with the median rate.
    #[arg(long, global = true, default_value_t = 1)]
    repeat: u32,
    /// Writes the report as JSON too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Subcommand)]
enum What {
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
    },
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
    /// Matching against a large catalog, on SQLite and, where it is up, on Postgres.
    Matching {
        /// How many subscriptions, 100 for each tenant.
        #[arg(long, default_value_t = 1_000_000)]
        subscriptions: u64,
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

// One thread for the driver, one for the sink: their cost can be told apart, and they leave the rest of
// the machine to the product.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<bool> {
    if let What::Sink { listen } = cli.what {
        return run_sink(listen).await;
    }
    let binary = match cli.product {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| binary.display().to_string())?,
        None => std::env::current_exe()?.with_file_name("hookwright"),
    };
    std::fs::create_dir_all(&cli.work).with_context(|| cli.work.display().to_string())?;
    let context = Context {
        binary,
        payload: cli.payload,
        settings: cli.settings,
        limit: None,
        work: cli.work.canonicalize()?,
    };
    let mut bench = Bench {
        report: Report {
            machine: proc::machine(&context.work),
            payload: context.payload,
            rows: Vec::new(),
            failures: Vec::new(),
        },
        context,
        repeat: cli.repeat.max(1),
    };
    bench.run(cli.what).await;
    print!("{}", bench.report.text());
    if let Some(path) = cli.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&bench.report)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(bench.report.sound())
}

async fn run_sink(listen: SocketAddr) -> Result<bool> {
    let sink = Sink::start(listen, std::sync::Arc::default()).await?;
    println!("{}", sink.url(0));
    tokio::signal::ctrl_c().await?;
    Ok(true)
}

/// Runs scenarios and gathers what they say.
struct Bench {
    context: Context,
    repeat: u32,
    report: Report,
}

impl Bench {
    async fn run(&mut self, what: What) {
        match what {
            What::All { quick } => {
                for part in plan(quick) {
                    Box::pin(self.run(part)).await;
                }
            }
            other => {
                let name = name(&other);
                eprintln!("{name} …");
                match self.measure(other).await {
                    Ok(rows) => self.report.rows.extend(rows),
                    Err(error) => {
                        eprintln!("{name}: {error:#}");
                        self.report.failures.push(format!("{name}: {error:#}"));
                    }
                }
            }
        }
    }

    async fn measure(&mut self, what: What) -> Result<Vec<Row>> {
        let context = self.context.clone();
        let context = &context;
        let one = match what {
            What::RawHttp { requests, tasks } => {
                let rows = raw_http::run(context, requests, tasks).await?;
                // The faster of the two is the limit.
                self.context.limit = rows
                    .iter()
                    .filter_map(|row| row.per_second)
                    .max_by(f64::total_cmp);
                return Ok(rows);
            }
            What::Matching { subscriptions } => return matching::run(context, subscriptions).await,
            What::Isolation {
                rate,
                seconds,
                waiting,
            } => return isolation::run(context, rate, seconds, waiting).await,
            What::RawSqs { messages } => return Ok(raw_sqs::run(context, messages).await?.into()),
            What::Distributed {
                events,
                alone,
                rate,
                connections,
            } => {
                let sizes = distributed::Sizes {
                    whole: events,
                    alone,
                    rate,
                };
                return distributed::run(context, sizes, connections).await;
            }
            What::EmbeddedThroughput {
                fanout,
                events,
                connections,
            } => {
                let events = events.unwrap_or(60_000 / fanout.max(1) as u64);
                let mut rows = Vec::new();
                for _ in 0..self.repeat {
                    rows.push(embedded::throughput(context, fanout, events, connections).await?);
                }
                median(rows).context("no run")?
            }
            What::EmbeddedDrain { events } => {
                let mut rows = Vec::new();
                for _ in 0..self.repeat {
                    rows.push(drain::run(context, events).await?);
                }
                median(rows).context("no run")?
            }
            What::EmbeddedLatency { rate, seconds } => embedded::latency(context, rate, seconds).await?,
            What::EmbeddedWaiting {
                events,
                hold,
                recover,
            } => waiting::run(context, events, Duration::from_secs(hold), recover).await?,
            What::Idle => idle::run(context).await?,
            What::Crash { rounds, fanout, seed } => {
                crash::run(context, rounds, fanout, seed.unwrap_or_else(ledger::now_ns)).await?
            }
            // Taken care of before.
            What::All { .. } | What::Sink { .. } => return Ok(Vec::new()),
        };
        Ok(vec![one])
    }
}

/// The parts of `all`.
fn plan(quick: bool) -> Vec<What> {
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
        What::EmbeddedWaiting {
            events: 200_000 / part,
            hold: 20 / part,
            recover: false,
        },
        What::Isolation {
            rate: 200.0,
            seconds: 25.0 / part as f64,
            waiting: 100_000 / part,
        },
        What::Crash {
            rounds: if quick { 2 } else { 10 },
            fanout: 1,
            seed: None,
        },
    ];
    if world::World::is_there() {
        plan.push(What::Distributed {
            events: 10_000 / part,
            alone: 20_000 / part,
            rate: 100.0,
            connections: 64,
        });
    } else {
        eprintln!("the distributed part is left out: source target/world/env to have it");
    }
    plan
}

fn name(what: &What) -> &'static str {
    match what {
        What::All { .. } => "all",
        What::EmbeddedThroughput { .. } => "embedded-throughput",
        What::EmbeddedLatency { .. } => "embedded-latency",
        What::EmbeddedDrain { .. } => "embedded-drain",
        What::EmbeddedWaiting { .. } => "embedded-waiting",
        What::Idle => "idle",
        What::Isolation { .. } => "isolation",
        What::Matching { .. } => "matching",
        What::Crash { .. } => "crash",
        What::Distributed { .. } => "distributed",
        What::RawHttp { .. } => "raw-http",
        What::RawSqs { .. } => "raw-sqs",
        What::Sink { .. } => "sink",
    }
}
