//! The table with every type, and events for it by chance.

use crate::json::{Chance, Json};
use crate::rules::Type;

#[path = "moments.rs"]
mod moments;

use moments::moment;

/// A column of the table.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) sql: &'static str,
    pub(crate) kind: Type,
    /// What a row without a value shows, as JSON.
    pub(crate) default: Option<Json>,
}

const MEMBERS: &[(&str, i16)] = &[("it's", -3), ("b\\c", 2), ("é", 100)];
const WIDE_MEMBERS: &[(&str, i16)] = &[("x", 300), ("y", -400)];
const NAMELESS_MEMBER: &[(&str, i16)] = &[("", 5), ("z", -1)];

/// The columns, `c00` and on: every supported type bare, Nullable, with a DEFAULT, and two deep.
pub(crate) fn columns() -> Vec<Column> {
    let nullable = |kind: Type| Type::Nullable(Box::new(kind));
    let list = |kind: Type| Type::List(Box::new(kind));
    let map = |kind: Type| Type::Map(Box::new(kind));
    let enumeration = || Type::Enum(MEMBERS.to_vec());
    let (signed, unsigned) = (|bits| Type::Integer(bits, true), |bits| Type::Integer(bits, false));
    let time = |digits| Type::Time(Some(digits));
    let (word, number) = (|word: &str| Some(Json::text(word)), |number: &str| Some(Json::number(number)));
    let all = vec![
        ("String", Type::Text, None),
        ("Nullable(String)", nullable(Type::Text), None),
        ("String DEFAULT '{}'", Type::Text, word("{}")),
        ("LowCardinality(String)", Type::Text, None),
        ("LowCardinality(String) DEFAULT 'sha256'", Type::Text, word("sha256")),
        ("LowCardinality(Nullable(String))", nullable(Type::Text), None),
        ("LowCardinality(Nullable(String)) DEFAULT 'n'", nullable(Type::Text), word("n")),
        ("FixedString(4)", Type::Fixed(4), None),
        ("LowCardinality(FixedString(3)) DEFAULT 'abc'", Type::Fixed(3), word("abc")),
        ("Nullable(FixedString(2))", nullable(Type::Fixed(2)), None),
        ("Bool", Type::Bool, None),
        ("Nullable(Bool)", nullable(Type::Bool), None),
        ("Bool DEFAULT true", Type::Bool, Some(Json::Bool(true))),
        ("Int8", signed(8), None),
        ("Int16", signed(16), None),
        ("Int32", signed(32), None),
        ("Int64", signed(64), None),
        ("Int128", signed(128), None),
        ("Int256", signed(256), None),
        ("UInt8", unsigned(8), None),
        ("UInt16", unsigned(16), None),
        ("UInt32 DEFAULT 7", unsigned(32), number("7")),
        ("UInt64", unsigned(64), None),
        ("UInt128", unsigned(128), None),
        ("UInt256 DEFAULT 9", unsigned(256), number("9")),
        ("Nullable(Int64)", nullable(signed(64)), None),
        ("Nullable(UInt64) DEFAULT 3", nullable(unsigned(64)), number("3")),
        ("LowCardinality(UInt16)", unsigned(16), None),
        ("Float32", Type::Float32, None),
        ("Float64", Type::Float64, None),
        ("Nullable(Float64)", nullable(Type::Float64), None),
        ("Decimal(9, 2)", Type::Decimal(9, 2), None),
        ("Nullable(Decimal(18, 4))", nullable(Type::Decimal(18, 4)), None),
        ("Decimal128(10) DEFAULT 1.5", Type::Decimal(38, 10), number("1.5")),
        ("Decimal(76, 0)", Type::Decimal(76, 0), None),
        ("UUID", Type::Uuid, None),
        ("Nullable(UUID)", nullable(Type::Uuid), None),
        ("Date", Type::Date, None),
        ("Nullable(Date)", nullable(Type::Date), None),
        ("Date32", Type::Date32, None),
        ("DateTime", Type::Time(None), None),
        ("DateTime('Asia/Tokyo')", Type::Time(None), None),
        ("DateTime64(0, 'UTC')", time(0), None),
        ("DateTime64(3, 'Europe/Berlin')", time(3), None),
        ("DateTime64(9) DEFAULT '2026-01-01 00:00:00'", time(9), word("2026-01-01")),
        ("Nullable(DateTime64(6, 'UTC'))", nullable(time(6)), None),
        ("LowCardinality(Nullable(DateTime))", nullable(Type::Time(None)), None),
        ("Enum8('it\\'s' = -3, 'b\\\\c' = 2, 'é' = 100)", enumeration(), None),
        ("Nullable(Enum8('it\\'s' = -3, 'b\\\\c' = 2, 'é' = 100))", nullable(enumeration()), None),
        ("Enum16('x' = 300, 'y' = -400) DEFAULT 'x'", Type::Enum(WIDE_MEMBERS.to_vec()), word("x")),
        ("IPv4", Type::Ipv4, None),
        ("Nullable(IPv4)", nullable(Type::Ipv4), None),
        ("IPv6", Type::Ipv6, None),
        ("Array(String)", list(Type::Text), None),
        ("Array(String) DEFAULT ['d']", list(Type::Text), Some(Json::List(vec![Json::text("d")]))),
        ("Array(Nullable(Int32))", list(nullable(signed(32))), None),
        ("Array(LowCardinality(Nullable(String)))", list(nullable(Type::Text)), None),
        ("Array(LowCardinality(String))", list(Type::Text), None),
        ("Array(Array(UInt16))", list(list(unsigned(16))), None),
        ("Array(Array(Nullable(String)))", list(list(nullable(Type::Text))), None),
        ("Array(Nullable(Decimal(12, 3)))", list(nullable(Type::Decimal(12, 3))), None),
        ("Array(DateTime64(3, 'Asia/Tokyo'))", list(time(3)), None),
        ("Array(Nullable(UUID))", list(nullable(Type::Uuid)), None),
        ("Array(Enum8('it\\'s' = -3, 'b\\\\c' = 2, 'é' = 100))", list(enumeration()), None),
        ("Array(FixedString(2))", list(Type::Fixed(2)), None),
        ("Array(Map(String, Bool))", list(map(Type::Bool)), None),
        ("Map(String, String)", map(Type::Text), None),
        (
            "Map(String, String) DEFAULT map('k', 'v')",
            map(Type::Text),
            Some(Json::Object(vec![("k".to_owned(), Json::text("v"))])),
        ),
        ("Nullable(DateTime64(3, 'UTC')) DEFAULT '2026-01-01 00:00:00'", nullable(time(3)), word("2026-01-01")),
        ("Map(LowCardinality(String), UInt64)", map(unsigned(64)), None),
        ("Map(String, Array(Nullable(Float64)))", map(list(nullable(Type::Float64))), None),
        ("Map(String, Map(String, Date))", map(map(Type::Date)), None),
        ("Map(String, Nullable(IPv6))", map(nullable(Type::Ipv6)), None),
        ("Map(String, LowCardinality(Nullable(String)))", map(nullable(Type::Text)), None),
        ("Map(String, Int256)", map(signed(256)), None),
        ("JSON", Type::Json, None),
        ("JSON DEFAULT '{\"d\": 1}'", Type::Json, Some(Json::Object(vec![("d".to_owned(), Json::number(1))]))),
        ("Enum8('' = 5, 'z' = -1)", Type::Enum(NAMELESS_MEMBER.to_vec()), None),
        ("Nullable(Enum8('' = 5, 'z' = -1))", nullable(Type::Enum(NAMELESS_MEMBER.to_vec())), None),
    ];
    all.into_iter()
        .enumerate()
        .map(|(at, (sql, kind, default))| Column { name: format!("c{at:02}"), sql, kind, default })
        .collect()
}

