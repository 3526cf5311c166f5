//! Where things end: the nearest float, the items of a value, white space, and the room that columns keep.

use super::*;

#[test]
fn an_object_without_a_column_is_no_event_where_that_is_asked_for() {
    let (time, zero) = ("DateTime64(3)", Missing::Zero);
    let columns =
        [("event_id", "UUID", zero), ("event_time", time, zero), ("ingested_at", time, zero), ("a", "String", zero)];
    let class = |columns: &[(&str, &str, Missing)], event: &str| {
        let mut rows = rows(columns).needing_a_column();
        let taken = rows.push(&PLACE, event.as_bytes()).map_err(|reject| reject.class);
        assert_eq!(rows.len(), usize::from(taken.is_ok()));
        taken
    };
    let id = "00000000-0000-4000-8000-000000000001";
    for (event, taken) in [
        ("{}".to_owned(), Err(Class::NoColumn)),
        (r#"{"schema": {}, "payload": {"a": 1}}"#.to_owned(), Err(Class::NoColumn)),
        (format!(r#"{{"event_id": "{id}", "event_time": 1770000000, "ingested_at": 1}}"#), Err(Class::NoColumn)),
        (r#"{"event_id": null, "b": 2}"#.to_owned(), Err(Class::NoColumn)),
        (r#"{"event_id": 5}"#.to_owned(), Err(Class::InvalidValue)),
        (r#"{"a": null}"#.to_owned(), Ok(())),
        (r#"{"a": ""}"#.to_owned(), Ok(())),
        (r#"{"b": {"a": 1}, "a": "x"}"#.to_owned(), Ok(())),
    ] {
        assert_eq!(class(&columns, &event), taken, "{event}");
    }
    assert_eq!(class(&columns[..3], "{}"), Ok(()), "nothing else that an event could fill");
}

/// By way of the eight bytes of a Float64, the ones of these that lie a little beside the middle of two floats would come to
/// lie right on it, and be rounded to the even one.
#[test]
fn a_number_becomes_the_nearest_float() {
    let above_one = f32::from_bits(0x3F80_0001);
    for (number, nearest) in [
        ("1.00000005960464477539062500001", above_one),
        ("1.000000059604644775390625", 1.0),
        ("1.00000005960464477539062499999", 1.0),
        ("1.00000017881393432617187499999", above_one),
        // Whole numbers of up to 18 digits have a way of their own.
        ("288230393331580929", 288_230_410_511_450_112.0),
        ("288230393331580928", 288_230_376_151_711_744.0),
        ("-288230393331580929", -288_230_410_511_450_112.0),
        ("9223372586610589697", 9_223_373_136_366_403_584.0),
        ("340282356779733661637539395458142568447", f32::MAX),
        ("7.006492321624085354618e-46", 0.0),
        ("7.006492321624085354619e-46", f32::from_bits(1)),
        ("-0", -0.0),
        ("-0.0", -0.0),
    ] {
        for json in [number.to_owned(), format!("\"{number}\"")] {
            assert_eq!(one("Float32", &json), Ok(f32::to_le_bytes(nearest).to_vec()), "{json}");
            let list = one("Array(Float32)", &format!("[{json}]")).map(|bytes| bytes[8..].to_vec());
            assert_eq!(list, Ok(f32::to_le_bytes(nearest).to_vec()), "[{json}]");
            let mut slow = rows(&[("a", "Float32", Missing::Zero)]);
            slow.only_serde();
            slow.push(&PLACE, format!("{{\"a\":{json}}}").as_bytes()).unwrap();
            let mut bytes = Vec::new();
            slow.cells[0].encode(0..slow.cells[0].len(), &mut |piece| bytes.extend_from_slice(piece));
            assert_eq!(bytes, f32::to_le_bytes(nearest), "{json}, by serde_json");
        }
    }
    for beyond in ["340282356779733661637539395458142568448", "-1e39", "\"1e300\"", "1e400", "\"-1e400\""] {
        assert_eq!(one("Float32", beyond), Err(Class::OutOfRange), "{beyond}");
    }
    for none in ["\"1.5x\"", "\"inf\"", "\"\\u0031e\"", "true", "[]"] {
        assert_eq!(one("Float32", none), Err(Class::InvalidValue), "{none}");
    }
}

#[test]
fn items_are_bounded_and_taken_back_whole() {
    let list = |item: &str, count: usize| format!("[{item}{}]", format!(",{item}").repeat(count - 1));
    let columns = [
        ("f", "Array(FixedString(1000))", Missing::Zero),
        ("n", "Array(Array(UInt256))", Missing::Zero),
        ("m", "Map(String, Array(FixedString(1000)))", Missing::Zero),
        ("l", "Array(LowCardinality(Nullable(String)))", Missing::Zero),
    ];
    let good = r#"{"f":["a"],"n":[[1,null],[]],"m":{"b":["c"],"a":[]},"l":["x",null]}"#;
    let (mut clean, mut mixed) = (rows(&columns), rows(&columns));
    for rows in [&mut clean, &mut mixed] {
        rows.push(&PLACE, good.as_bytes()).unwrap();
    }
    let before = mixed.bytes();
    let (many, few) = (list("\"\"", 9000), list("\"\"", 5000));
    for (column, value, limit) in [
        ("f", many.clone(), 8 << 20),
        ("f", serde_json::to_string(&many).unwrap(), 8 << 20),
        // All items of a value have one room: neither list is too long.
        ("m", format!("{{\"a\":{few},\"b\":{few}}}"), 8 << 20),
        ("n", list(&list("1", 1000), 300), 8 << 20),
        ("n", list(&list("1", 1000), 1200), 4 * (2001 * 1200 + 1201)),
    ] {
        let reject = mixed.push(&PLACE, format!("{{\"l\":[\"y\"],\"{column}\":{value}}}").as_bytes()).unwrap_err();
        assert_eq!((reject.class, reject.column.as_deref()), (Class::OutOfRange, Some(column)), "{reject}");
        assert!(reject.reason.contains(&format!("more than the {limit} bytes")), "{reject}");
        assert_eq!((mixed.len(), mixed.bytes()), (1, before));
    }
    // Below the bound, and what the bound is not about: much text makes many bytes.
    let text = format!("\"{}\"", "t".repeat(1000));
    for event in [format!("{{\"f\":{few}}}"), format!("{{\"l\":{}}}", list(&text, 9000)), good.to_owned()] {
        for rows in [&mut clean, &mut mixed] {
            rows.push(&PLACE, event.as_bytes()).unwrap();
        }
    }
    // What is no array is none, whatever its items are.
    assert_eq!(one("Array(UInt8)", r#""[256, ""#), Err(Class::InvalidValue));
    assert_eq!(one("Array(UInt8)", r#""[256] x""#), Err(Class::InvalidValue));
    assert_eq!(one("Array(UInt8)", r#""[256, {}]""#), Err(Class::OutOfRange));
    let now = SystemTime::now();
    let (clean, mixed) = (clean.encode(now), mixed.encode(now));
    assert_eq!(clean.column_list, mixed.column_list);
    assert!(clean.body == mixed.body, "what was refused left something behind");
}

#[test]
fn white_space_is_what_json_takes_for_it() {
    let mut fast = rows(&[("a", "String", Missing::Zero), ("j", "JSON", Missing::Zero)]);
    let mut slow = rows(&[("a", "String", Missing::Zero), ("j", "JSON", Missing::Zero)]);
    slow.only_serde();
    let mut judge = |event: String| {
        let pushed = fast.push(&PLACE, event.as_bytes());
        assert_eq!(pushed, slow.push(&PLACE, event.as_bytes()), "{event:?}");
        pushed.map_err(|reject| reject.class)
    };
    for blank in [" ", "\t", "\n", "\r", " \r\n\t"] {
        for event in [
            format!("{blank}{{{blank}\"a\"{blank}:{blank}\"b\"{blank},\"j\":{{}}{blank}}}{blank}"),
            format!("\u{feff}{blank}{{}}{blank}"),
            serde_json::json!({ "j": format!("{blank}{{{blank}}}{blank}") }).to_string(),
        ] {
            assert_eq!(judge(event), Ok(()));
        }
    }
    for blank in ["\u{b}", "\u{c}", "\0", "\u{85}", "\u{a0}", "\u{2028}", "\u{feff}"] {
        for event in [
            format!("\u{feff}{blank}{{}}"),
            format!("{{}}{blank}"),
            format!("{{{blank}}}"),
            format!("{{\"a\":{blank}\"b\"}}"),
            format!("{{\"a\":\"b\"{blank}}}"),
        ] {
            assert_eq!(judge(event), Err(Class::InvalidJson));
        }
        for text in [format!("{blank}{{}}"), format!("{{}}{blank}"), format!("{{{blank}}}")] {
            assert_eq!(judge(serde_json::json!({ "j": text }).to_string()), Err(Class::InvalidValue));
        }
    }
}

#[test]
fn the_room_of_large_values_is_given_back_and_that_of_usual_ones_kept() {
    const KEEPS: usize = 256 << 10;
    let names = ["a", "b", "c", "d", "e", "f"];
    let types = ["String", "LowCardinality(String)", "JSON", "Array(String)", "Map(String, String)", "String"];
    let columns: Vec<_> = names.iter().zip(types).map(|(name, kind)| (*name, kind, Missing::Zero)).collect();
    let mut rows = rows(&columns).keeping(KEEPS);
    let fill = |rows: &mut Rows, name: &str, length: usize| {
        let text = "x".repeat(length);
        let value = match name {
            "c" | "e" => format!("{{\"k\":\"{text}\"}}"),
            "d" => format!("[\"{text}\"]"),
            _ => format!("\"{text}\""),
        };
        rows.push(&PLACE, format!("{{\"{name}\":{value}}}").as_bytes()).unwrap();
    };
    for round in 0..3 {
        for name in names {
            fill(&mut rows, name, 100 << 10);
            assert!(rows.room() >= 100 << 10, "{name}");
            rows.encode(SystemTime::now());
            assert!(rows.room() <= KEEPS, "{} bytes are kept behind {name} of round {round}", rows.room());
        }
    }
    names.iter().for_each(|name| fill(&mut rows, name, 1_000));
    let room = rows.room();
    rows.encode(SystemTime::now());
    assert_eq!(rows.room(), room);
}

#[test]
fn the_pairs_of_a_map_are_bounded_as_they_are_read() {
    let mut rows = rows(&[("m", "Map(String, UInt8)", Missing::Zero)]);
    let event = |pairs: u32| {
        let pairs: Vec<String> = (0..pairs).map(|pair| format!("\"{pair:x}\":1")).collect();
        format!("{{\"m\":{{{}}}}}", pairs.join(","))
    };
    rows.push(&PLACE, event(80_000).as_bytes()).unwrap();
    let before = rows.bytes();
    let reject = rows.push(&PLACE, event(90_000).as_bytes()).unwrap_err();
    assert_eq!((reject.class, reject.column.as_deref()), (Class::OutOfRange, Some("m")), "{reject}");
    assert_eq!((rows.len(), rows.bytes()), (1, before));
    // What is no object is none, however many pairs come before that shows.
    let unclosed = event(90_000).replace("{\"m\":", "").replace('}', "");
    let reject = rows.push(&PLACE, serde_json::json!({ "m": unclosed }).to_string().as_bytes());
    assert_eq!(reject.unwrap_err().class, Class::InvalidValue);
    assert_eq!(one("Map(String, UInt8)", r#"{"b":1,"a":2,"b":3}"#), one("Map(String, UInt8)", r#"{"b":3,"a":2}"#));
}

/// A block of some rows has the same bytes as one of these rows alone, but for dictionaries, which go only with all rows.
#[test]
fn some_rows_are_written_as_they_would_be_alone() {
    let types = [
        ("String", r#"["a","","ccc","d"]"#),
        ("FixedString(3)", r#"["a","","ccc","d"]"#),
        ("Bool", "[true,false,true,true]"),
        ("Int64", "[1,-2,3,4]"),
        ("Float32", "[1,2.5,3,4]"),
        ("UUID", r#"["00112233-4455-6677-8899-aabbccddeeff",null,null,null]"#),
        ("Decimal(30, 2)", "[1.5,-2,3,4]"),
        ("DateTime64(3)", r#"["2026-01-02","2026-01-03",null,"2026-01-04"]"#),
        ("Nullable(Int16)", "[1,null,null,4]"),
        ("Array(String)", r#"[["a","b"],[],["c"],["d","e","f"]]"#),
        ("Array(Array(Nullable(UInt8)))", "[[[1],[]],[],[[2,null]],[[3],[4,5]]]"),
        ("Map(String, Array(UInt8))", r#"[{"a":[1],"b":[]},{},{"c":[2,3]},{"d":[4]}]"#),
        ("JSON", r#"[{"a":1},{},{"b":2},{"c":3}]"#),
    ];
    let bytes = |rows: &Rows, range: std::ops::Range<usize>| {
        let mut bytes = Vec::new();
        rows.cells[0].encode(range, &mut |piece| bytes.extend_from_slice(piece));
        bytes
    };
    for (type_name, values) in types {
        let missing =
            if type_name.starts_with("Nullable") { Missing::Null { has_default: false } } else { Missing::Zero };
        let values: Vec<serde_json::Value> = serde_json::from_str(values).unwrap();
        let pushed = |values: &[serde_json::Value]| {
            let mut rows = rows(&[("a", type_name, missing)]);
            for value in values {
                rows.push(&PLACE, format!("{{\"a\":{value}}}").as_bytes()).unwrap();
            }
            rows
        };
        let all = pushed(&values);
        for start in 0..=values.len() {
            for end in start..=values.len() {
                let alone = pushed(&values[start..end]);
                assert_eq!(bytes(&all, start..end), bytes(&alone, 0..end - start), "{type_name} {start}..{end}");
            }
        }
    }
    let mut rows = rows(&[("a", "LowCardinality(String)", Missing::Default)]);
    for event in [r#"{"a":"x"}"#, "{}", r#"{"a":"yy"}"#] {
        rows.push(&PLACE, event.as_bytes()).unwrap();
    }
    assert_eq!(bytes(&rows, 1..3), *b"\x01\x00\x00\x02yy", "which of them are NULL, then plain strings");
    assert_eq!(rows.cells[0].wire_type("LowCardinality(String)", &(1..3)), "Nullable(String)");
}

#[test]
fn a_block_ends_where_another_column_asks_for_its_default() {
    let columns = [
        ("a", "Array(UInt8)", Missing::Default),
        ("n", "Nullable(UInt8)", Missing::Null { has_default: true }),
        ("d", "UInt8", Missing::Default),
        ("z", "Array(UInt8)", Missing::Zero),
        ("event_time", "Nullable(DateTime)", Missing::Null { has_default: true }),
    ];
    let mut rows = rows(&columns);
    let mut blocks = Vec::new();
    for event in [
        r#"{"a":[1]}"#,
        r#"{"a":[2],"d":1}"#,
        r#"{"a":[3],"z":[1],"event_time":null}"#,
        r#"{"a":[3],"n":null}"#,
        r#"{"a":null,"n":5}"#,
        r#"{"n":""}"#,
        "{}",
        r#"{"n":5,"n":7,"a":[1],"a":[]}"#,
    ] {
        rows.push(&PLACE, event.as_bytes()).unwrap();
        blocks.push(rows.blocks());
        assert!(rows.push(&PLACE, br#"{"a":[1],"n":"x"}"#).is_err());
        assert_eq!(rows.blocks(), *blocks.last().unwrap(), "an event that is rejected begins no block");
    }
    assert_eq!(blocks, [1, 1, 1, 2, 3, 3, 4, 5]);
    let block = rows.encode(SystemTime::UNIX_EPOCH);
    assert_eq!((block.rows, &*block.column_list), (8, "`a`,`n`,`d`,`z`,`event_time`"));
    assert_eq!(rows.blocks(), 0);
}

#[test]
fn what_floats_leave_behind_is_rounded_to_the_scale_of_a_decimal() {
    let decimal =
        |type_name: &str, json: &str| one(type_name, json).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
    for (type_name, json, ticks) in [
        ("Decimal(18, 12)", "0.30000000000000004", 300_000_000_000),
        ("Decimal(18, 12)", "-0.30000000000000004", -300_000_000_000),
        ("Decimal(18, 12)", "0.7999999999999999", 800_000_000_000),
        ("Decimal(18, 12)", "3.3000000000000003e0", 3_300_000_000_000),
        ("Decimal(18, 12)", "9999.9999999999999999999", 10_000_000_000_000_000),
        ("Decimal(18, 9)", "1234567.123456789012", 1_234_567_123_456_789),
        ("Decimal(18, 0)", "2.9999999999999996", 3),
        ("Decimal(18, 1)", "4503599627370496.25", 45_035_996_273_704_963),
    ] {
        assert_eq!(decimal(type_name, json), Ok(ticks), "{json}");
        assert_eq!(decimal(type_name, &format!("\"{json}\"")), Err(Class::InvalidValue), "{json} as text");
    }
    for (type_name, json, class) in [
        ("Decimal(18, 12)", "0.1234567890123456", Class::InvalidValue),
        ("Decimal(18, 12)", "5.551115123125783e-17", Class::InvalidValue),
        ("Decimal(18, 12)", "0.3000000000000001", Class::InvalidValue),
        ("Decimal(18, 2)", "0.005", Class::InvalidValue),
        ("Decimal(18, 2)", "1e-30", Class::InvalidValue),
        ("Decimal(18, 2)", "1e-400", Class::InvalidValue),
        ("Decimal(18, 2)", "-5e-324", Class::InvalidValue),
        ("Decimal(18, 17)", "9.999999999999999999", Class::OutOfRange),
        ("Int128", "3.0000000000000004", Class::InvalidValue),
        ("Int64", "3.0000000000000004", Class::InvalidValue),
    ] {
        assert_eq!(one(type_name, json).map(|_| ()), Err(class), "{type_name} {json}");
    }
    let columns = [
        ("d", "Decimal(18, 2)", Missing::Zero),
        ("a", "Array(Array(Decimal(18, 2)))", Missing::Zero),
        ("m", "Map(String, Decimal(18, 2))", Missing::Zero),
        ("u", "UInt8", Missing::Zero),
    ];
    let mut rows = rows(&columns);
    for event in [
        r#"{"d":0.30000000000000004,"a":[[],[0.7999999999999999,1.1]],"m":{"k":0.30000000000000004}}"#,
        r#"{"d":0.30000000000000004,"d":0.3,"a":[[1.25]]}"#,
    ] {
        rows.push(&PLACE, event.as_bytes()).unwrap();
    }
    assert!(rows.push(&PLACE, br#"{"d":0.30000000000000004,"u":"x"}"#).is_err());
    assert_eq!(rows.encode(SystemTime::UNIX_EPOCH).rounded, 3, "values of rows, the last of a repeated key");
    rows.push(&PLACE, b"{}").unwrap();
    assert_eq!(rows.encode(SystemTime::UNIX_EPOCH).rounded, 0);
}

#[test]
fn what_is_called_a_number_elsewhere_is_named() {
    for (event, name) in [
        (r#"{"a": NaN}"#, "NaN"),
        (r#"{"a":NaN}"#, "NaN"),
        (r#"{"a": Infinity}"#, "Infinity"),
        ("{\"b\": 1,\n\"a\": -Infinity}", "Infinity"),
        (r#"{"a": [1, NaN, 2]}"#, "NaN"),
        (r#"{"other": {"x": NaN}}"#, "NaN"),
        ("NaN", "NaN"),
    ] {
        let mut rows = rows(&[("a", "Float64", Missing::Zero)]);
        let reject = rows.push(&PLACE, event.as_bytes()).unwrap_err();
        assert_eq!(reject.class, Class::InvalidJson, "{event}");
        assert!(reject.reason.starts_with(&format!("{name} is no value of JSON")), "{event}: {}", reject.reason);
    }
    for text in ["NaN", "nan", "Infinity", "-Infinity", "inf", "+inf"] {
        assert_eq!(one("Float64", &format!("\"{text}\"")), Err(Class::InvalidValue), "{text}");
        assert_eq!(one("Float32", &format!("\"{text}\"")), Err(Class::InvalidValue), "{text}");
    }
    let mut rows = rows(&[("a", "Float64", Missing::Zero)]);
    assert!(!rows.push(&PLACE, br#"{"NaN": nope}"#).unwrap_err().reason.contains("is no value"));
}

#[test]
fn the_keys_of_a_map_keep_their_order() {
    let bytes = one("Map(String, UInt8)", r#"{"z": 1, "a": 2, "m": 3, "z": 4}"#).unwrap();
    assert_eq!(bytes, *b"\x03\0\0\0\0\0\0\0\x01z\x01a\x01m\x04\x02\x03");
}

#[test]
fn a_reason_is_true() {
    let nines = "9".repeat(401);
    let thirds = format!("0.{}", "3".repeat(500));
    for (type_name, json, class, words) in [
        ("Int64", "1e99999999999999999999", Class::OutOfRange, "beyond any integer"),
        ("Int64", "\"1e2147483648\"", Class::OutOfRange, "beyond any integer"),
        ("Int64", "1e-99999999999999999999", Class::InvalidValue, "not an integer"),
        ("Int64", "1e400", Class::OutOfRange, "beyond any integer"),
        ("Int64", &*nines, Class::OutOfRange, "more than 400 digits"),
        ("UInt256", &*nines, Class::OutOfRange, "more than 400 digits"),
        ("Decimal(9, 2)", &*thirds, Class::OutOfRange, "more than 400 digits"),
        ("Decimal(9, 2)", "1e99999999999", Class::OutOfRange, "beyond what the column can hold"),
        ("Float64", "1e400", Class::OutOfRange, "does not fit a Float64"),
        ("Float64", "\"-1e309\"", Class::OutOfRange, "does not fit a Float64"),
        ("Float64", &*nines, Class::OutOfRange, "does not fit a Float64"),
        ("Float32", "3.5e38", Class::OutOfRange, "3.5e38 does not fit a Float32"),
        ("Map(String, UInt8)", r#"{"\ud800": 1}"#, Class::InvalidValue, "cannot be read as an object: "),
        ("Map(String, UInt8)", r#""{""#, Class::InvalidValue, "cannot be read as an object: EOF"),
        ("Map(String, UInt8)", "[]", Class::InvalidValue, "[] is not an object"),
        ("Array(UInt8)", r#"" [1""#, Class::InvalidValue, "cannot be read as an array: EOF"),
        ("Array(UInt8)", r#""1""#, Class::InvalidValue, "is not an array"),
        ("Date", "65536", Class::OutOfRange, "within 1970"),
        ("DateTime", "20260230", Class::InvalidValue, "20260230 is not a time"),
    ] {
        let mut rows = rows(&[("a", type_name, Missing::Zero)]);
        let reject = rows.push(&PLACE, format!("{{\"a\": {json}}}").as_bytes()).unwrap_err();
        assert_eq!(reject.class, class, "{type_name} {json}: {reject}");
        assert!(reject.reason.contains(words), "{type_name} {json}: {reject}");
    }
    assert_eq!(one("Int8", "0e99999999999999999999"), Ok(vec![0]));
}
