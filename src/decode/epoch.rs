//! Times given as numbers: calendar dates without separators, and counts since 1970.
//!
//! A number counts by its digits, never by a float near it, and a text of the same digits means the same.

use super::time::{Moment, TimeFault, days, nanos_of, since_midnight};
use super::written::Written;

/// A number as far as times need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    negative: bool,
    /// Digits in front of the point; `None` for more than a count of nanoseconds ever has.
    whole: Option<i64>,
    /// The first nine digits after the point.
    nanos: u32,
    /// A digit after the point is not 0.
    fractional: bool,
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self { negative: false, whole: i64::try_from(number).ok(), nanos: 0, fractional: false }
    }
}

impl From<i64> for Count {
    fn from(number: i64) -> Self {
        Self { negative: number < 0, ..number.unsigned_abs().into() }
    }
}

impl Count {
    /// Reads `[-]digits[.digits][e[+-]digits]`; `None` for anything else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        // Most texts are no numbers, which shows early.
        if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let spelled;
        let text = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                spelled = spell_out(mantissa, exponent)?;
                &*spelled
            }
            None => text,
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        Some(Self {
            negative,
            whole: whole.parse().ok(),
            nanos: nanos_of(fraction.as_bytes()),
            fractional: fraction.bytes().any(|digit| digit != b'0'),
        })
    }

    /// The number, if it has no fraction.
    pub(super) fn whole(self) -> Option<i64> {
        let number = self.whole.filter(|_| !self.fractional)?;
        Some(if self.negative { -number } else { number })
    }

    /// `YYYYMMDD` of the years 1900 to 2299, and `YYYYMMDDhhmmss` of the same: no count since 1970 that anybody sends has
    /// such a value. Any other number is none of these; one of these that is no date is a fault.
    pub(super) fn calendar(self) -> Result<Option<Written>, TimeFault> {
        let (date, time) = match self.whole() {
            Some(number @ FIRST_DATE..=LAST_DATE) => (number, None),
            Some(number @ FIRST_TIME..=LAST_TIME) => (number / SIX_DIGITS, Some(number % SIX_DIGITS)),
            _ => return Ok(None),
        };
        let days = days(date / 10_000, date / 100 % 100, date % 100).ok_or(TimeFault::Unreadable)?;
        let clock = match time {
            None => None,
            Some(time) => {
                let seconds = since_midnight(time / 10_000, time / 100 % 100, time % 100);
                Some((seconds.ok_or(TimeFault::Unreadable)?, 0))
            }
        };
        Ok(Some(Written { days, clock }))
    }

    /// The point in time that is so long after 1970-01-01 UTC, in the unit that the size tells: below 1e11 seconds, below
    /// 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. The fraction's digits are of the unit.
    pub(super) fn since_1970(self) -> Result<Moment, TimeFault> {
        let count = self.whole.ok_or(TimeFault::OutOfRange)?;
        if count == 0 && !self.fractional {
            return Ok(Moment::EPOCH);
        }
        if self.negative {
            return Err(TimeFault::OutOfRange);
        }
        if count < SECONDS_OF_1970 {
            return Err(TimeFault::Small);
        }
        let per_second: i64 = match count {
            ..100_000_000_000 => 1,
            100_000_000_000..100_000_000_000_000 => 1_000,
            100_000_000_000_000..100_000_000_000_000_000 => 1_000_000,
            _ => 1_000_000_000,
        };
        // A unit has 10^9 / per_second nanoseconds.
        let unit = 1_000_000_000 / per_second;
        let nanos = count % per_second * unit + i64::from(self.nanos) / per_second;
        Moment::new(count / per_second, u32::try_from(nanos).unwrap_or(0))
    }
}

/// 1900-01-01 and 2299-12-31.
const FIRST_DATE: i64 = 19_000_101;
const LAST_DATE: i64 = 22_991_231;
/// The first second of the one and the last of the other.
const FIRST_TIME: i64 = FIRST_DATE * SIX_DIGITS;
const LAST_TIME: i64 = LAST_DATE * SIX_DIGITS + 235_960;
/// Digits of `hhmmss`.
const SIX_DIGITS: i64 = 1_000_000;
/// A smaller count of seconds is a time in 1970, when nothing was an event yet.
const SECONDS_OF_1970: i64 = 365 * 86_400;

/// A number without its exponent.
fn spell_out(mantissa: &str, exponent: &str) -> Option<String> {
    let exponent: i32 = exponent.parse().ok().filter(|exponent| (-MAX_EXPONENT..=MAX_EXPONENT).contains(exponent))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let shift = "0".repeat(usize::try_from(exponent.abs()).ok()?);
    let digits = if exponent < 0 { [&*shift, whole, fraction] } else { [whole, fraction, &*shift] }.concat();
    // After a negative exponent's zeros stands as much of the whole part as it has digits; in front of a positive one's
    // as many digits of the fraction as it counts.
    let point = if exponent < 0 { whole.len() } else { whole.len() + shift.len() };
    let (whole, fraction) = digits.split_at_checked(point)?;
    Some(format!("{whole}.{fraction}0"))
}

/// Of exponents that are spelled out: no time needs one as large.
const MAX_EXPONENT: i32 = 1000;