/// One event: the text, and its keys and values in order; the model judges those.
pub(crate) struct Event {
    pub(crate) bytes: Vec<u8>,
    /// None when the bytes are to be rejected whatever the columns are.
    pub(crate) pairs: Option<Vec<(String, Json)>>,
}

/// An event with a number in `k`.
pub(crate) fn event(chance: &mut Chance, columns: &[Column], number: usize) -> Event {
    let mut pairs = vec![("k".to_owned(), Json::text(format!("{number:08}")))];
    let mut mean = chance.percent(25);
    for _ in 0..chance.below(24) {
        let column = &columns[chance.below(columns.len() as u64) as usize];
        let mut value = if mean && chance.percent(10) { anything(chance, 3) } else { fitting(chance, &column.kind) };
        // How a JSON column shows the items of a mixed list, and numbers beyond eight bytes, is the server's own affair.
        if matches!((&column.kind, &value), (Type::Json, Json::Object(_))) {
            value = paths(chance, 2);
        }
        pairs.push((column.name.clone(), value));
        mean |= chance.percent(1);
    }
    together(chance, columns, number, &mut pairs);
    if chance.percent(10) {
        pairs.push((format!("unknown {}", chance.below(3)), anything(chance, 3)));
    }
    if chance.percent(20) {
        let turn = chance.below(pairs.len() as u64) as usize;
        pairs.rotate_left(turn);
    }
    let mut text = Json::Object(pairs.clone()).write();
    let mut fits = true;
    match chance.below(150) {
        0 => text.insert(0, '\u{feff}'),
        1 => text = format!(" \n{text}\t"),
        2 => {
            text.pop();
            fits = false;
        }
        3 => (text, fits) = (format!("[{text}]"), false),
        4 => (text, fits) = (text.replacen('{', "{\"c00\": \"\\ud83d\", ", 1), false),
        5 => (text, fits) = (text + "1", false),
        6 => {
            let deep = format!("{{\"deep\": {}{}, ", "[".repeat(64), "]".repeat(64));
            (text, fits) = (text.replacen('{', &deep, 1), false);
        }
        _ => {}
    }
    let mut bytes = text.into_bytes();
    if chance.percent(1) {
        let at = bytes.len() - 2;
        bytes[at] = 0xFF;
        fits = false;
    }
    Event { bytes, pairs: fits.then_some(pairs) }
}

