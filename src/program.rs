//! Arguments → command → exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::runtime::{self, Runtime};

use crate::cli::{self, Command};
use crate::commands::{check, healthcheck, schema};
use crate::config::{Config, Loaded, clickhouse_config, health_port};
use crate::run;
use crate::telemetry::log;

/// Does what the command line says; the exit code is the process's.
///
/// Here and not in `main.rs`, because the bodies of async functions are compiled once for each crate that drives them: a
/// binary that did so itself would hold all of them twice.
pub fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run) => serve(),
        Ok(Command::Check { sample }) => check(sample),
        Ok(Command::Healthcheck) => ask_health(),
        Ok(Command::Schema { parts, apply }) => tables(parts, apply),
        Ok(Command::Version) => print(&(cli::version() + "\n")),
        Ok(Command::Help) => print(&cli::help()),
        Err(error) => fail(CONFIGURATION, &error),
    }
}

fn serve() -> ExitCode {
    let Loaded { config, warnings } = match Config::from_env() {
        Ok(loaded) => loaded,
        Err(error) => return fail(CONFIGURATION, &error),
    };
    if let Err(error) = log::open(config.log_level) {
        return fail(UNUSABLE, &error);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(UNUSABLE, &error),
    };
    match runtime.block_on(run::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn check(sample: Option<u64>) -> ExitCode {
    let loaded = match Config::from_env() {
        Ok(loaded) => loaded,
        Err(error) => return fail(CONFIGURATION, &error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(UNUSABLE, &error),
    };
    let report = runtime.block_on(check::run(&loaded, sample));
    let printed = print(&report.text());
    if report.is_good() { printed } else { ExitCode::from(UNUSABLE) }
}

fn ask_health() -> ExitCode {
    let port = match health_port(&|name| std::env::var_os(name)) {
        Ok(port) => port,
        Err(error) => return fail(CONFIGURATION, &error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(UNUSABLE, &error),
    };
    match runtime.block_on(healthcheck::run(port)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(UNUSABLE, &error),
    }
}

fn tables(parts: schema::Parts, apply: bool) -> ExitCode {
    let config = match clickhouse_config(&|name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(error) => return fail(CONFIGURATION, &error),
    };
    if !apply {
        return print(&schema::sql(&config.database, &config.table, parts));
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(UNUSABLE, &error),
    };
    let mut printed = ExitCode::SUCCESS;
    let mut say = |line: &str| {
        let done = print(&format!("{line}\n"));
        if done != ExitCode::SUCCESS {
            printed = done;
        }
    };
    match runtime.block_on(schema::apply(&config, parts, &mut say)) {
        Ok(()) => printed,
        Err(error) => fail(UNUSABLE, &error),
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(UNUSABLE, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    // With stderr closed the exit code alone has to say it.
    match writeln!(io::stderr(), "sandarb-consumer: {error}") {
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

/// A service cannot be used, or the program is unhealthy.
const UNUSABLE: u8 = 1;
/// The configuration or the command line is wrong.
const CONFIGURATION: u8 = 2;
