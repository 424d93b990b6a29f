//! The `hookwright` binary: one subcommand per role, and the tools around them.
//!
//! [`cli`] says which commands there are; [`roles`] starts the services a command asks for, and hands
//! each its ports. From there the data flow is in the services' own crates: `consumer` (event log to
//! dispatch queue), `dispatcher` (dispatch queue to POST), `retry-manager`, `recorder`, `api`.

mod admin;
mod check;
mod cli;
mod dead_letters;
mod demo;
mod dev;
mod failure;
mod housekeeping;
mod listen;
mod open_files;
mod prepare;
mod produce;
mod provision;
mod receiver;
mod roles;
mod secrets;
mod selection;
mod settings;
mod terminal;
mod transfer;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use selection::Selection;
use std::process::ExitCode;

/// Records are allocated on one thread and freed on another, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, all else is bad usage. Nobody may be reading.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(failure::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    open_files::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::died(&error).exit(),
    };
    let result = runtime
        .block_on(run(cli.clone()))
        .map_err(|failure| failure.located(&cli));
    // What still waits for a remote answer must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let config = cli.config.as_deref();
    let flags = cli.flags();
    match cli.command {
        Command::Dev(args) => dev::run(args, config, &flags).await,
        Command::All => roles::run(Selection::ALL, config, &flags).await,
        Command::Consumer => {
            roles::run(
                Selection {
                    consumer: true,
                    ..Selection::NONE
                },
                config,
                &flags,
            )
            .await
        }
        Command::Dispatcher => {
            roles::run(
                Selection {
                    dispatcher: true,
                    ..Selection::NONE
                },
                config,
                &flags,
            )
            .await
        }
        Command::RetryManager => {
            roles::run(
                Selection {
                    retry_manager: true,
                    ..Selection::NONE
                },
                config,
                &flags,
            )
            .await
        }
        Command::Recorder => {
            roles::run(
                Selection {
                    recorder: true,
                    ..Selection::NONE
                },
                config,
                &flags,
            )
            .await
        }
        Command::Api => {
            roles::run(
                Selection {
                    api: true,
                    ..Selection::NONE
                },
                config,
                &flags,
            )
            .await
        }
        Command::Provision => provision::run(config, &flags).await,
        Command::Check => check::run(config, &flags).await,
        Command::Produce(args) => produce::run(args, config, &flags).await,
        Command::Listen(args) => listen::run(args).await,
        Command::DeadLetters(command) => dead_letters::run(command, config, &flags).await,
        Command::Tenants(command) => admin::tenants(command, config, &flags).await,
        Command::Keys(command) => admin::keys(command, config, &flags).await,
        Command::Export(args) => transfer::export(args, config, &flags).await,
        Command::Import(args) => transfer::import(args, config, &flags).await,
        Command::Secrets(command) => secrets::run(command, config, &flags).await,
    }
}
