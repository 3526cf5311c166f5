//! Times as the rules have them: numbers by their digits, texts by what chrono reads and writes back the same.

use super::Exact;

pub(super) const BILLION: i128 = 1_000_000_000;
/// 2106-01-01.
const END: i128 = 4_291_747_200 * BILLION;

/// Nanoseconds since 1970, if it is a time that columns keep.
pub(super) fn nanos_of(day: chrono::NaiveDate, clock: i128) -> Option<i128> {
    let days = day.signed_duration_since(chrono::NaiveDate::default()).num_days();
    let nanos = i128::from(days) * 86_400 * BILLION + clock;
    (0..END).contains(&nanos).then_some(nanos)
}

/// A text or a number as a date and, unless it is a date alone, nanoseconds from that date's midnight UTC.
pub(super) fn time(text: &str) -> Option<(chrono::NaiveDate, Option<i128>)> {
    let sign = text.starts_with('+');
    match Exact::read(text).filter(|_| !sign) {
        Some(number) => counted(&number),
        None => written(text),
    }
}

fn counted(number: &Exact) -> Option<(chrono::NaiveDate, Option<i128>)> {
    let plain = number.plain();
    let calendar = |digits: &str| chrono::NaiveDate::parse_from_str(digits, "%Y%m%d").ok();
    match plain.len() * usize::from(number.is_whole()) {
        8 if ("19000101"..="22991231").contains(&plain.as_str()) => return Some((calendar(&plain)?, None)),
        14 if plain.starts_with("19")
            || plain.starts_with("20")
            || plain.starts_with("21")
            || plain.starts_with("22") =>
        {
            let two = |at: usize, most: i128| plain[at..at + 2].parse::<i128>().ok().filter(|two| *two <= most);
            let clock = two(8, 23)? * 3600 + two(10, 59)? * 60 + two(12, 60)?;
            return Some((calendar(&plain[..8])?, Some(clock * BILLION)));
        }
        _ => {}
    }
    if plain == "0" {
        return Some((chrono::NaiveDate::default(), Some(0)));
    }
    let nanos_per_unit: i128 = match number.whole_digits() {
        ..=11 => BILLION,
        12..=14 => 1_000_000,
        15..=17 => 1_000,
        18..=20 => 1,
        _ => return None,
    };
    let whole: i128 = format!("0{}", number.whole).parse().ok()?;
    // No count ends in 1970.
    if number.negative || whole < 31_536_000 {
        return None;
    }
    let fraction: i128 = format!("{:0<9}", number.fraction)[..9].parse().ok()?;
    Some((chrono::NaiveDate::default(), Some(whole * nanos_per_unit + fraction * nanos_per_unit / BILLION)))
}

/// Takes a text apart from its end: the zone, the fraction, and what chrono reads and writes back the same.
fn written(text: &str) -> Option<(chrono::NaiveDate, Option<i128>)> {
    const DATES: [&str; 3] = ["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d"];
    const NAMED: [&str; 8] = [
        "%a, %d %b %Y",
        "%a, %-d %b %Y",
        "%d %b %Y",
        "%-d %b %Y",
        "%a %b %d %Y",
        "%b %d, %Y",
        "%b %-d, %Y",
        "%b %d %Y",
    ];
    const CLOCKS: [&str; 4] = ["%H:%M:%S", "%H:%M", "%H%M%S", "%H%M"];
    let same = |front: &str, written: String| written.eq_ignore_ascii_case(front);
    for date in DATES.iter().chain(&NAMED) {
        if let Ok(day) = chrono::NaiveDate::parse_from_str(text, date)
            && same(text, day.format(date).to_string())
        {
            return Some((day, None));
        }
    }
    for (zoneless, east) in without_zone(text) {
        let (front, fraction) = match zoneless.rsplit_once(['.', ',']) {
            Some((front, digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (front, Some(format!("{digits:0<9}")[..9].parse::<i128>().ok()?))
            }
            _ => (zoneless, None),
        };
        let forms = DATES.iter().flat_map(|date| ["T", "t", " "].map(|middle| format!("{date}{middle}")));
        let forms = forms.chain(NAMED.iter().map(|date| format!("{date} ")));
        let forms = forms.flat_map(|date| CLOCKS.map(|clock| (format!("{date}{clock}"), clock.contains("%S"))));
        let forms = forms.chain([("%a %b %e %H:%M:%S %Y".to_owned(), true)]);
        for (form, seconds) in forms {
            if let Ok(time) = chrono::NaiveDateTime::parse_from_str(front, &form)
                && same(front, time.format(&form).to_string())
                && (seconds || fraction.is_none())
            {
                let clock = time.signed_duration_since(time.date().and_time(chrono::NaiveTime::MIN));
                // chrono's leap second is that of before with more than a second of nanoseconds.
                let clock = i128::from(clock.num_nanoseconds()?) - i128::from(east) * 60 * BILLION;
                return Some((time.date(), Some(clock + fraction.unwrap_or(0))));
            }
        }
    }
    None
}

/// What is in front of each zone that the text may end in, and the zone's minutes east of UTC.
fn without_zone(text: &str) -> Vec<(&str, i64)> {
    let mut found = vec![(text, 0)];
    let text = match text.strip_suffix(')').and_then(|front| front.rsplit_once(" (")) {
        Some((front, _)) => front,
        None => text,
    };
    let text = match text.strip_suffix(']').and_then(|front| front.split_once('[')) {
        Some((front, _)) => front,
        None => text,
    };
    let upper = text.to_ascii_uppercase();
    let trimmed = |length: usize| text[..length].strip_suffix(' ').unwrap_or(&text[..length]);
    for name in ["Z", "UTC", "GMT", "UT"] {
        if let Some(front) = upper.strip_suffix(name) {
            found.push((trimmed(front.len()), 0));
            if let Some(front) = front.strip_suffix(" +0000 ") {
                found.push((trimmed(front.len()), 0));
            }
        }
    }
    for length in [3, 5, 6] {
        let Some((front, zone)) = text.len().checked_sub(length).and_then(|at| text.split_at_checked(at)) else {
            continue;
        };
        let sign = match zone.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => continue,
        };
        let digits = if length == 6 && zone.as_bytes()[3] == b':' { zone.replace(':', "") } else { zone.to_owned() };
        let Ok(number) = digits[1..].parse::<i64>() else { continue };
        let (hours, minutes) = if length == 3 { (number, 0) } else { (number / 100, number % 100) };
        let digits_only = digits[1..].bytes().all(|byte| byte.is_ascii_digit());
        if digits_only && [3, 5].contains(&digits.len()) && hours <= 23 && minutes <= 59 {
            found.push((trimmed(front.len()), sign * (hours * 60 + minutes)));
            let named = ["GMT", "UTC"].into_iter().find_map(|name| front.strip_suffix(name));
            found.extend(named.map(|front| (trimmed(front.len()), sign * (hours * 60 + minutes))));
        }
    }
    found
}
