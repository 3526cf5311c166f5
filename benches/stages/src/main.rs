//! CPU time per event of each step from a fetch answer to a Native block, without services.
//!
//! usage: stages [ROUNDS [STAGE…]]     STAGE: a part of its name
//!
//! A stage is measured in CPU time of its thread, not by the clock, so that other work on the machine matters less; the
//! figure is the median of the rounds. Events are those of tools/sample-events, in batches of the size that librdkafka
//! makes of them, in answers of about 1 MiB.

// musl's memory functions are slower than those that ship.
#[cfg(target_env = "musl")]
extern crate fast_mem as _;

mod answers;
mod socket;
mod stages;

use std::hint::black_box;

use cpu_time::ThreadTime;

/// So many make a round: more than the caches hold.
const EVENTS: u64 = 20_000;
/// Rounds, if none are asked for.
const ROUNDS: usize = 15;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let wanted: Vec<String> = arguments.collect();
    let events = answers::events(EVENTS);
    println!("| stage | CPU µs/event |\n|---|---|");
    for (name, stage) in stages::all(&events) {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let mut step = stage();
        black_box(step()); // buffers grow, tables are made
        let round = |_| {
            let start = ThreadTime::now();
            black_box(step());
            start.elapsed().as_secs_f64() * 1e6 / EVENTS as f64
        };
        let mut figures: Vec<f64> = (0..rounds.max(1)).map(round).collect();
        figures.sort_by(f64::total_cmp);
        println!("| {name} | {:.3} |", figures[figures.len() / 2]);
    }
}
