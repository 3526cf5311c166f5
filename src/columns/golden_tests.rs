//! The bytes of each type, as verified on a server, and what undoing leaves.

use proptest::prelude::*;

use super::*;

fn cells(type_name: &str, missing: Missing) -> Cells {
    Cells::new(&DataType::parse(type_name).unwrap(), missing)
}

fn bytes(cells: &Cells) -> Vec<u8> {
    let mut out = Vec::new();
    cells.encode(0..cells.len(), &mut |bytes| out.extend_from_slice(bytes));
    out
}

fn wire_type(cells: &Cells, declared: &str) -> String {
    cells.wire_type(declared, &(0..cells.len()))
}

fn is_sent(cells: &Cells) -> bool {
    cells.is_sent(&(0..cells.len()))
}

/// Appends a value that the test writes into the column itself.
fn fill(cells: &mut Cells, write: impl FnOnce(&mut Column)) {
    let filled: Result<bool, std::convert::Infallible> = cells.push(|column| {
        write(column);
        Ok(true)
    });
    assert_eq!(filled, Ok(true));
}

fn text(cells: &mut Cells, value: &str) {
    fill(cells, |column| match column {
        Column::String(strings) => strings.push(value.as_bytes()),
        Column::LowCardinality(strings) => strings.push(value.as_bytes()),
        Column::FixedString(strings) => strings.push(value.as_bytes()).unwrap(),
        other => panic!("{other:?}"),
    });
}

