//! `sample-events`: arguments → events → Kafka or stdout.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::SystemTime;

use lexopt::prelude::*;
use sample_events::produce::{Options, produce};
use sample_events::{Source, parse_base_time};
use sandarb_consumer::kafka::records::write::Codec;

const HELP: &str = "\
sample-events produce --bootstrap HOST:PORT[,HOST:PORT] --topic NAME --count N [options]
sample-events print --count N [options]

Events are a function of seed, index and base time: print shows what produce sends.

  --seed S                another seed gives other events (default 1)
  --start INDEX           index of the first event (default 0)
  --base-time TIME        newest possible event_time, RFC 3339 or milliseconds (default now); the oldest is 30 days before
  --variety               every seventh event or so has its metadata as an object instead of a string
produce:
  --rate N                events a second, evenly (default: as fast as they are taken)
  --create-partitions N   create the topic with N partitions unless it exists
  --codec lz4|none        compression of the batches (default lz4)
  --batch N               events a batch, about (default 400)

The last line of produce is `produced N`. Exit codes: 0 all confirmed, 1 not all, 2 wrong arguments.
";

enum Command {
    Produce,
    Print,
}

struct Arguments {
    command: Command,
    options: Options,
}

fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1)) {
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(Arguments { command: Command::Print, options })) => print_events(&options),
        Ok(Some(Arguments { command: Command::Produce, options })) => produce_events(&options),
        Err(error) => {
            eprintln!("sample-events: {error}; see --help");
            ExitCode::from(2)
        }
    }
}

fn parse(args: impl Iterator<Item = OsString> + 'static) -> Result<Option<Arguments>, lexopt::Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let mut command = None;
    let mut count = None;
    let mut options = Options {
        bootstrap: Vec::new(),
        topic: String::new(),
        create_partitions: None,
        source: Source { seed: 1, base_ms: now.as_millis() as i64, variety: false },
        start: 0,
        count: 0,
        rate: None,
        codec: Codec::Lz4,
        batch: NonZeroUsize::new(400).ok_or("no batch")?,
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Value(word) if command.is_none() => {
                command = Some(match word.string()?.as_str() {
                    "produce" => Command::Produce,
                    "print" => Command::Print,
                    other => return Err(format!("{other:?} is neither produce nor print").into()),
                });
            }
            Long("bootstrap") => {
                options.bootstrap = parser.value()?.string()?.split(',').map(|a| a.trim().to_owned()).collect();
            }
            Long("topic") => options.topic = parser.value()?.string()?,
            Long("count") => count = Some(parser.value()?.parse()?),
            Long("seed") => options.source.seed = parser.value()?.parse()?,
            Long("start") => options.start = parser.value()?.parse()?,
            Long("base-time") => options.source.base_ms = parse_base_time(&parser.value()?.string()?)?,
            Long("variety") => options.source.variety = true,
            Long("rate") => {
                let rate: f64 = parser.value()?.parse()?;
                if !(rate.is_finite() && rate > 0.0) {
                    return Err("--rate must be above 0".into());
                }
                options.rate = Some(rate);
            }
            Long("create-partitions") => options.create_partitions = Some(parser.value()?.parse()?),
            Long("batch") => options.batch = parser.value()?.parse()?,
            Long("codec") => {
                options.codec = match parser.value()?.string()?.as_str() {
                    "lz4" => Codec::Lz4,
                    "none" => Codec::None,
                    other => return Err(format!("--codec {other:?} is neither lz4 nor none").into()),
                };
            }
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    let command = command.ok_or("a command is missing: produce or print")?;
    options.count = count.ok_or("--count is missing")?;
    if matches!(command, Command::Produce) && (options.bootstrap.is_empty() || options.topic.is_empty()) {
        return Err("produce needs --bootstrap and --topic".into());
    }
    Ok(Some(Arguments { command, options }))
}

fn print_events(options: &Options) -> ExitCode {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut line = Vec::with_capacity(2048);
    for index in options.start..options.start + options.count {
        line.clear();
        options.source.event(index).write_json(&mut line);
        line.push(b'\n');
        if let Err(error) = out.write_all(&line) {
            eprintln!("sample-events: stdout: {error}");
            return ExitCode::FAILURE;
        }
    }
    match out.flush() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sample-events: stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn produce_events(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sample-events: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(produce(options)) {
        Ok(produced) => {
            if !produced.uncertain.is_empty() {
                println!(
                    "uncertain {}: their confirmation was lost; indices {:?}",
                    produced.uncertain.len(),
                    produced.uncertain
                );
            }
            println!("produced {}", produced.confirmed);
            if produced.uncertain.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("sample-events: {error}");
            ExitCode::FAILURE
        }
    }
}
