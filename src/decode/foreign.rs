//! What a value looks like that is no event: a topic in another format is named instead of dead-lettered record by record.
//!
//! A guess for people, from the first bytes; it decides nothing about a single value. Sources of the magic numbers: RFC 1952
//! (gzip), RFC 8878 (zstd), the LZ4 frame format, the snappy framing format, Confluent's wire format (0x00 and an id of four
//! bytes), the specifications of Avro, Parquet, MessagePack, CBOR (RFC 8949) and Protocol Buffers.

/// What a value that is no row of the table looks like; values of one format have one name.
pub fn format_of(value: &[u8], fills_no_column: bool) -> &'static str {
    if fills_no_column {
        return object(value);
    }
    magic(value).or_else(|| text(value)).unwrap_or_else(|| binary(value))
}

const MAGIC: [(&[u8], &str); 14] = [
    (b"\x1f\x8b", "gzip (0x1f8b)"),
    (b"\x28\xb5\x2f\xfd", "a zstd frame (0x28b52ffd)"),
    (b"\x04\x22\x4d\x18", "an LZ4 frame (0x04224d18)"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy frames"),
    (b"\x82SNAPPY\x00", "snappy blocks of snappy-java"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PK\x03\x04", "a zip archive"),
    (b"Obj\x01", "an Avro file"),
    (b"PAR1", "a Parquet file"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"\xd9\xd9\xf7", "CBOR"),
    (b"\x00\x00\x00\x00\x00{", "a schema registry's JSON (0x00 and a schema id)"),
];

fn magic(value: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| value.starts_with(magic)) {
        return Some(name);
    }
    match value {
        [0, _, _, _, _, b'{' | b'[', ..] => Some("a schema registry's JSON (0x00 and a schema id)"),
        [0, _, _, _, _, ..] => Some("a schema registry's Avro or Protobuf (0x00 and a schema id)"),
        _ => None,
    }
}

/// Formats of text; `None` for bytes that are none.
fn text(value: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(value).ok()?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
        return None;
    }
    let line = text.lines().next().unwrap_or("");
    let fields = |separator: char| line.matches(separator).count() >= 2;
    Some(match text.as_bytes() {
        [] => "nothing (empty values)",
        [b'{', ..] if text.lines().count() > 1 && line.trim_end().ends_with('}') => "several JSON documents (NDJSON)",
        [b'{', b'\'', ..] => "a Python dict, not JSON",
        [b'{', ..] => "JSON that breaks off or is malformed",
        [b'[', ..] => "a JSON array",
        [b'"', inner @ ..] if matches!(inner.trim_ascii_start(), [b'{' | b'[', ..]) => {
            "JSON encoded twice (a JSON string of JSON)"
        }
        [b'"', ..] => "a JSON string",
        [b'<', ..] => "XML",
        _ if text.starts_with("eyJ") => "JSON in base64",
        _ if text.parse::<f64>().is_ok() || matches!(text, "true" | "false" | "null") => {
            "a JSON number, true, false or null"
        }
        _ if fields('=') => "logfmt (key=value)",
        _ if fields(',') || fields(';') || fields('\t') || fields('|') => "CSV",
        _ => "text that is no JSON",
    })
}

fn binary(value: &[u8]) -> &'static str {
    if value.len() >= 5
        && value.last() == Some(&0)
        && value.first_chunk().is_some_and(|length| u32::from_le_bytes(*length) as usize == value.len())
    {
        return "BSON";
    }
    if is_protobuf(value) {
        return "Protobuf";
    }
    match value.first() {
        Some(0x80..=0x9f | 0xdc..=0xdf) => "MessagePack",
        Some(0xa0..=0xbf) => "CBOR",
        _ => "binary data of an unknown format",
    }
}

