//! Points in time and calendar dates out of texts and numbers.
//!
//! Texts are read in `written`, numbers in `epoch`. Own code, because no parser at hand takes all of the forms, and
//! because digits must be cut, not rounded.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::epoch::Count;
use super::written::Written;

/// A point in time from 1970 to the end of 2105 (a DateTime ends early in 2106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    /// Since 1970-01-01 UTC.
    seconds: i64,
    nanos: u32,
}

/// Why there is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeFault {
    /// Neither a time nor a number.
    Unreadable,
    /// Outside what the column can hold; for points in time 1970 to 2105.
    OutOfRange,
    /// A count of seconds that ends within 1970: a day number, a year, a number of something else.
    Small,
}

impl Moment {
    /// 1970-01-01T00:00:00Z.
    pub(super) const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// Bytes of the usual form.
    pub(super) const USUAL: usize = 24;

    /// Reads a text, or a number in text form.
    pub(super) fn parse(text: &str) -> Result<Self, TimeFault> {
        if let Some(moment) = text.as_bytes().as_array().and_then(Self::usual) {
            return Ok(moment);
        }
        match Count::read(text) {
            Some(count) => Self::from_count(count),
            None => Self::from_written(Written::read(text).ok_or(TimeFault::Unreadable)?),
        }
    }

    /// A number: a calendar date, or a count since 1970.
    pub(super) fn from_count(count: Count) -> Result<Self, TimeFault> {
        match count.calendar()? {
            Some(written) => Self::from_written(written),
            None => count.since_1970(),
        }
    }

    fn from_written(written: Written) -> Result<Self, TimeFault> {
        let (seconds, nanos) = written.clock.unwrap_or((0, 0));
        Self::new(written.days * DAY + seconds, nanos)
    }

    /// The form that most producers write, `YYYY-MM-DDThh:mm:ss.mmmZ`, eight bytes at a time. None for anything else, and for
    /// what is no time in this form: then it is read piece by piece.
    pub(super) fn usual(text: &[u8; Self::USUAL]) -> Option<Self> {
        const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
        // A byte that is as the form has it becomes 0, a digit its value.
        let word = |bytes: &[u8; 24], at: usize| {
            let words: &[[u8; 8]] = bytes.as_chunks().0;
            u64::from_le_bytes(words[at])
        };
        let values = [0, 1, 2].map(|at| word(text, at) ^ word(FORM, at));
        let strange = [0, 1, 2].map(|at| {
            let not_digits = word(&NOT_DIGITS, at);
            // Beyond 9 there is something in the upper half, or comes into it with 6 more.
            (values[at] | values[at].wrapping_add(SIXES)) & UPPER | values[at] & not_digits
        });
        if strange != [0; 3] {
            return None;
        }
        // Each byte ten times, and the next one: where a number of two digits begins it stands now.
        let pairs = values.map(|value| value.wrapping_mul(10).wrapping_add(value >> 8).to_le_bytes());
        let two = |at: usize| i64::from(pairs[at / 8][at % 8]);
        let days = days(two(0) * 100 + two(2), two(5), two(8))?;
        let seconds = since_midnight(two(11), two(14), two(17))?;
        let millis = u32::from(pairs[2][4]) * 10 + u32::from(values[2].to_le_bytes()[6]);
        Self::new(days * DAY + seconds, millis * 1_000_000).ok()
    }

    /// Milliseconds since 1970, as Kafka's records have them.
    pub(super) fn from_millis(millis: i64) -> Result<Self, TimeFault> {
        let nanos = u32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
        Self::new(millis.div_euclid(1000), nanos)
    }

    /// The time of a clock; one outside the range counts as its nearest end.
    pub(super) fn from_clock(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX).min(LAST);
        Self { seconds, nanos: since.subsec_nanos() }
    }

    /// Seconds since 1970.
    pub(super) fn seconds(self) -> u32 {
        u32::try_from(self.seconds).unwrap_or(u32::MAX)
    }

    /// Whole days since 1970.
    pub(super) fn days(self) -> u16 {
        u16::try_from(self.seconds / DAY).unwrap_or(u16::MAX)
    }

    /// Ticks of 10^-precision seconds since 1970; further digits are cut. `precision` ≤ 9.
    pub(super) fn ticks(self, precision: u8) -> i64 {
        match precision {
            3 => self.seconds * 1_000 + i64::from(self.nanos / 1_000_000),
            _ => {
                let digits = u32::from(precision.min(9));
                self.seconds * 10_i64.pow(digits) + i64::from(self.nanos / 10_u32.pow(9 - digits))
            }
        }
    }

    pub(super) fn new(seconds: i64, nanos: u32) -> Result<Self, TimeFault> {
        if (0..=LAST).contains(&seconds) { Ok(Self { seconds, nanos }) } else { Err(TimeFault::OutOfRange) }
    }
}

/// Days since 1970 of a text, or of a number in text form, for a column that holds the days of `range`. A time counts for
/// its day in UTC.
pub(super) fn day(text: &str, range: &RangeInclusive<i64>) -> Result<i64, TimeFault> {
    match Count::read(text) {
        Some(count) => day_of_count(count, range),
        None => day_of(Written::read(text).ok_or(TimeFault::Unreadable)?, range),
    }
}

/// The same of a number: a day number as far as the column goes, then a calendar date, then a count since 1970.
pub(super) fn day_of_count(count: Count, range: &RangeInclusive<i64>) -> Result<i64, TimeFault> {
    if let Some(days) = count.whole().filter(|days| range.contains(days)) {
        return Ok(days);
    }
    match count.calendar()? {
        Some(written) => day_of(written, range),
        None => Ok(i64::from(count.since_1970()?.days())),
    }
}

fn day_of(written: Written, range: &RangeInclusive<i64>) -> Result<i64, TimeFault> {
    if written.clock.is_some() {
        return Ok(i64::from(Moment::from_written(written)?.days()));
    }
    if range.contains(&written.days) { Ok(written.days) } else { Err(TimeFault::OutOfRange) }
}

/// Days that a Date holds: 1970-01-01 to 2149-06-06.
pub(super) const DATE: RangeInclusive<i64> = 0..=65_535;
/// Days that a Date32 holds: 1900-01-01 to 2299-12-31.
pub(super) const DATE32: RangeInclusive<i64> = -25_567..=120_529;

const DAY: i64 = 86_400;
/// 2105-12-31T23:59:59Z.
const LAST: i64 = 49_673 * DAY - 1;

const SIXES: u64 = 0x0606_0606_0606_0606;
const UPPER: u64 = 0xF0F0_F0F0_F0F0_F0F0;
/// All ones where the usual form has no digit.
const NOT_DIGITS: [u8; 24] = {
    let mut bytes = [0; 24];
    let places = [4, 7, 10, 13, 16, 19, 23];
    let mut at = 0;
    while at < places.len() {
        bytes[places[at]] = u8::MAX;
        at += 1;
    }
    bytes
};

/// Days since 1970 of a day, if there is such a day.
pub(super) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Days from civil: years begin in March, so that the leap day comes last; eras have 400 years.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Seconds since midnight of a time of day, if there is such a one.
pub(super) fn since_midnight(hour: i64, minute: i64, second: i64) -> Option<i64> {
    // 60 is a leap second, which counts as the first of the next minute.
    let fits = hour <= 23 && minute <= 59 && second <= 60;
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// The first nine digits behind the point, as nanoseconds.
pub(super) fn nanos_of(digits: &[u8]) -> u32 {
    digits.iter().chain(std::iter::repeat(&b'0')).take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
