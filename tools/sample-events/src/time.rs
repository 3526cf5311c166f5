//! Times as the producer writes them. Formatted by hand: chrono's formatter costs more than the rest of an event.

use chrono::DateTime;

/// Like `2026-01-21T00:21:40.524Z`.
pub(crate) fn rfc3339_millis(millis: i64) -> String {
    let (days, in_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let mut out = String::with_capacity(24);
    push_digits(&mut out, year, 4);
    out.push('-');
    push_digits(&mut out, month, 2);
    out.push('-');
    push_digits(&mut out, day, 2);
    out.push('T');
    push_digits(&mut out, in_day / 3_600_000, 2);
    out.push(':');
    push_digits(&mut out, in_day / 60_000 % 60, 2);
    out.push(':');
    push_digits(&mut out, in_day / 1000 % 60, 2);
    out.push('.');
    push_digits(&mut out, in_day % 1000, 3);
    out.push('Z');
    out
}

/// Milliseconds from either an RFC 3339 time or a number of milliseconds.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_base_time(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis);
    }
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_millis())
        .map_err(|error| format!("{text:?} is neither milliseconds nor a time like 2026-01-21T00:21:40.524Z: {error}"))
}

/// Days since 1970-01-01 to year, month, day ([algorithm]).
///
/// [algorithm]: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn push_digits(out: &mut String, value: i64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(char::from(b'0' + (value / 10_i64.pow(place) % 10) as u8));
    }
}

const DAY_MS: i64 = 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;

    use super::*;

    #[test]
    fn the_text_is_chronos() {
        for millis in (-2_000_000_000_000..4_300_000_000_000_i64).step_by(86_400_001 * 13 + 7) {
            let theirs = DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true);
            assert_eq!(rfc3339_millis(millis), theirs);
            assert_eq!(parse_base_time(&theirs), Ok(millis));
        }
        assert_eq!(parse_base_time("1768954900524"), Ok(1_768_954_900_524));
        assert!(parse_base_time("yesterday").is_err());
    }
}
