//! CPU time per event of each step from a fetch answer to a Native block, without services.
//!
//! usage: stages --bench [--sample-size N] [STAGE]     STAGE: a regular expression, a part of its name; all of criterion's
//!                                                     other options
//!
//! Measured by criterion, in CPU time of the stage's thread instead of by the clock, so that other work on the machine
//! matters less. Events are those of tools/sample-events, in batches of the size that librdkafka makes of them, in answers
//! of about 1 MiB.

// musl's memory functions are slower than those that ship.
#[cfg(target_env = "musl")]
extern crate fast_mem as _;

mod answers;
mod cpu;
mod socket;
mod stages;

use std::time::Duration;

use criterion::{Criterion, SamplingMode};

use crate::cpu::ThreadCpu;

/// So many make an iteration: more than the caches hold.
pub(crate) const EVENTS: u64 = 20_000;
/// Samples a stage, about a second together, if not told otherwise.
const SAMPLES: usize = 15;

fn main() {
    let events = answers::events(EVENTS);
    let mut criterion = Criterion::default()
        .with_measurement(ThreadCpu)
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("stages");
    group.sampling_mode(SamplingMode::Flat);
    for (name, stage) in stages::all(&events) {
        let (mut stage, mut step) = (Some(stage), None);
        group.bench_function(name, |bencher| {
            if let Some(stage) = stage.take() {
                step = Some(stage()); // its input; not measured
            }
            if let Some(step) = &mut step {
                bencher.iter(step);
            }
        });
    }
    group.finish();
}
