//! Points in time out of texts and numbers.
//!
//! Texts are RFC 3339 (<https://www.rfc-editor.org/rfc/rfc3339>) with any offset, also `+hhmm` and `+hh`, `T` or a space
//! in the middle, without an offset UTC, or a date alone (its midnight). Numbers count from 1970 in the unit that
//! their size tells: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds; their
//! digits count, never a float near them. Own code,
//! because no parser at hand takes all of it, and because digits must be cut, not rounded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// Outside 1970 to 2105.
    OutOfRange,
}

impl Moment {
    /// 1970-01-01T00:00:00Z.
    pub(super) const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// Bytes of the usual form.
    pub(super) const USUAL: usize = 24;

    /// Reads a text or a number in text form.
    pub(super) fn parse(text: &str) -> Result<Self, TimeFault> {
        let bytes = text.as_bytes();
        if let Some(moment) = bytes.as_array().and_then(Self::usual) {
            return Ok(moment);
        }
        if let [y1, y2, y3, y4, b'-', ..] = bytes
            && [y1, y2, y3, y4].into_iter().all(u8::is_ascii_digit)
        {
            let (days, rest) = date(bytes).ok_or(TimeFault::Unreadable)?;
            let (seconds, nanos) =
                if rest.is_empty() { (0, 0) } else { time_of_day(rest).ok_or(TimeFault::Unreadable)? };
            return Self::new(days * DAY + seconds, nanos);
        }
        epoch(text)
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

    fn new(seconds: i64, nanos: u32) -> Result<Self, TimeFault> {
        if (0..=LAST).contains(&seconds) { Ok(Self { seconds, nanos }) } else { Err(TimeFault::OutOfRange) }
    }
}

/// Days since 1970 of a date alone, from 1900 to 2299, the range of Date32.
pub(super) fn date32(text: &str) -> Option<i32> {
    let (days, rest) = date(text.as_bytes())?;
    let fits = (DAYS_1900..=DAYS_2299).contains(&days) && rest.is_empty();
    i32::try_from(days).ok().filter(|_| fits)
}

const DAY: i64 = 86_400;
/// 2105-12-31T23:59:59Z.
const LAST: i64 = 49_673 * DAY - 1;
/// 1900-01-01 and 2299-12-31.
const DAYS_1900: i64 = -25_567;
const DAYS_2299: i64 = 120_529;

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

/// `YYYY-MM-DD` and what follows it.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = head else { return None };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    Some((days(year, two(*m1, *m2)?, two(*d1, *d2)?)?, rest))
}

/// Days since 1970 of a day, if there is such a day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
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

/// `[T ]hh:mm:ss[.digits][offset]`: seconds since the date's midnight UTC, and nanoseconds.
fn time_of_day(text: &[u8]) -> Option<(i64, u32)> {
    let (head, mut rest) = text.split_at_checked(9)?;
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = head else { return None };
    let seconds = since_midnight(two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?)?;
    let mut nanos = 0;
    if let Some((b'.', digits)) = rest.split_first() {
        let end = digits.iter().position(|digit| !digit.is_ascii_digit()).unwrap_or(digits.len());
        let (fraction, after) = digits.split_at_checked(end).filter(|_| end > 0)?;
        nanos = nanos_of(fraction);
        rest = after;
    }
    Some((seconds - offset(rest)?, nanos))
}

/// Seconds since midnight of a time of day, if there is such a one.
fn since_midnight(hour: i64, minute: i64, second: i64) -> Option<i64> {
    // 60 is a leap second, which counts as the first of the next minute.
    let fits = hour <= 23 && minute <= 59 && second <= 60;
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, two(*h1, *h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(*h1, *h2)?, two(*m1, *m2)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east = hours * 3600 + minutes * 60;
    match sign {
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// The first nine digits behind the point, as nanoseconds.
fn nanos_of(digits: &[u8]) -> u32 {
    digits.iter().chain(std::iter::repeat(&b'0')).take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// A count since 1970, perhaps with a fraction, in the unit that its size tells.
fn epoch(text: &str) -> Result<Moment, TimeFault> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let spelled;
    let text = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            spelled = spell_out(mantissa, exponent).ok_or(TimeFault::Unreadable)?;
            &*spelled
        }
        None => text,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(TimeFault::Unreadable);
    }
    let count: i64 = whole.parse().map_err(|_| TimeFault::OutOfRange)?;
    if negative && (count > 0 || fraction.bytes().any(|digit| digit != b'0')) {
        return Err(TimeFault::OutOfRange);
    }
    let per_second: i64 = match count {
        ..100_000_000_000 => 1,
        100_000_000_000..100_000_000_000_000 => 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000_000,
        _ => 1_000_000_000,
    };
    // A unit has 10^9 / per_second nanoseconds; the fraction's digits are of the unit.
    let unit = 1_000_000_000 / per_second;
    let below = i64::from(nanos_of(fraction.as_bytes())) / per_second;
    let nanos = count % per_second * unit + below;
    Moment::new(count / per_second, u32::try_from(nanos).unwrap_or(0))
}

/// A number without its exponent.
fn spell_out(mantissa: &str, exponent: &str) -> Option<String> {
    let exponent: i32 = exponent.parse().ok().filter(|exponent| (-MAX_EXPONENT..=MAX_EXPONENT).contains(exponent))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let shift = "0".repeat(usize::try_from(exponent.abs()).ok()?);
    let digits = if exponent < 0 { [&*shift, whole, fraction] } else { [whole, fraction, &*shift] }.concat();
    // Behind a negative exponent's zeros stands as much of the whole part as it has digits; in front of a positive one's
    // as many digits of the fraction as it counts.
    let point = if exponent < 0 { whole.len() } else { whole.len() + shift.len() };
    let (whole, fraction) = digits.split_at_checked(point)?;
    Some(format!("{whole}.{fraction}0"))
}

/// Of exponents that are spelled out: no time needs one as large.
const MAX_EXPONENT: i32 = 1000;

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
