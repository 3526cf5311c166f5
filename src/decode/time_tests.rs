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
        ("2026-01-21T00:21Z", 1_768_954_860_000),
        ("2026-01-21 00:21", 1_768_954_860_000),
        ("2026-01-21T02:21+02:00", 1_768_954_860_000),
        ("2026-01-21 00:21:40 UTC", 1_768_954_900_000),
        ("2026-01-21 00:21:40.524UTC", 1_768_954_900_524),
        ("2026-01-21 00:21:40,524", 1_768_954_900_524),
        ("2026-01-21T00:21:40 Z", 1_768_954_900_000),
        ("2026-01-21 02:21:40 +0200", 1_768_954_900_000),
        ("2026-01-21 00:21:40.524 +0000 UTC", 1_768_954_900_524),
        ("2026-01-21T00:21:40gmt", 1_768_954_900_000),
        ("2026-01-21T01:21:40+01:00[Europe/Berlin]", 1_768_954_900_000),
        ("2026-01-21T00:21:40Z[UTC]", 1_768_954_900_000),
        ("2026/01/21 00:21:40", 1_768_954_900_000),
        ("2026/01/21", 1_768_953_600_000),
        ("20260121T002140Z", 1_768_954_900_000),
        ("20260121T002140.524Z", 1_768_954_900_524),
        ("20260121T0021", 1_768_954_860_000),
        ("20260121T022140+0200", 1_768_954_900_000),
        ("20260121 00:21:40", 1_768_954_900_000),
        ("20260121", 1_768_953_600_000),
        ("20260121002140", 1_768_954_900_000),
        ("Wed, 21 Jan 2026 00:21:40 GMT", 1_768_954_900_000),
        ("Wed, 21 Jan 2026 02:21:40 +0200", 1_768_954_900_000),
        ("Wed, 21 Jan 2026 02:21:40 +0200 (EET)", 1_768_954_900_000),
        ("wednesday,21 january 2026 00:21:40 ut", 1_768_954_900_000),
        ("21 Jan 2026 00:21", 1_768_954_860_000),
        ("1 Jan 2026", 1_767_225_600_000),
        ("12 March 2026 00:00:00", 1_773_273_600_000),
        ("Jan 21, 2026 00:21", 1_768_954_860_000),
        ("Wed Jan 21 00:21:40 2026", 1_768_954_900_000),
        ("Thu Jan  1 00:00:00 2026", 1_767_225_600_000),
        ("Wed Jan 21 00:21:40 UTC 2026", 1_768_954_900_000),
        ("Wed Jan 21 2026 02:21:40 GMT+0200 (Eastern European Standard Time)", 1_768_954_900_000),
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
        "2026-01-21T00:00:00+25:00",
        "2026-01-21T00",
        "2026-01-21 00:21:40 ",
        "2026-01-21 00:21:40  Z",
        "2026-01-21 00:21:40 PM",
        "2026-01-21 00:21:40 EST",
        "2026-01-21 00:21:40 Europe/Berlin",
        "2026-01-21 00:21:40[Europe/Berlin]",
        "2026-01-21 00:21:40 +0200 UTC",
        "2026-01-21 00:21.5",
        "2026-01-21T00:2140",
        "2026-01-21T0021:40",
        "2026-01/21",
        "21/01/2026",
        "01/21/2026",
        "2026-01",
        "20260132",
        "20260229T000000Z",
        "20260132000000",
        "20260121240000",
        "Thu, 21 Jan 2026 00:21:40 GMT",
        "Wed, 21 Jan 2026 00:21:40 PST",
        "Wed, 21 Jan 26 00:21:40 GMT",
        "Wed, 21 Foo 2026 00:21:40 GMT",
        "Wed, 32 Jan 2026 00:21:40 GMT",
        "Jan 2026",
        "Jan",
        "Ja 21 2026",
        "Wed Jan 21 00:21:40",
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
        ("31536000", 31_536_000_000),
        ("20260121", 1_768_953_600_000),
        ("20260121.0", 1_768_953_600_000),
        ("2.0260121e7", 1_768_953_600_000),
        ("20260121002140", 1_768_954_900_000),
        ("0", 0),
        ("0.0", 0),
        ("-0", 0),
    ] {
        assert_eq!(millis(text), Ok(expected), "{text}");
    }
    // A day number, a year, a month, eight digits with a fraction, the last second of 1970.
    for text in ["1", "20455", "2026", "202601", "20260121.5", "22991232", "31535999", "1.2e-5"] {
        assert_eq!(millis(text), Err(TimeFault::Small), "{text}");
    }
    for text in ["19000101", "19691231", "21060101", "22991231", "19691231235959"] {
        assert_eq!(millis(text), Err(TimeFault::OutOfRange), "{text}");
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
}

