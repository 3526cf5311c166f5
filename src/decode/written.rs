//! Times written out, in the forms that producers send and that ClickHouse's own `best_effort` reading takes:
//!
//! - RFC 3339 (<https://www.rfc-editor.org/rfc/rfc3339>) and its relatives: `2026-01-02T03:04:05.678Z`, with a space or `t`
//!   in the middle, a comma before the fraction, `/` in the date, without seconds, or the date alone;
//! - ISO 8601's basic form, `20260102T030405Z`;
//! - RFC 2822 and RFC 1123 (HTTP), `Fri, 02 Jan 2026 03:04:05 GMT`, and with the month in front, as C's `asctime`, `date`
//!   and JavaScript's `toString` have it.
//!
//! Zones are `Z`, `UTC`, `GMT`, `UT`, an offset (`+02:00`, `+0200`, `+02`), or none, which is UTC. Names of other zones
//! mean different offsets to different readers and are not taken.

use super::time::{days, nanos_of, since_midnight};

/// A date, perhaps with a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Days since 1970-01-01; any year from 0 to 9999.
    pub(super) days: i64,
    /// Seconds from the date's midnight UTC, which an offset may bring before it or past its end, and nanoseconds.
    pub(super) clock: Option<(i64, u32)>,
}

impl Written {
    /// Reads a whole text; `None` for what is no time, or no date of the calendar.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        match bytes {
            [b'0'..=b'9', _, _, _, separator @ (b'-' | b'/'), m1, m2, other, d1, d2, rest @ ..]
                if separator == other =>
            {
                Self::with_clock(&[*m1, *m2, *d1, *d2], bytes, rest)
            }
            [_, _, _, _, month_day @ ..] if bytes.iter().take_while(|byte| byte.is_ascii_digit()).count() == 8 => {
                Self::with_clock(month_day.first_chunk()?, bytes, bytes.get(8..)?)
            }
            _ => named_month(text),
        }
    }

    /// The year is at the front of `whole`.
    fn with_clock(month_day: &[u8; 4], whole: &[u8], rest: &[u8]) -> Option<Self> {
        let [y1, y2, y3, y4] = *whole.first_chunk()?;
        let [m1, m2, d1, d2] = *month_day;
        let days = days(two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?)?;
        let clock = match rest {
            [] => None,
            [b'T' | b't' | b' ', time @ ..] => Some(time_of_day(time)?),
            _ => return None,
        };
        Some(Self { days, clock })
    }
}

/// `hh:mm[:ss[.digits]]` or `hhmm[ss[.digits]]`, and a zone: seconds since midnight UTC, and nanoseconds.
fn time_of_day(text: &[u8]) -> Option<(i64, u32)> {
    let [h1, h2, rest @ ..] = text else { return None };
    let (colon, rest) = match rest {
        [b':', rest @ ..] => (true, rest),
        _ => (false, rest),
    };
    let [m1, m2, after_minutes @ ..] = rest else { return None };
    let (mut rest, mut second, mut nanos) = (after_minutes, 0, 0);
    let seconds = match rest {
        [b':', s1, s2, after @ ..] if colon => Some((s1, s2, after)),
        [s1 @ b'0'..=b'9', s2, after @ ..] if !colon => Some((s1, s2, after)),
        _ => None,
    };
    if let Some((s1, s2, after)) = seconds {
        second = two(*s1, *s2)?;
        rest = after;
        if let [b'.' | b',', digits @ ..] = rest {
            let end = digits.iter().position(|digit| !digit.is_ascii_digit()).unwrap_or(digits.len());
            let (fraction, after) = digits.split_at_checked(end).filter(|_| end > 0)?;
            nanos = nanos_of(fraction);
            rest = after;
        }
    }
    let seconds = since_midnight(two(*h1, *h2)?, two(*m1, *m2)?, second)?;
    Some((seconds - zone(rest)?, nanos))
}

/// Seconds east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let text = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        // The zone's name after its offset, as Java writes it (RFC 9557): the offset says it all.
        [front @ .., b']'] => {
            let bracket = front.iter().position(|byte| *byte == b'[').filter(|at| *at > 0)?;
            return zone(front.get(..bracket)?);
        }
        [b' ', rest @ ..] if !rest.is_empty() => rest,
        _ => text,
    };
    match after_utc(text) {
        Some([]) => Some(0),
        Some(rest) => offset(rest),
        // Go writes both.
        None => match text.split_last_chunk::<4>() {
            Some((front, [b' ', name @ ..])) if after_utc(name) == Some(&[]) => offset(front).filter(|east| *east == 0),
            _ => offset(text),
        },
    }
}

/// What follows a name of UTC.
fn after_utc(text: &[u8]) -> Option<&[u8]> {
    [&b"UTC"[..], b"GMT", b"UT", b"Z"].into_iter().find_map(|name| {
        let (front, rest) = text.split_at_checked(name.len())?;
        front.eq_ignore_ascii_case(name).then_some(rest)
    })
}

fn offset(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
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

/// `[weekday[,]] 2 Jan 2026 [time]`, `[weekday[,]] Jan 2[,] 2026 [time]`, `[weekday[,]] Jan 2 time 2026`. A remark in
/// parentheses at the end is passed over, as RFC 2822 allows.
fn named_month(text: &str) -> Option<Written> {
    let mut rest = match text.strip_suffix(')') {
        Some(front) => front.rsplit_once(" (")?.0,
        None => text,
    };
    let mut first = word(&mut rest)?;
    let weekday = name_of(first, WEEKDAYS);
    if weekday.is_some() {
        first = word(&mut rest)?;
    }
    let second = word(&mut rest)?;
    let (day, month, year) = match name_of(first, MONTHS) {
        None => (first, name_of(second, MONTHS)?, word(&mut rest)?),
        Some(month) if rest.get(2..3) == Some(":") => {
            let (front, year) = rest.rsplit_once(' ')?;
            rest = front;
            (second, month, year)
        }
        Some(month) => (second, month, word(&mut rest)?),
    };
    let day = match day.as_bytes() {
        [d1, d2] => two(*d1, *d2)?,
        [digit] => two(b'0', *digit)?,
        _ => return None,
    };
    let [y1, y2, y3, y4] = year.as_bytes() else { return None };
    let days = days(two(*y1, *y2)? * 100 + two(*y3, *y4)?, month, day)?;
    // 1970-01-01 was a Thursday. A wrong weekday means that one of the two is not what was meant.
    if weekday.is_some_and(|weekday| (days + 3).rem_euclid(7) + 1 != weekday) {
        return None;
    }
    let clock = if rest.is_empty() { None } else { Some(time_of_day(rest.as_bytes())?) };
    Some(Written { days, clock })
}

/// The next word, without the comma and the blanks after it.
fn word<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    let (word, after) = rest.split_at_checked(end)?;
    let after = after.strip_prefix(',').unwrap_or(after);
    *rest = after.trim_start_matches(' ');
    (!word.is_empty()).then_some(word)
}

/// The place of an English name, or of its first three letters, in a list; from 1 on.
fn name_of(word: &str, names: &[&str]) -> Option<i64> {
    let is =
        |name: &&str| word.eq_ignore_ascii_case(name) || name.get(..3).is_some_and(|n| n.eq_ignore_ascii_case(word));
    names.iter().position(is).and_then(|at| i64::try_from(at + 1).ok())
}

const WEEKDAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn two(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}