fn number(cells: &mut Cells, value: i128) -> Result<bool, OutOfRange> {
    cells.push(|column| match column {
        Column::Integer(numbers) => numbers.push(value).map(|()| true),
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_row_takes_at_least_the_width() {
    for (type_name, width) in [
        ("String", 1),
        ("LowCardinality(String)", 2),
        ("FixedString(7)", 7),
        ("Bool", 1),
        ("UInt8", 1),
        ("Int64", 8),
        ("UInt128", 16),
        ("Int256", 32),
        ("Float32", 4),
        ("Float64", 8),
        ("UUID", 16),
        ("Date", 2),
        ("Date32", 4),
        ("DateTime", 4),
        ("DateTime64(3)", 8),
        ("Enum8('a' = 1)", 1),
        ("Enum16('a' = 1)", 2),
        ("IPv4", 4),
        ("IPv6", 16),
        ("Decimal(9, 2)", 4),
        ("Decimal(76, 2)", 32),
        ("Array(UInt8)", 8),
        ("Map(String, UInt8)", 8),
    ] {
        let mut column = Column::new(&DataType::parse(type_name).unwrap());
        column.push_missing();
        let before = column.bytes();
        column.push_missing();
        assert_eq!((column.width(), column.bytes() - before), (width, width), "{type_name}");
    }
}

#[test]
fn strings_carry_their_length() {
    let mut column = cells("String", Missing::Zero);
    text(&mut column, "ab");
    text(&mut column, "");
    text(&mut column, &"x".repeat(300));
    let encoded = bytes(&column);
    assert_eq!(encoded[..6], [2, b'a', b'b', 0, 0xAC, 0x02]);
    assert_eq!(encoded.len(), 6 + 300);
    assert_eq!(wire_type(&column, "String"), "String");
}

#[test]
fn fixed_strings_are_padded() {
    let mut column = cells("FixedString(3)", Missing::Zero);
    text(&mut column, "ab");
    column.push_missing();
    assert_eq!(bytes(&column), [b'a', b'b', 0, 0, 0, 0]);
    let too_long = column.push(|column| match column {
        Column::FixedString(strings) => strings.push(b"abcd").map(|()| true),
        other => panic!("{other:?}"),
    });
    assert_eq!(too_long, Err(TooLong { length: 4, width: 3 }));
    assert_eq!(column.len(), 2);
}

#[test]
fn integers_are_little_endian_and_never_wrap() {
    for (name, least, most, encoded) in [
        ("Int8", -128, 127, "807f"),
        ("Int16", -32_768, 32_767, "0080ff7f"),
        ("Int32", i128::from(i32::MIN), i128::from(i32::MAX), "00000080ffffff7f"),
        ("Int64", i128::from(i64::MIN), i128::from(i64::MAX), "0000000000000080ffffffffffffff7f"),
        ("UInt8", 0, 255, "00ff"),
        ("UInt16", 0, 65_535, "0000ffff"),
        ("UInt32", 0, i128::from(u32::MAX), "00000000ffffffff"),
        ("UInt64", 0, i128::from(u64::MAX), "0000000000000000ffffffffffffffff"),
    ] {
        let mut column = cells(name, Missing::Zero);
        assert_eq!(number(&mut column, least), Ok(true));
        assert_eq!(number(&mut column, most), Ok(true));
        assert_eq!(number(&mut column, least - 1), Err(OutOfRange { least, most }), "{name}");
        assert_eq!(number(&mut column, most + 1), Err(OutOfRange { least, most }), "{name}");
        let hex: String = bytes(&column).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, encoded, "{name}");
    }
}

#[test]
fn a_null_map_comes_first() {
    let mut column = cells("Nullable(UInt16)", Missing::Null { has_default: false });
    assert!(number(&mut column, 258).unwrap());
    column.push_missing();
    assert_eq!(bytes(&column), [0, 1, 2, 1, 0, 0]);
    assert_eq!(wire_type(&column, "Nullable(UInt16)"), "Nullable(UInt16)");
    assert!(is_sent(&column));
}

#[test]
fn a_default_is_asked_for_with_null_only_where_some_rows_lack_a_value() {
    let mut column = cells("UInt8", Missing::Default);
    column.push_missing();
    assert!(!is_sent(&column), "left out: every row gets the DEFAULT");
    assert!(number(&mut column, 7).unwrap());
    assert!(is_sent(&column));
    assert_eq!((wire_type(&column, "UInt8"), bytes(&column)), ("Nullable(UInt8)".to_owned(), vec![1, 0, 0, 7]));
    column.clear();
    assert!(number(&mut column, 8).unwrap());
    assert_eq!((wire_type(&column, "UInt8"), bytes(&column)), ("UInt8".to_owned(), vec![8]));
    let mut nullable = cells("Nullable(UInt8)", Missing::Null { has_default: true });
    nullable.push_missing();
    assert!(!is_sent(&nullable));
    nullable.push_null();
    assert_eq!((nullable.asks(0), nullable.asks(1)), (true, false), "NULL cannot ask where it is a value");
    assert!(!nullable.is_sent(&(0..1)) && nullable.is_sent(&(1..2)));
    nullable.truncate(1);
    assert!(!is_sent(&nullable));
}

#[test]
fn enums_never_hold_a_number_that_is_no_member() {
    let mut narrow = cells("Enum8('a' = -2, 'b' = 5)", Missing::Zero);
    narrow.push_missing();
    assert_eq!(bytes(&narrow), [0xFE]);
    let mut wide = cells("Nullable(Enum16('a' = 300))", Missing::Null { has_default: false });
    wide.push_missing();
    assert_eq!(bytes(&wide), [1, 0x2C, 0x01]);
}

#[test]
fn a_dictionary_has_version_flags_keys_and_indexes() {
    let mut column = cells("LowCardinality(String)", Missing::Default);
    for value in ["b", "", "b", "c"] {
        text(&mut column, value);
    }
    let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0];
    expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'b', 1, b'c']);
    expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 3]);
    assert_eq!(bytes(&column), expected);
    assert_eq!(wire_type(&column, "LowCardinality(String)"), "LowCardinality(String)");
    column.push_missing();
    assert_eq!(wire_type(&column, "LowCardinality(String)"), "LowCardinality(Nullable(String))");
    assert_eq!(bytes(&column).last(), Some(&0), "index 0 is NULL");
    column.clear();
    assert!(bytes(&column).is_empty(), "nothing at all without rows");
}

#[test]
fn a_dictionary_widens_and_at_last_gives_way_to_plain_strings() {
    let mut column = cells("LowCardinality(String)", Missing::Default);
    for value in 0..300 {
        text(&mut column, &format!("{value:03}"));
    }
    let encoded = bytes(&column);
    assert_eq!(encoded[8..10], [1, 6], "indexes of two bytes");
    assert_eq!(encoded[encoded.len() - 2..], 301_u16.to_le_bytes());
    column.push_missing();
    for value in 0..5000 {
        text(&mut column, &format!("{value:04}"));
    }
    assert_eq!(wire_type(&column, "LowCardinality(String)"), "Nullable(String)");
    assert_eq!(column.len(), 5301);
    let encoded = bytes(&column);
    assert_eq!(encoded[299..302], [0, 1, 0], "the null map of row 300");
    assert_eq!(encoded[5301..5305], *b"\x03000");
    column.clear();
    text(&mut column, "again");
    assert_eq!(wire_type(&column, "LowCardinality(String)"), "LowCardinality(String)");
}