/// Whether the bytes are fields of a message to their end: a tag of field number and wire type, then what that says.
fn is_protobuf(mut rest: &[u8]) -> bool {
    let mut fields = 0;
    while !rest.is_empty() {
        let Some(tag) = varint(&mut rest) else { return false };
        let skipped = match tag & 7 {
            0 => varint(&mut rest).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut rest),
            5 => Some(4),
            _ => None,
        };
        let skipped = skipped.and_then(|bytes| usize::try_from(bytes).ok());
        let Some(after) = skipped.and_then(|bytes| rest.get(bytes..)).filter(|_| tag >> 3 != 0) else { return false };
        rest = after;
        fields += 1;
    }
    fields > 0
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * shift).min(63);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// JSON objects without a key that a column has.
fn object(value: &[u8]) -> &'static str {
    let has = |key: &str| {
        let key = format!("\"{key}\"");
        value.windows(key.len()).any(|window| window == key.as_bytes())
    };
    if has("schema") && has("payload") {
        "Kafka Connect's envelope of schema and payload (as of Debezium)"
    } else if has("before") && has("after") && has("op") {
        "Debezium's envelope of before and after"
    } else if has("specversion") && has("data") {
        "CloudEvents"
    } else {
        "JSON objects without a key that is a column of the table"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_by_their_first_bytes() {
        let registry = "a schema registry's Avro or Protobuf (0x00 and a schema id)";
        let cases: [(&[u8], &str); 26] = [
            (b"\x00\x00\x00\x00\x07\x02\x08abcd", registry),
            (b"\x00\x00\x00\x00\x01{\"a\": 1}", "a schema registry's JSON (0x00 and a schema id)"),
            (b"\x1f\x8b\x08\x00\x00", "gzip (0x1f8b)"),
            (b"\x28\xb5\x2f\xfd\x24\x05", "a zstd frame (0x28b52ffd)"),
            (b"\x04\x22\x4d\x18\x60\x40", "an LZ4 frame (0x04224d18)"),
            (b"{\"a\": 1}\n{\"a\": 2}\n", "several JSON documents (NDJSON)"),
            (b"{\"a\": 1", "JSON that breaks off or is malformed"),
            (b"{'a': 1}", "a Python dict, not JSON"),
            (b" [{\"a\": 1}]", "a JSON array"),
            (br#""{\"a\": 1}""#, "JSON encoded twice (a JSON string of JSON)"),
            (b"\"a\"", "a JSON string"),
            (b"-1.5", "a JSON number, true, false or null"),
            (b"<event><a>1</a></event>", "XML"),
            (b"eyJhIjogMX0=", "JSON in base64"),
            (b"1,a,2026-01-01", "CSV"),
            (b"a=1 b=2 c=3", "logfmt (key=value)"),
            (b"hello", "text that is no JSON"),
            (b"", "nothing (empty values)"),
            (b"\x82\xa1a\x01\xa1b\xc3", "MessagePack"),
            (b"\xa2\x61a\x01\x61b\xf5", "CBOR"),
            (b"\x0a\x03abc\x10\x96\x01", "Protobuf"),
            (b"\x0c\x00\x00\x00\x10a\x00\x01\x00\x00\x00\x00", "BSON"),
            (b"\xff\xfe{\x00", "text in UTF-16"),
            (b"Obj\x01\x04", "an Avro file"),
            (b"\xfe\xed\xfa", "binary data of an unknown format"),
            (b"\x00", "binary data of an unknown format"),
        ];
        for (value, name) in cases {
            assert_eq!(format_of(value, false), name, "{value:?}");
        }
    }

    #[test]
    fn envelopes_are_told_from_other_objects() {
        let cases: [(&[u8], &str); 4] = [
            (
                br#"{"schema": {}, "payload": {"op": "c"}}"#,
                "Kafka Connect's envelope of schema and payload (as of Debezium)",
            ),
            (br#"{"before": null, "after": {}, "op": "c"}"#, "Debezium's envelope of before and after"),
            (br#"{"specversion": "1.0", "data": {}}"#, "CloudEvents"),
            (b"{}", "JSON objects without a key that is a column of the table"),
        ];
        for (value, name) in cases {
            assert_eq!(format_of(value, true), name);
        }
    }

    #[test]
    fn a_text_that_begins_with_a_line_feed_is_no_protobuf() {
        assert!(!is_protobuf(b"\nplain text"));
        assert!(!is_protobuf(b"") && !is_protobuf(b"\x0a\x7f") && !is_protobuf(b"\x80\x80"));
    }
}