#[test]
fn days_of_dates_and_of_numbers() {
    use TimeFault::{OutOfRange, Small, Unreadable};
    for (text, date, date32) in [
        ("2026-01-21", Ok(20_474), Ok(20_474)),
        ("20260121", Ok(20_474), Ok(20_474)),
        ("20474", Ok(20_474), Ok(20_474)),
        ("20474.0", Ok(20_474), Ok(20_474)),
        ("1768954900", Ok(20_474), Ok(20_474)),
        ("1768954900.524", Ok(20_474), Ok(20_474)),
        ("1768954900524", Ok(20_474), Ok(20_474)),
        ("2026-01-21T23:59:59-01:00", Ok(20_475), Ok(20_475)),
        ("Wed, 21 Jan 2026", Ok(20_474), Ok(20_474)),
        ("0", Ok(0), Ok(0)),
        ("65535", Ok(65_535), Ok(65_535)),
        ("2149-06-06", Ok(65_535), Ok(65_535)),
        ("21490606", Ok(65_535), Ok(65_535)),
        ("65536", Err(Small), Ok(65_536)),
        ("2149-06-07", Err(OutOfRange), Ok(65_536)),
        ("120529", Err(Small), Ok(120_529)),
        ("22991231", Err(OutOfRange), Ok(120_529)),
        ("120530", Err(Small), Err(Small)),
        ("2300-01-01", Err(OutOfRange), Err(OutOfRange)),
        ("1900-01-01", Err(OutOfRange), Ok(-25_567)),
        ("19000101", Err(OutOfRange), Ok(-25_567)),
        ("-25567", Err(OutOfRange), Ok(-25_567)),
        ("-25568", Err(OutOfRange), Err(OutOfRange)),
        ("1899-12-31", Err(OutOfRange), Err(OutOfRange)),
        ("20474.5", Err(Small), Err(Small)),
        ("202601", Err(Small), Err(Small)),
        ("20260132", Err(Unreadable), Err(Unreadable)),
        ("2106-01-01T00:00:00Z", Err(OutOfRange), Err(OutOfRange)),
        ("2026-01", Err(Unreadable), Err(Unreadable)),
    ] {
        assert_eq!((day(text, &DATE), day(text, &DATE32)), (date, date32), "{text}");
    }
    assert_eq!(day_of_count(20_260_121_u64.into(), &DATE), Ok(20_474));
    assert_eq!(day_of_count((-1_i64).into(), &DATE32), Ok(-1));
    assert_eq!(day_of_count(i64::MIN.into(), &DATE32), Err(OutOfRange));
    assert_eq!(day_of_count(u64::MAX.into(), &DATE32), Err(OutOfRange));
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
        // Where the zone has become a digit, that is the last one of the fraction; a blank may have come before the zone.
        let zone = text.trim_end_matches(|last: char| !last.is_ascii_digit() && (last != ' ' || text.ends_with('Z')));
        let zone = zone.len().max(text.len() - 2);
        let (front, end) = text.split_at(zone);
        prop_assert_eq!(Moment::parse(&text), Moment::parse(&format!("{front}0{end}")), "{}", text);
    }

    /// Eight digits, as text and as a number, in any of the types: chrono's date or none.
    #[test]
    fn eight_digits_are_a_date_or_nothing(digits in 19_000_101_u64..=22_991_231) {
        let (year, month, date) = (digits / 10_000, digits / 100 % 100, digits % 100);
        let known = chrono::NaiveDate::from_ymd_opt(year as i32, month as u32, date as u32);
        let days = known.map(|known| known.signed_duration_since(chrono::NaiveDate::default()).num_days());
        let text = digits.to_string();
        let wanted = days.ok_or(TimeFault::Unreadable);
        let within = |range: &RangeInclusive<i64>| {
            wanted.and_then(|days| if range.contains(&days) { Ok(days) } else { Err(TimeFault::OutOfRange) })
        };
        for range in [DATE, DATE32] {
            prop_assert_eq!(day(&text, &range), within(&range));
            prop_assert_eq!(day_of_count(digits.into(), &range), within(&range));
        }
        let midnight = within(&(0..=49_672)).map(|days| Moment { seconds: days * DAY, nanos: 0 });
        prop_assert_eq!(Moment::parse(&text), midnight);
        prop_assert_eq!(Moment::from_count(digits.into()), midnight);
    }

    /// Whatever a number is, it is no time in 1970 but its beginning, and its text means the same.
    #[test]
    fn no_number_becomes_a_time_in_1970(number in prop_oneof![0..40_000_000_u64, any::<u64>()], fraction in 0..1000_u32) {
        let found = Moment::from_count(number.into());
        prop_assert!(number == 0 || found.is_err() || found.unwrap().seconds >= 365 * DAY);
        prop_assert_eq!(found, Moment::parse(&number.to_string()));
        let fractional = Moment::parse(&format!("{number}.{fraction:03}"));
        prop_assert!(number + u64::from(fraction) == 0 || fractional.is_err() || fractional.unwrap().seconds >= 365 * DAY);
    }

    /// chrono writes RFC 2822 and ISO's basic form as well.
    #[test]
    fn other_forms_agree_with_chrono(seconds in 0..=LAST, east in -14 * 60..=14 * 60_i32) {
        let zone = chrono::FixedOffset::east_opt(east * 60).unwrap();
        let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap().with_timezone(&zone);
        let wanted = Ok(Moment { seconds, nanos: 0 });
        let utc = time.naive_utc();
        for text in [
            time.to_rfc2822(),
            time.format("%Y%m%dT%H%M%S%z").to_string(),
            time.format("%Y/%m/%d %H:%M:%S %:z").to_string(),
            time.format("%a %b %d %Y %H:%M:%S GMT%z").to_string(),
            utc.format("%a, %d %b %Y %T GMT").to_string(),
            utc.format("%a %b %e %T %Y").to_string(),
            utc.format("%Y%m%d%H%M%S").to_string(),
            utc.format("%F %T UTC").to_string(),
        ] {
            prop_assert_eq!(Moment::parse(&text), wanted, "{}", text);
        }
        let minute = Ok(Moment { seconds: seconds / 60 * 60, nanos: 0 });
        for text in [utc.format("%FT%RZ").to_string(), utc.format("%F %R").to_string()] {
            prop_assert_eq!(Moment::parse(&text), minute, "{}", text);
        }
    }

    #[test]
    fn never_panics(text in "[0-9]{4}-\\PC{0,30}|[0-9]{8}[Tt ]\\PC{0,20}|([A-Z][a-z]{2,8},? ?){1,2}[0-9 ]{0,3}\\PC{0,20}|\\PC{0,30}|-?[0-9]{0,25}\\.?[0-9]{0,20}") {
        let first = Moment::parse(&text);
        prop_assert_eq!(first, Moment::parse(&text));
        prop_assert_eq!(day(&text, &DATE32), day(&text, &DATE32));
    }
}