fn decimal(type_name: &str, text: &str) -> Result<String, DecimalFault> {
    let mut column = cells(type_name, Missing::Zero);
    column.push(|column| match column {
        Column::Decimal(numbers) => numbers.push(text).map(|()| true),
        other => panic!("{other:?}"),
    })?;
    // Most significant byte first, as people read numbers.
    Ok(bytes(&column).iter().rev().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn decimals_are_exact() {
    for (type_name, text, hex) in [
        ("Decimal(9, 2)", "-12.5", "fffffb1e"),
        ("Decimal(9, 2)", "1.25e1", "000004e2"),
        ("Decimal(9, 2)", "0012.500", "000004e2"),
        ("Decimal(9, 2)", "-0.00", "00000000"),
        ("Decimal(9, 2)", "9999999.99", "3b9ac9ff"),
        ("Decimal(18, 3)", "0.001", "0000000000000001"),
        ("Int128", "-170141183460469231731687303715884105728", "80000000000000000000000000000000"),
        ("Int128", "170141183460469231731687303715884105727", "7fffffffffffffffffffffffffffffff"),
        ("UInt128", "3.40282366920938463463374607431768211455e38", "ffffffffffffffffffffffffffffffff"),
        ("Int256", "-1", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
        (
            "UInt256",
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ),
    ] {
        assert_eq!(decimal(type_name, text), Ok(hex.to_owned()), "{type_name} {text}");
    }
    for (type_name, text, fault) in [
        ("Decimal(9, 2)", "1.255", DecimalFault::Lossy(2)),
        ("Decimal(9, 2)", "1e-3", DecimalFault::Lossy(2)),
        ("Decimal(9, 2)", "10000000", DecimalFault::OutOfRange),
        ("Decimal(9, 2)", "1e2147483647", DecimalFault::OutOfRange),
        ("Int128", "170141183460469231731687303715884105728", DecimalFault::OutOfRange),
        ("Int128", "-170141183460469231731687303715884105729", DecimalFault::OutOfRange),
        ("UInt128", "-1", DecimalFault::OutOfRange),
        ("UInt128", "340282366920938463463374607431768211456", DecimalFault::OutOfRange),
        (
            "UInt256",
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
            DecimalFault::OutOfRange,
        ),
        ("Int256", "0.5", DecimalFault::Lossy(0)),
    ] {
        assert_eq!(decimal(type_name, text), Err(fault), "{type_name} {text}");
    }
    for text in ["", "-", ".", "1.", ".5", "1e", "0x1", "nan", "1_0", "--1"] {
        assert_eq!(decimal("Decimal(9, 2)", text), Err(DecimalFault::Unreadable), "{text}");
    }
}

#[test]
fn arrays_have_ends_then_items() {
    let mut column = cells("Array(Nullable(UInt8))", Missing::Default);
    let push = |column: &mut Cells, items: &[Option<i128>], good: bool| {
        column.push(|column| match column {
            Column::Array(arrays) => arrays
                .push(|cells| {
                    for item in items {
                        match item {
                            Some(item) => assert_eq!(number(cells, *item), Ok(true)),
                            None => cells.push_missing(),
                        }
                    }
                    if good { Ok(()) } else { Err(()) }
                })
                .map(|()| true),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(push(&mut column, &[Some(7), None], true), Ok(true));
    assert_eq!(push(&mut column, &[Some(1), Some(2)], false), Err(()));
    column.push_missing();
    assert_eq!(push(&mut column, &[Some(3), Some(4)], true), Ok(true));
    column.truncate(2);
    assert_eq!(push(&mut column, &[Some(9)], true), Ok(true));
    let ends = [2_u64, 2, 3].map(u64::to_le_bytes).concat();
    assert_eq!(bytes(&column), [&ends[..], &[0, 1, 0, 7, 0, 9]].concat());
    assert_eq!(wire_type(&column, "Array(Nullable(UInt8))"), "Array(Nullable(UInt8))", "never wrapped in Nullable");
}

#[test]
fn maps_have_ends_then_keys_then_values() {
    let mut column = cells("Map(String, String)", Missing::Zero);
    let mut push = |pairs: &[(&str, &str)], good: bool| {
        column.push(|column| match column {
            Column::Map(maps) => maps
                .push(|keys, values| {
                    for (key, value) in pairs {
                        keys.push(key.as_bytes());
                        text(values, value);
                    }
                    // Fails between a key and its value.
                    keys.push(b"k");
                    if good {
                        text(values, "");
                        Ok(())
                    } else {
                        Err(())
                    }
                })
                .map(|()| true),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(push(&[("a", "bc")], true), Ok(true));
    assert_eq!(push(&[("x", "y"), ("z", "w")], false), Err(()));
    assert_eq!(push(&[], true), Ok(true));
    let ends = [2_u64, 3].map(u64::to_le_bytes).concat();
    assert_eq!(bytes(&column), [&ends[..], b"\x01a\x01k\x01k", b"\x02bc\x00\x00"].concat());
}

#[test]
fn json_has_its_version_once() {
    let mut column = cells("JSON", Missing::Zero);
    column.push_missing();
    fill(&mut column, |column| match column {
        Column::Json(texts) => texts.push(b"{\"a\":1}"),
        other => panic!("{other:?}"),
    });
    assert_eq!(bytes(&column), [&1_u64.to_le_bytes()[..], b"\x02{}", b"\x07{\"a\":1}"].concat());
}

proptest! {
    #[test]
    fn strings_lose_any_number_of_rows(lengths in prop::collection::vec(0..300_usize, 0..20), keep in 0..20_usize, more in 0..3_usize) {
        let (mut long, mut short) = (cells("String", Missing::Zero), cells("String", Missing::Zero));
        for (row, length) in lengths.iter().enumerate() {
            text(&mut long, &"x".repeat(*length));
            if row < keep {
                text(&mut short, &"x".repeat(*length));
            }
        }
        long.truncate(keep);
        let keep = keep.saturating_sub(more);
        long.truncate(keep);
        short.truncate(keep);
        prop_assert_eq!(long.len(), short.len());
        prop_assert_eq!(bytes(&long), bytes(&short));
    }

    /// Whatever is undone leaves no trace in the bytes.
    #[test]
    fn undone_rows_leave_no_trace(
        type_name in prop::sample::select(vec!["String", "LowCardinality(String)", "FixedString(9)"]),
        missing in prop::sample::select(vec![Missing::Zero, Missing::Default]),
        rows in prop::collection::vec((prop::option::of("[a-c]{0,3}"), prop::option::of(prop::option::of("[a-c]{0,3}"))), 1..40),
    ) {
        let push = |column: &mut Cells, value: &Option<String>| match value {
            Some(value) => text(column, value),
            None => column.push_missing(),
        };
        let (mut plain, mut undone) = (cells(type_name, missing), cells(type_name, missing));
        for (row, (value, taken_back)) in rows.iter().enumerate() {
            if let Some(other) = taken_back {
                push(&mut undone, other);
                undone.truncate(row);
            }
            push(&mut undone, value);
            push(&mut plain, value);
        }
        prop_assert_eq!(undone.len(), rows.len());
        prop_assert_eq!(is_sent(&undone), is_sent(&plain));
        prop_assert_eq!(wire_type(&undone, type_name), wire_type(&plain, type_name));
        prop_assert_eq!(bytes(&undone), bytes(&plain));
        prop_assert_eq!(undone.bytes(), plain.bytes());
    }

    /// Also across a growth of the table right before the undoing.
    #[test]
    fn undone_keys_do_not_pile_up(count in 20..140_usize) {
        let mut column = cells("LowCardinality(String)", Missing::Zero);
        let mut values = Vec::new();
        for row in 0..count {
            text(&mut column, &format!("undone {row} {}", "x".repeat(100)));
            column.truncate(row);
            values.push(format!("{}", row * row % 97));
            text(&mut column, &values[row]);
        }
        prop_assert!(column.bytes() < count * 10);
        prop_assert_eq!(spelled(&bytes(&column)), values);
    }

    #[test]
    fn dictionaries_mean_what_was_pushed(values in prop::collection::vec("[ab]{0,7}|[a-z]{8,20}", 1..600)) {
        let mut column = cells("LowCardinality(String)", Missing::Zero);
        for value in &values {
            text(&mut column, value);
        }
        prop_assert_eq!(spelled(&bytes(&column)), values);
    }
}

/// Reads a dictionary by the description in the server's source.
fn spelled(encoded: &[u8]) -> Vec<String> {
    let word = |at: usize| u64::from_le_bytes(encoded[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), 1);
    let width = match word(8) {
        0x600 => 1,
        0x601 => 2,
        other => panic!("flags {other:x}"),
    };
    let mut at = 24;
    let keys: Vec<String> = (0..word(16))
        .map(|_| {
            let length = usize::from(encoded[at]);
            assert!(length < 128);
            at += 1 + length;
            String::from_utf8(encoded[at - length..at].to_vec()).unwrap()
        })
        .collect();
    let rows = usize::try_from(word(at)).unwrap();
    let indexes = &encoded[at + 8..];
    assert_eq!(indexes.len(), rows * width);
    let index = |piece: &[u8]| piece.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    indexes.chunks(width).map(|piece| keys[index(piece)].clone()).collect()
}
