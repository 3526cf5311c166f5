use proptest::prelude::*;

use super::*;

fn millis(text: &str) -> Result<i64, TimeFault> {
    Moment::parse(text).map(|moment| moment.ticks(3))
}

#[test]
fn texts() {
    for (text, expected) in [
        ("2026-01-21T00:21:40.524Z", 1_768_954_900_524),
        ("2026-01-21 00:21:40.524", 1_768_954_900_524),
        ("2026-01-21t00:21:40z", 1_768_954_900_000),
        ("2026-01-21T09:21:40.5+09:00", 1_768_954_900_500),
        ("2026-01-20T16:51:40.5249999-0730", 1_768_954_900_524),
        ("2026-01-21T01:21:40+01", 1_768_954_900_000),
        ("2026-01-21", 1_768_953_600_000),
        ("2024-02-29T23:59:60Z", 1_709_251_200_000),
        ("1970-01-01T00:00:00Z", 0),
        ("2105-12-31T23:59:59.999Z", 4_291_747_199_999),
    ] {
        assert_eq!(millis(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "now",
        "2026-1-21",
        "2026-13-01",
        "2026-02-29",
        "2026-01-00",
        "2026-01-21T24:00:00Z",
        "2026-01-21T00:60:00Z",
        "2026-01-21T00:00:00.Z",
        "2026-01-21T00:00:00 Z",
        "2026-01-21T00:00:00+25:00",
        "2026-01-21T00:00",
        "2026-01-21X00:00:00",
        "2026-01-21T00:00:00Zx",
        "+2026",
        "1e",
        "1.e3",
        ".1e3",
        "1e1e1",
        "1.2e+-3",
        "0x10",
        "1.",
        ".5",
        "２０２６-01-21",
    ] {
        assert_eq!(millis(text), Err(TimeFault::Unreadable), "{text}");
    }
    for text in ["1969-12-31T23:59:59Z", "2106-01-01", "1970-01-01T00:00:00+01:00", "9999-12-31"] {
        assert_eq!(millis(text), Err(TimeFault::OutOfRange), "{text}");
    }
}

#[test]
fn numbers_tell_their_unit_by_size() {
    for (text, expected) in [
        ("1768954900", 1_768_954_900_000),
        ("1768954900.524", 1_768_954_900_524),
        ("1768954900524", 1_768_954_900_524),
        ("1768954900524.9", 1_768_954_900_524),
        ("1768954900524999", 1_768_954_900_524),
        ("1768954900524999999", 1_768_954_900_524),
        ("1.768954900524e12", 1_768_954_900_524),
        ("1.768954900524999999E+18", 1_768_954_900_524),
        ("17689549005249e-4", 1_768_954_900_524),
        ("1.2e-5", 0),
        ("0", 0),
        ("-0", 0),
    ] {
        assert_eq!(millis(text), Ok(expected), "{text}");
    }
    // The last number of seconds, and the first of milliseconds.
    assert_eq!(millis("99999999999"), Err(TimeFault::OutOfRange));
    assert_eq!(millis("100000000000"), Ok(100_000_000_000));
    assert_eq!(millis("-1"), Err(TimeFault::OutOfRange));
    assert_eq!(millis("-0.5"), Err(TimeFault::OutOfRange));
    assert_eq!(millis("99999999999999999999"), Err(TimeFault::OutOfRange));
    assert_eq!(Moment::from_millis(-1), Err(TimeFault::OutOfRange));
    assert_eq!(Moment::from_millis(1_768_954_900_524).map(|moment| moment.ticks(9)), Ok(1_768_954_900_524_000_000));
}

#[test]
fn digits_are_cut_to_the_column() {
    let moment = Moment::parse("2026-01-21T00:21:40.123456789123Z").unwrap();
    assert_eq!(moment.ticks(0), 1_768_954_900);
    assert_eq!(moment.ticks(6), 1_768_954_900_123_456);
    assert_eq!(moment.ticks(9), 1_768_954_900_123_456_789);
    assert_eq!((moment.seconds(), moment.days()), (1_768_954_900, 20_474));
    assert_eq!(date32("1900-01-01"), Some(-25_567));
    assert_eq!(date32("2299-12-31"), Some(120_529));
    assert_eq!((date32("1899-12-31"), date32("2300-01-01"), date32("2026-01-21T00:00:00Z")), (None, None, None));
}

proptest! {
    /// chrono is the other opinion.
    #[test]
    fn agrees_with_chrono(seconds in 0..=LAST, nanos in 0..1_000_000_000_u32, east in -14 * 60..=14 * 60_i32) {
        let zone = chrono::FixedOffset::east_opt(east * 60).unwrap();
        let time = chrono::DateTime::from_timestamp(seconds, nanos).unwrap().with_timezone(&zone);
        let text = time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        prop_assert_eq!(Moment::parse(&text), Ok(Moment { seconds, nanos }), "{}", text);
        let zoneless = time.naive_utc().format("%F %T%.f").to_string();
        prop_assert_eq!(Moment::parse(&zoneless), Ok(Moment { seconds, nanos }), "{}", zoneless);
    }

    /// The usual form and whatever is nearly that: one more digit, and it is read piece by piece.
    #[test]
    fn the_usual_form_is_read_as_any_other(
        date in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]",
        time in "[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{3}Z",
        change in prop::option::of((any::<prop::sample::Index>(), prop::char::range(' ', '~'))),
    ) {
        let mut text: Vec<char> = format!("{date}T{time}").chars().collect();
        if let Some((place, other)) = change {
            let place = place.index(text.len());
            text[place] = other;
        }
        let text: String = text.into_iter().collect();
        prop_assert_eq!(text.len(), Moment::USUAL);
        // Where the zone has become a digit, that is the last one of the fraction.
        let zone = text.len() - usize::from(!text.ends_with(|last: char| last.is_ascii_digit()));
        let (front, end) = text.split_at(zone);
        prop_assert_eq!(Moment::parse(&text), Moment::parse(&format!("{front}0{end}")), "{}", text);
    }

    #[test]
    fn never_panics(text in "[0-9]{4}-\\PC{0,30}|\\PC{0,30}|-?[0-9]{0,25}\\.?[0-9]{0,20}") {
        let first = Moment::parse(&text);
        prop_assert_eq!(first, Moment::parse(&text));
        prop_assert_eq!(date32(&text), date32(&text));
    }
}
