use proptest::prelude::*;

use super::*;

#[test]
fn reads_what_system_columns_says() {
    let int = |signed, width| DataType::Integer(Integer { signed, width });
    for (name, expected) in [
        ("String", DataType::String),
        ("FixedString(16)", DataType::FixedString(16)),
        ("LowCardinality(String)", DataType::LowCardinality),
        ("LowCardinality(Nullable(String))", DataType::Nullable(Box::new(DataType::LowCardinality))),
        ("LowCardinality(FixedString(2))", DataType::FixedString(2)),
        ("LowCardinality(Nullable(UInt16))", DataType::Nullable(Box::new(int(false, 2)))),
        ("Nullable(UInt64)", DataType::Nullable(Box::new(int(false, 8)))),
        ("Int8", int(true, 1)),
        ("DateTime", DataType::DateTime),
        ("DateTime('Europe/Berlin')", DataType::DateTime),
        ("DateTime64(3, 'UTC')", DataType::DateTime64(3)),
        ("DateTime64(9)", DataType::DateTime64(9)),
        ("Nullable(\n    DateTime64( 6 ,\t'UTC' )\n)", DataType::Nullable(Box::new(DataType::DateTime64(6)))),
    ] {
        assert_eq!(DataType::parse(name), Ok(expected), "{name}");
    }
}

#[test]
fn reads_enum_members_with_escapes() {
    let DataType::Enum8(members) = DataType::parse(r"Enum8('it\'s' = -3, 'a,b)' = 7, '' = 1)").unwrap() else {
        panic!("not an Enum8");
    };
    assert_eq!(members.value("it's"), Some(-3));
    assert_eq!(members.value("a,b)"), Some(7));
    assert_eq!(members.value(""), Some(1));
    assert_eq!(members.value("x"), None);
    assert_eq!(members.lowest(), -3);
    assert!(members.has(7) && !members.has(2));
}

#[test]
fn says_what_it_cannot_read() {
    for name in ["Tuple(a UInt8, b String)", "AggregateFunction(sum, UInt64)", "Point", "Variant(String, UInt8)"] {
        assert!(matches!(DataType::parse(name), Err(TypeError::Unsupported(_))), "{name}");
    }
    for name in
        ["", "DateTime64", "DateTime64(12)", "String)", "Enum8()", "Enum8('a' = 300)", "FixedString(0)", "Enum8('a"]
    {
        assert!(matches!(DataType::parse(name), Err(TypeError::Malformed { .. })), "{name}");
    }
    let deep = format!("{}String{}", "LowCardinality(".repeat(5000), ")".repeat(5000));
    assert!(DataType::parse(&deep).is_err());
}

proptest! {
    #[test]
    fn never_panics(name in "\\PC{0,60}") {
        let first = DataType::parse(&name);
        prop_assert_eq!(first, DataType::parse(&name));
    }

    #[test]
    fn spaces_change_nothing(
        name in prop::sample::select(vec!["Nullable(DateTime64(3,'UTC'))", "Enum16('a'=1,'b'=-2)", "LowCardinality(Nullable(String))"]),
        space in "[ \n\t]{0,3}",
    ) {
        let mut spaced = String::new();
        for c in name.chars() {
            if "(),=".contains(c) {
                spaced.push_str(&space);
                spaced.push(c);
                spaced.push_str(&space);
            } else {
                spaced.push(c);
            }
        }
        prop_assert_eq!(DataType::parse(&spaced), DataType::parse(name));
    }

    #[test]
    fn members_come_back(names in prop::collection::btree_map("\\PC{0,8}", any::<i16>(), 1..8)) {
        let list: Vec<String> = names
            .iter()
            .map(|(name, value)| format!("'{}' = {value}", name.replace('\\', "\\\\").replace('\'', "\\'")))
            .collect();
        let parsed = DataType::parse(&format!("Enum16({})", list.join(", "))).unwrap();
        let DataType::Enum16(members) = parsed else { return Err(TestCaseError::fail("not an Enum16")) };
        for (name, value) in &names {
            prop_assert_eq!(members.value(name), Some(*value));
        }
    }
}