/// Columns whose DEFAULT no NULL can ask for: mostly many events in a row have them, or have them not, because each change
/// begins another block.
fn together(chance: &mut Chance, columns: &[Column], number: usize, pairs: &mut Vec<(String, Json)>) {
    let run = number / 25;
    if run.is_multiple_of(10) {
        return;
    }
    let takes_null = |kind: &Type| !matches!(kind, Type::Nullable(_) | Type::List(_) | Type::Map(_) | Type::Json);
    let special = columns.iter().filter(|column| column.default.is_some() && !takes_null(&column.kind));
    for (at, column) in special.enumerate() {
        pairs.retain(|(name, _)| *name != column.name);
        if Chance((run * 31 + at) as u64).percent(50) {
            let value = match column.kind {
                Type::Json => paths(chance, 2),
                Type::List(_) => Json::List(vec![Json::text(word(chance))]),
                Type::Nullable(_) if chance.percent(20) => Json::Null,
                _ => fitting(chance, &column.kind),
            };
            pairs.push((column.name.clone(), value));
        }
    }
}

/// A value that a column of this type mostly takes, in one of its spellings.
fn fitting(chance: &mut Chance, kind: &Type) -> Json {
    if chance.percent(4) {
        return if chance.percent(50) { Json::Null } else { Json::text("") };
    }
    match kind {
        Type::Nullable(inner) => fitting(chance, inner),
        Type::Text => match chance.below(10) {
            0..6 => Json::text(word(chance)),
            6 => Json::Number(number(chance)),
            7 => Json::Bool(chance.percent(50)),
            _ => anything(chance, 2),
        },
        Type::Fixed(width) => {
            Json::text(chance.pick(&["a", "é", "12", "ab", "\0"]).repeat(1 + usize::from(*width > 3)))
        }
        Type::Bool => match chance.below(4) {
            0 | 1 => Json::Bool(chance.percent(50)),
            2 => Json::number(chance.pick(&["0", "1", "1.0", "0e5", "-0"])),
            _ => Json::text(chance.pick(&["true", "FALSE", "True", "0", "1"])),
        },
        Type::Integer(bits, signed) => {
            let number = integer(chance, *bits, *signed);
            match chance.below(12) {
                0 | 1 => Json::text(number),
                2 => Json::number(format!("{number}.0")),
                3 => Json::text(format!("{number}.00")),
                4 => Json::Bool(chance.percent(50)),
                5 => Json::number(format!("{}e{}", chance.below(13), chance.below(u64::from(bits / 8)))),
                _ => Json::Number(number),
            }
        }
        Type::Float32 | Type::Float64 => {
            let number = match chance.below(4) {
                0 => number(chance),
                1 => by_a_middle(chance),
                2 => format!("{:?}", f64::from_bits(chance.next() & !(1 << 62))),
                _ => format!("{}.{}", chance.below(1000), chance.next()),
            };
            if chance.percent(20) { Json::text(number) } else { Json::Number(number) }
        }
        Type::Decimal(_, scale) if chance.percent(25) => {
            // What arithmetic with floats leaves behind, of more and of fewer digits than the column has.
            let unit = 10_f64.powi(-(i32::try_from(*scale).unwrap() - chance.below(3) as i32));
            let mut sum = chance.below(1000) as f64 * unit;
            for _ in 0..chance.below(5) {
                sum += chance.below(1_000_000) as f64 * unit / if chance.percent(10) { 7.0 } else { 1.0 };
            }
            if chance.percent(50) {
                sum *= -3.0;
            }
            if chance.percent(5) { Json::text(format!("{sum:?}")) } else { Json::number(format!("{sum:?}")) }
        }
        Type::Decimal(precision, scale) => {
            let whole = format!("0{}", digits(chance, precision - scale));
            // JSON has no leading zeros, nor numbers without a whole part.
            let whole = if whole.len() > 1 && chance.percent(98) { whole[1..].to_owned() } else { "0".to_owned() };
            let number = match digits(chance, *scale) {
                fraction if fraction.is_empty() => whole,
                fraction => format!("{whole}.{fraction}"),
            };
            let number = if chance.percent(30) { format!("-{number}") } else { number };
            if chance.percent(40) { Json::text(number) } else { Json::Number(number) }
        }
        Type::Uuid => {
            let hex = format!("{:016x}{:016x}", chance.next(), chance.next());
            let hyphened = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            Json::text(match chance.below(8) {
                0 => hex,
                1 => hyphened.to_uppercase(),
                2 => format!("urn:uuid:{hyphened}"),
                3 => format!("{{{hyphened}}}"),
                _ => hyphened,
            })
        }
        Type::Date | Type::Date32 if chance.percent(60) => {
            let (first, years) = if matches!(kind, Type::Date) { (1969, 181) } else { (1899, 402) };
            let (year, month) = (first + chance.below(years), 1 + chance.below(12));
            let day = 1 + chance.below(28 + chance.0 % 4);
            match chance.below(8) {
                0 => Json::number(chance.below(70_000)),
                1 => Json::text(chance.below(125_000).to_string()),
                2 => Json::number(format!("{}.0", chance.below(70_000))),
                3 => Json::number(chance.below(30_000) as i64 - 27_000),
                4 => Json::number(format!("{year}{month:02}{day:02}")),
                5 => Json::text(format!("{year}{month:02}{day:02}")),
                6 => Json::text(format!("{year}/{month:02}/{day:02}")),
                _ => Json::text(format!("{year}-{month:02}-{day:02}")),
            }
        }
        Type::Date | Type::Date32 | Type::Time(_) => moment(chance),
        Type::Enum(members) => {
            let (name, value) = members[chance.below(members.len() as u64) as usize];
            if chance.percent(30) { Json::number(value) } else { Json::text(name) }
        }
        Type::Ipv4 => Json::text(format!("{}.{}.0.{}", chance.below(256), chance.below(256), chance.below(257))),
        Type::Ipv6 => Json::text(match chance.below(4) {
            0 => "1.2.3.4".to_owned(),
            1 => "2001:0DB8:0:0::1".to_owned(),
            2 => "::".to_owned(),
            _ => format!("fe80::{:x}:{:x}", chance.below(65_536), chance.below(65_537)),
        }),
        Type::List(inner) => {
            let list = Json::List((0..chance.below(4)).map(|_| fitting(chance, inner)).collect());
            if chance.percent(10) { Json::text(list.write()) } else { list }
        }
        Type::Map(inner) => {
            let pairs = (0..chance.below(4))
                .map(|_| (chance.pick(&["a", "é\n", "", "k.l"]).to_owned(), fitting(chance, inner)));
            let map = Json::Object(pairs.collect());
            if chance.percent(10) { Json::text(map.write()) } else { map }
        }
        Type::Json => {
            let object = paths(chance, 2);
            if chance.percent(20) { Json::text(object.write()) } else { object }
        }
    }
}

