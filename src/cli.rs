//! The command line.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use crate::commands::schema::Parts;
use crate::config;

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Bridge events until told to stop.
    Run,
    /// Look at everything a run needs.
    Check {
        /// Read and decode so many events as well.
        sample: Option<u64>,
    },
    /// Ask the program on this machine whether it is healthy.
    Healthcheck,
    /// Print the SQL of the default table, or apply it.
    Schema {
        /// What belongs to it besides the table.
        parts: Parts,
        /// Create what is missing instead of printing.
        apply: bool,
    },
    /// Print the version.
    Version,
    /// Print how to use the program.
    Help,
}

/// An argument that means nothing here.
#[derive(Debug, thiserror::Error)]
#[error("{0}; `{NAME} --help` lists what there is")]
pub struct UsageError(#[from] lexopt::Error);

impl Command {
    /// Reads the arguments, the program's own name not among them.
    ///
    /// # Errors
    /// On an unknown or superfluous argument.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString>, IntoIter: 'static>,
    ) -> Result<Self, UsageError> {
        let mut parser = Parser::from_args(arguments);
        let mut command = None;
        while let Some(argument) = parser.next()? {
            let named = match &argument {
                // Asked for help, nothing else matters.
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Help),
                Arg::Short('V') | Arg::Long("version") => Self::Version,
                Arg::Value(word) if word == "help" => return Ok(Self::Help),
                Arg::Value(word) if word == "healthcheck" => Self::Healthcheck,
                Arg::Value(word) if word == "schema" => Self::Schema { parts: Parts::default(), apply: false },
                Arg::Long(option @ ("views" | "reports" | "apply")) => match &mut command {
                    Some(Self::Schema { parts, apply }) => {
                        *match *option {
                            "views" => &mut parts.views,
                            "reports" => &mut parts.reports,
                            _ => apply,
                        } = true;
                        continue;
                    }
                    _ => return Err(argument.unexpected().into()),
                },
                Arg::Value(word) if word == "check" => Self::Check { sample: None },
                Arg::Long("sample") if command == Some(Self::Check { sample: None }) => {
                    command = Some(Self::Check { sample: Some(parser.value()?.parse()?) });
                    continue;
                }
                Arg::Short(_) | Arg::Long(_) | Arg::Value(_) => return Err(argument.unexpected().into()),
            };
            if command.is_some() {
                return Err(argument.unexpected().into());
            }
            command = Some(named);
        }
        Ok(command.unwrap_or(Self::Run))
    }
}

/// The name of the program and its version, in one line.
pub fn version() -> String {
    format!("{NAME} {}", env!("CARGO_PKG_VERSION"))
}

/// How to use the program: commands, exit codes, variables.
pub fn help() -> String {
    format!(
        "{version}
Reads JSON events from a Kafka topic in a consumer group and inserts them into ClickHouse in batches.

Usage: {NAME} [COMMAND]

Commands:
  (none)            bridge events until SIGTERM or SIGINT
  check [--sample N]  look at configuration, Kafka, ClickHouse and the table, one line each; exit 0 or 1. Changes
                    nothing. --sample reads the newest N events and says what would become of them
  healthcheck       ask http://127.0.0.1:HEALTH_PORT/health; exit 0 when healthy, else 1
  schema            print the SQL of the default table, named by CLICKHOUSE_DATABASE and CLICKHOUSE_TABLE
    --views         and of the five views that the original's dashboards read
    --reports       and of five richer ones
    --apply         create what of it is missing instead; say what is left alone, and in what it differs
  help, --help, -h  print this
  --version, -V     print the version

Exit codes:
  0  stopped cleanly
  1  a service was not usable at the start, or the shutdown took too long; healthcheck: unhealthy; check: a FAIL
  2  the configuration or the command line is wrong; every fault is named
  3  the consumer group refuses this member for good

Environment variables [default]; an empty one counts as unset, except CLICKHOUSE_PASSWORD and KAFKA_DLQ_TOPIC. A
password may stand in a file instead, named by the variable with _FILE behind its name; the file is read again at each
use:
{variables}",
        version = version(),
        variables = config::help_table()
    )
}

const NAME: &str = "sandarb-consumer";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Command::parse(arguments).map_err(|error| error.to_string())
    }

    fn schema(views: bool, reports: bool, apply: bool) -> Command {
        Command::Schema { parts: Parts { views, reports }, apply }
    }

    #[test]
    fn commands() {
        assert_eq!(parse(&[]), Ok(Command::Run));
        assert_eq!(parse(&["healthcheck"]), Ok(Command::Healthcheck));
        assert_eq!(parse(&["schema"]), Ok(schema(false, false, false)));
        assert_eq!(parse(&["schema", "--views"]), Ok(schema(true, false, false)));
        assert_eq!(parse(&["schema", "--apply", "--views"]), Ok(schema(true, false, true)));
        assert_eq!(parse(&["schema", "--reports"]), Ok(schema(false, true, false)));
        for version in ["--version", "-V"] {
            assert_eq!(parse(&[version]), Ok(Command::Version));
        }
        for help in ["--help", "-h", "help"] {
            assert_eq!(parse(&[help]), Ok(Command::Help));
            assert_eq!(parse(&["healthcheck", help]), Ok(Command::Help));
        }
        assert_eq!(parse(&["check"]), Ok(Command::Check { sample: None }));
        assert_eq!(parse(&["check", "--sample", "500"]), Ok(Command::Check { sample: Some(500) }));
    }

    #[test]
    fn anything_else_is_named_in_one_line() {
        for (arguments, named) in [
            (&["run"][..], "\"run\""),
            (&["--verbose"], "'--verbose'"),
            (&["-x"], "'-x'"),
            (&["healthcheck", "twice"], "\"twice\""),
            (&["healthcheck", "healthcheck"], "\"healthcheck\""),
            (&["healthcheck", "--views"], "'--views'"),
            (&["--apply", "schema"], "'--apply'"),
            (&["schema", "--apply=now"], "\"now\""),
            (&["--version=3"], "\"3\""),
            (&["--sample", "5"], "'--sample'"),
            (&["check", "--sample", "some"], "\"some\""),
            (&[""], "\"\""),
            (&["a\nb"], "\"a\\nb\""),
        ] {
            let text = parse(arguments).expect_err("must be refused");
            assert!(text.contains(named) && text.contains("--help"), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn the_help_names_every_variable_and_exit_code() {
        let help = help();
        for entry in config::TABLE {
            assert!(help.contains(entry.name), "{}", entry.name);
        }
        for code in 0..=3 {
            assert!(help.contains(&format!("\n  {code}  ")), "{code}");
        }
        assert_eq!(version(), concat!("sandarb-consumer ", env!("CARGO_PKG_VERSION")));
    }
}
