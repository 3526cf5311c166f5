//! The bytes of each type, as verified on a server, and what undoing leaves.

use proptest::prelude::*;

use super::*;

fn cells(type_name: &str, missing: Missing) -> Cells {
    Cells::new(&DataType::parse(type_name).unwrap(), missing)
}

fn bytes(cells: &Cells) -> Vec<u8> {
    let mut out = Vec::new();
    cells.encode(&mut |bytes| out.extend_from_slice(bytes));
    out
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
fn strings_carry_their_length() {
    let mut column = cells("String", Missing::Zero);
    text(&mut column, "ab");
    text(&mut column, "");
    text(&mut column, &"x".repeat(300));
    let encoded = bytes(&column);
    assert_eq!(encoded[..6], [2, b'a', b'b', 0, 0xAC, 0x02]);
    assert_eq!(encoded.len(), 6 + 300);
    assert_eq!(column.wire_type("String"), "String");
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
    assert_eq!(column.wire_type("Nullable(UInt16)"), "Nullable(UInt16)");
    assert!(column.is_sent());
}

#[test]
fn a_default_is_asked_for_with_null_only_where_some_rows_lack_a_value() {
    let mut column = cells("UInt8", Missing::Default);
    column.push_missing();
    assert!(!column.is_sent(), "left out: every row gets the DEFAULT");
    assert!(number(&mut column, 7).unwrap());
    assert!(column.is_sent());
    assert_eq!((column.wire_type("UInt8"), bytes(&column)), ("Nullable(UInt8)".to_owned(), vec![1, 0, 0, 7]));
    column.clear();
    assert!(number(&mut column, 8).unwrap());
    assert_eq!((column.wire_type("UInt8"), bytes(&column)), ("UInt8".to_owned(), vec![8]));
    let mut nullable = cells("Nullable(UInt8)", Missing::Null { has_default: true });
    nullable.push_missing();
    assert!(!nullable.is_sent());
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
    assert_eq!(column.wire_type("LowCardinality(String)"), "LowCardinality(String)");
    column.push_missing();
    assert_eq!(column.wire_type("LowCardinality(String)"), "LowCardinality(Nullable(String))");
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
    assert_eq!(column.wire_type("LowCardinality(String)"), "Nullable(String)");
    assert_eq!(column.len(), 5301);
    let encoded = bytes(&column);
    assert_eq!(encoded[299..302], [0, 1, 0], "the null map of row 300");
    assert_eq!(encoded[5301..5305], *b"\x03000");
    column.clear();
    text(&mut column, "again");
    assert_eq!(column.wire_type("LowCardinality(String)"), "LowCardinality(String)");
}

proptest! {
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
        prop_assert_eq!(undone.is_sent(), plain.is_sent());
        prop_assert_eq!(undone.wire_type(type_name), plain.wire_type(type_name));
        if type_name == "LowCardinality(String)" {
            // A key may stay behind; what the indexes mean must not change.
            prop_assert_eq!(spelled(&bytes(&undone)), spelled(&bytes(&plain)));
        } else {
            prop_assert_eq!(bytes(&undone), bytes(&plain));
        }
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
