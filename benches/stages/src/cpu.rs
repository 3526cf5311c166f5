//! CPU time of a thread as what criterion measures, told by the event.

use std::time::Duration;

use cpu_time::ThreadTime;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};

use crate::EVENTS;

/// CPU time of the calling thread.
pub(crate) struct ThreadCpu;

impl Measurement for ThreadCpu {
    type Intermediate = ThreadTime;
    type Value = Duration;

    fn start(&self) -> ThreadTime {
        ThreadTime::now()
    }

    fn end(&self, start: ThreadTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    /// Microseconds an iteration.
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_secs_f64() * 1e6
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &PerEvent
    }
}

struct PerEvent;

impl PerEvent {
    fn scale(values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|value| *value /= EVENTS as f64);
        "µs/event"
    }
}

impl ValueFormatter for PerEvent {
    fn scale_values(&self, _typical: f64, values: &mut [f64]) -> &'static str {
        Self::scale(values)
    }

    fn scale_throughputs(&self, _typical: f64, _throughput: &Throughput, values: &mut [f64]) -> &'static str {
        Self::scale(values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        Self::scale(values)
    }
}