fn integer(chance: &mut Chance, bits: u32, signed: bool) -> String {
    let edges = [
        "0",
        "1",
        "7",
        "127",
        "128",
        "255",
        "256",
        "32767",
        "65535",
        "65536",
        "4294967295",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "170141183460469231731687303715884105727",
        "340282366920938463463374607431768211455",
        "57896044618658097711785492504343953926634992332820282019728792003956564819967",
        "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    ];
    let few = match bits {
        8 => 6,
        16 => 9,
        32 => 11,
        64 => 15,
        _ => edges.len() as u64,
    };
    let number = edges[chance.below(few) as usize];
    if signed && chance.percent(40) { format!("-{number}") } else { number.to_owned() }
}

/// Up to so many digits, the first not 0 unless it is alone.
fn digits(chance: &mut Chance, most: usize) -> String {
    let length = chance.below(most as u64 + 1) as usize;
    let mut out: String = (0..length).map(|_| char::from(b'0' + chance.below(10) as u8)).collect();
    if out.starts_with('0') && out.len() > 1 {
        out.replace_range(..1, "4");
    }
    out
}

fn word(chance: &mut Chance) -> String {
    let number = chance.below(40);
    chance
        .pick(&[
            "plain",
            "é",
            "\"quoted\" \\ /",
            "line\nbreak\u{1}",
            "😀",
            "NULL",
            "0",
            "null",
            "[1]",
            "{}",
            "\u{2028}",
            "a\0b",
            "1e400",
        ])
        .to_owned()
        + &if number > 20 { number.to_string() } else { String::new() }
}

/// A number in the middle of two floats of four bytes, or a little beside it.
fn by_a_middle(chance: &mut Chance) -> String {
    let low = f32::from_bits(chance.next() as u32 & 0x7F7F_FFFF);
    let middle = format!("{:.150}", (f64::from(low) + f64::from(low.next_up())) / 2.0);
    let digits = middle.trim_end_matches('0');
    match (chance.below(3), digits.as_bytes().last()) {
        (0, _) => format!("{middle}1"),
        (1, Some(last @ b'1'..=b'9')) => format!("{}{}9", &digits[..digits.len() - 1], last - b'1'),
        _ => middle,
    }
}

fn number(chance: &mut Chance) -> String {
    let fixed = [
        "0",
        "-0",
        "1",
        "-1",
        "5.0",
        "3.7",
        "1e3",
        "1E-3",
        "0.1",
        "1.10",
        "123456789012345678901234567890",
        "1e400",
        "-1e400",
        "4503599627370497.2",
        "9007199254740993",
        "9007199254740992.5",
        "3.00000000000000000001",
        "1e-400",
        "3.4028236e38",
        "1.7976931348623157e308",
        "5e-324",
        "0.30000000000000004",
        "5.551115123125783e-17",
        "1234567.123456789012",
        "12345678901234567890.5",
        "0.9999999999999999",
        "9.999999999999999",
        "99.99500000000000001",
        "8.41395951e21",
        "1768954900.123456789",
    ];
    match chance.below(3) {
        0 => format!("{}.{}e{}", chance.below(10), chance.below(1_000_000), chance.below(20)),
        _ => fixed[chance.below(fixed.len() as u64) as usize].to_owned(),
    }
}

/// Any JSON value.
fn anything(chance: &mut Chance, depth: u64) -> Json {
    match chance.below(if depth == 0 { 5 } else { 7 }) {
        0 => Json::Null,
        1 => Json::Bool(chance.percent(50)),
        2 => Json::Number(number(chance)),
        3 | 4 => Json::Text(word(chance)),
        5 => Json::List((0..chance.below(3)).map(|_| anything(chance, depth - 1)).collect()),
        _ => {
            let pairs = (0..chance.below(3)).map(|_| (word(chance), anything(chance, depth - 1)));
            Json::Object(pairs.collect())
        }
    }
}

/// An object as JSON columns are used: the same path has the same kind of value, and no list mixes them.
fn paths(chance: &mut Chance, depth: u64) -> Json {
    let mut pairs = Vec::new();
    for (key, kind) in [("n", 0), ("t", 1), ("b", 2), ("l", 3), ("o", 4)] {
        if !chance.percent(50) {
            continue;
        }
        let value = match kind {
            0 => Json::number(chance.next() as i64),
            1 => Json::Text(format!("text {}", word(chance))),
            2 => Json::Bool(chance.percent(50)),
            3 => Json::List((0..1 + chance.below(3)).map(|_| Json::text(chance.pick(&["p", "é", ""]))).collect()),
            _ if depth > 0 => paths(chance, depth - 1),
            _ => Json::Null,
        };
        pairs.push((key.to_owned(), value));
    }
    Json::Object(pairs)
}
