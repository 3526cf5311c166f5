//! One JSON value into one column: lenient where nothing is lost, otherwise a fault.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use uuid::Uuid;

use super::items::{self, Room};
use super::paths;
use super::reject::{Class, Fault};
use super::time::{DATE, DATE32, Moment, TimeFault, day, day_of_count};
use crate::clickhouse::types::EnumMembers;
use crate::columns::{Cells, Column, DecimalFault, Fixed, whole};

/// A value as JSON has it. null never gets here: it is a missing value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    /// Any other number, as far as eight bytes hold it: only a Float64 takes it so.
    Float(f64),
    Text(&'a str),
    /// The JSON text of anything but a string.
    Json(&'a str),
    /// An object or an array whose text is not at hand.
    Composite,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// The column has one more row.
    Value,
    /// The same, with a number rounded to the scale of a Decimal.
    Rounded,
    /// "" in a column that is not of text and has no member of this name: no value. The column is as before.
    Missing,
    /// The column reads such a value from its JSON text: give it as [`Input::Json`]. The column is as before.
    NeedsText,
}

/// Appends a value to a column. After a fault the column is as before.
pub(super) fn store(column: &mut Column, input: Input<'_>) -> Result<Stored, Fault> {
    store_within(column, input, None)
}

/// The same for a value that may be an item of another, which then has its room.
fn store_within(column: &mut Column, input: Input<'_>, room: Option<&mut Room>) -> Result<Stored, Fault> {
    let is_text = column.is_text();
    let input = match input {
        Input::Composite if is_text => return Ok(Stored::NeedsText),
        // Eight bytes of float hold most numbers only nearly. Rounded again, to four bytes, they need not even be the
        // nearest float.
        Input::Float(_) if !matches!(column, Column::Float64(_)) => return Ok(Stored::NeedsText),
        Input::Text("") if !is_text && !names_member(column) => return Ok(Stored::Missing),
        Input::Text(_) => input,
        Input::Json(raw) if !is_text && !column.reads_json_text() => match raw.as_bytes().first() {
            Some(b't') => Input::Bool(true),
            Some(b'f') => Input::Bool(false),
            Some(b'{' | b'[') => Input::Composite,
            _ => input,
        },
        Input::Json(_) => input,
        _ if column.reads_json_text() => return Ok(Stored::NeedsText),
        other => other,
    };
    if matches!(input, Input::Composite) {
        return Err(Fault::invalid(format!("an object or array where {} belongs", kind(column))));
    }
    let mut rounded = false;
    match column {
        Column::String(strings) => with_text(input, |text| strings.push(text)),
        Column::LowCardinality(strings) => with_text(input, |text| strings.push(text)),
        Column::FixedString(strings) => {
            with_text(input, |text| strings.push(text)).map_err(|cause| Fault::range(cause.to_string()))?;
        }
        Column::Bool(values) => values.push([u8::from(boolean(input)?)]),
        Column::Integer(numbers) => {
            let number = integer(input)?;
            numbers.push(number).map_err(|cause| Fault::range(format!("{number} is {cause}")))?;
        }
        Column::Float32(values) => {
            let Some(number) = narrow(input) else {
                float(input)?;
                return Err(Fault::range(format!("{} does not fit a Float32", shown(input))));
            };
            values.push(number.to_le_bytes());
        }
        Column::Float64(values) => values.push(float(input)?.to_le_bytes()),
        Column::Uuid(values) => push_uuid(values, uuid(input)?),
        Column::Date(values) => {
            let days: u16 = date(input, &DATE, "1970-01-01 to 2149-06-06, or with a time of day 1970 to 2105")?;
            values.push(days.to_le_bytes());
        }
        Column::Date32(values) => {
            let days: i32 = date(input, &DATE32, "1900 to 2299, or with a time of day 1970 to 2105")?;
            values.push(days.to_le_bytes());
        }
        Column::DateTime(_) | Column::DateTime64 { .. } => {
            let moment = moment(input)?;
            push_moment(column, moment);
        }
        Column::Enum8 { members, values } => {
            let [low, _] = member(members, input)?.to_le_bytes();
            values.push([low]);
        }
        Column::Enum16 { members, values } => values.push(member(members, input)?.to_le_bytes()),
        Column::Ipv4(values) => {
            let address: Ipv4Addr = parsed(input, "an IPv4 address")?;
            values.push(u32::from(address).to_le_bytes());
        }
        Column::Ipv6(values) => {
            // An IPv4 address is taken as its mapped form, as the server does.
            let mapped = |text: &str| text.parse::<Ipv4Addr>().ok().map(|address| address.to_ipv6_mapped());
            let address = match input {
                Input::Text(text) if mapped(text).is_some() => mapped(text).unwrap_or(Ipv6Addr::UNSPECIFIED),
                other => parsed(other, "an IP address")?,
            };
            values.push(address.octets());
        }
        Column::Decimal(numbers) => {
            let text = match input {
                Input::Json("true") if numbers.is_integer() => "1",
                Input::Json("false") if numbers.is_integer() => "0",
                other => digits(other)?,
            };
            let mut pushed = numbers.push(text);
            // A number of JSON comes out of floats, where a text was written by somebody who keeps digits.
            if let (Err(DecimalFault::Lossy(_)), Input::Json(_), false) = (pushed, input, numbers.is_integer()) {
                pushed = numbers.push_nearest(text);
                rounded = true;
            }
            pushed.map_err(|cause| match cause {
                DecimalFault::Unreadable => unfit(input, "a number"),
                DecimalFault::TooLong => Fault::range(format!("{} has {cause}", shown(input))),
                DecimalFault::Lossy(_) => Fault::invalid(format!("{} has {cause}", shown(input))),
                DecimalFault::OutOfRange => Fault::range(format!("{} is {cause}", shown(input))),
            })?;
        }
        Column::Array(arrays) => {
            let text = digits(input)?;
            let mut whole = Room::of(text);
            let room = room.unwrap_or(&mut whole);
            arrays.push(|cells| items::array(text, cells, room).map_err(|cause| unread(input, '[', &cause))?)?;
            rounded = room.rounded;
        }
        Column::Map(maps) => {
            let text = digits(input)?;
            let mut whole = Room::of(text);
            let room = room.unwrap_or(&mut whole);
            let pairs = items::pairs(text, room).map_err(|cause| unread(input, '{', &cause))??;
            maps.push(|keys, values| {
                pairs.iter().try_for_each(|(key, raw)| {
                    keys.push(key.as_bytes());
                    item(values, raw.get(), room)
                })
            })?;
            rounded = room.rounded;
        }
        Column::Json(texts) => {
            let text = trimmed(digits(input)?);
            if !text.starts_with('{') {
                return Err(unfit(input, "an object"));
            }
            if depth(text) > MAX_DEPTH {
                let reason = format!("an object nested deeper than {MAX_DEPTH}");
                return Err(Fault { class: Class::TooDeep, reason });
            }
            paths::check(text)
                .map_err(|cause| Fault::invalid(format!("{} cannot be stored: {cause}", shown(input))))?;
            texts.push(text.as_bytes());
        }
    }
    Ok(if rounded { Stored::Rounded } else { Stored::Value })
}

/// Appends the first `length` bytes of `from`, if they are an id or a time in the form that most producers write, to a
/// column of those: what [`store`] does, on the short way. False and nothing for anything else.
pub(super) fn store_usual(column: &mut Column, from: &[u8], length: usize) -> bool {
    match column {
        Column::Uuid(values) if length == uuid::fmt::Hyphenated::LENGTH => {
            let parsed = from.get(..length).and_then(|text| Uuid::try_parse_ascii(text).ok());
            parsed.inspect(|uuid| push_uuid(values, *uuid)).is_some()
        }
        Column::DateTime(_) | Column::DateTime64 { .. } if length == Moment::USUAL => {
            let moment = from.first_chunk().and_then(Moment::usual);
            moment.is_some_and(|moment| push_moment(column, moment))
        }
        _ => false,
    }
}

/// The same for a bool or a whole number that fits.
pub(super) fn store_plain(column: &mut Column, input: Input<'_>) -> bool {
    match (column, input) {
        (Column::Bool(values), Input::Bool(value)) => values.push([u8::from(value)]),
        (Column::Integer(numbers), Input::Unsigned(number)) => return numbers.push(i128::from(number)).is_ok(),
        _ => return false,
    }
    true
}

/// Appends a UUID: two numbers of eight bytes, the upper half first, each little-endian.
pub(super) fn push_uuid(values: &mut Fixed<16>, uuid: Uuid) {
    let (high, low) = uuid.as_u64_pair();
    values.push(((u128::from(low) << 64) | u128::from(high)).to_le_bytes());
}

/// Appends a point in time to a DateTime or DateTime64 column; false and nothing for any other.
pub(super) fn push_moment(column: &mut Column, moment: Moment) -> bool {
    match column {
        Column::DateTime(values) => values.push(moment.seconds().to_le_bytes()),
        Column::DateTime64 { precision, ticks } => ticks.push(moment.ticks(*precision).to_le_bytes()),
        _ => return false,
    }
    true
}

/// Replaces the point in time of a row.
pub(super) fn set_moment(column: &mut Column, row: usize, moment: Moment) {
    match column {
        Column::DateTime(values) => values.set(row, moment.seconds().to_le_bytes()),
        Column::DateTime64 { precision, ticks } => ticks.set(row, moment.ticks(*precision).to_le_bytes()),
        _ => {}
    }
}

/// The text of a value that is read from it.
fn digits<'a>(input: Input<'a>) -> Result<&'a str, Fault> {
    match input {
        Input::Text(text) | Input::Json(text) => Ok(text),
        other => Err(unfit(other, "given as JSON text")),
    }
}

/// Appends an item of an Array or a Map.
pub(super) fn item(items: &mut Cells, raw: &str, room: &mut Room) -> Result<(), Fault> {
    room.take(items.column().width())?;
    let text: String;
    let input = match raw.as_bytes().first() {
        Some(b'n') => {
            items.push_missing();
            return Ok(());
        }
        Some(b'"') => {
            text = serde_json::from_str(raw).map_err(|cause| Fault::invalid(cause.to_string()))?;
            Input::Text(&text)
        }
        _ => Input::Json(raw),
    };
    let filled = items.push(|column| {
        let stored = store_within(column, input, Some(&mut *room))?;
        room.rounded |= stored == Stored::Rounded;
        Ok::<_, Fault>(matches!(stored, Stored::Value | Stored::Rounded))
    })?;
    if !filled {
        items.push_missing();
    }
    Ok(())
}

/// A text without what JSON takes for white space around it; a form feed, which Rust would strip, too, is none.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// How deep an event may nest, its own braces included; an object in a string likewise.
pub(super) const MAX_DEPTH: usize = 64;

/// Levels of brackets in a JSON text.
pub(super) fn depth(raw: &str) -> usize {
    if !raw.starts_with(['{', '[']) {
        return 0;
    }
    let (mut level, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in raw.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !quoted => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn with_text<T>(input: Input<'_>, push: impl FnOnce(&[u8]) -> T) -> T {
    match input {
        Input::Text(text) | Input::Json(text) => push(text.as_bytes()),
        Input::Bool(true) => push(b"true"),
        Input::Bool(false) => push(b"false"),
        Input::Unsigned(number) => push(number.to_string().as_bytes()),
        Input::Signed(number) => push(number.to_string().as_bytes()),
        // Asked for as JSON text before it comes here.
        Input::Float(number) => push(number.to_string().as_bytes()),
        Input::Composite => push(b""),
    }
}

fn boolean(input: Input<'_>) -> Result<bool, Fault> {
    match input {
        Input::Bool(value) => Ok(value),
        Input::Unsigned(0) => Ok(false),
        Input::Unsigned(1) => Ok(true),
        Input::Json(number) if whole(number) == Ok(0) => Ok(false),
        Input::Json(number) if whole(number) == Ok(1) => Ok(true),
        Input::Text(text) if text == "0" || text.eq_ignore_ascii_case("false") => Ok(false),
        Input::Text(text) if text == "1" || text.eq_ignore_ascii_case("true") => Ok(true),
        other => Err(unfit(other, "true, false, 0 or 1")),
    }
}

fn integer(input: Input<'_>) -> Result<i128, Fault> {
    match input {
        Input::Unsigned(number) => Ok(i128::from(number)),
        Input::Signed(number) => Ok(i128::from(number)),
        Input::Bool(value) => Ok(i128::from(value)),
        Input::Text(text) | Input::Json(text) => whole(text).map_err(|fault| match fault {
            DecimalFault::OutOfRange => Fault::range(format!("{} is beyond any integer here", shown(input))),
            DecimalFault::TooLong => Fault::range(format!("{} has {fault}", shown(input))),
            DecimalFault::Unreadable | DecimalFault::Lossy(_) => unfit(input, "an integer"),
        }),
        Input::Float(_) | Input::Composite => Err(unfit(input, "an integer")),
    }
}

fn float(input: Input<'_>) -> Result<f64, Fault> {
    let found = match input {
        Input::Unsigned(number) => Some(number as f64),
        Input::Signed(number) => Some(number as f64),
        Input::Float(number) => Some(number),
        Input::Text(text) | Input::Json(text) => numeric(text),
        Input::Bool(_) | Input::Composite => None,
    };
    match found {
        Some(number) if number.is_finite() => Ok(number),
        Some(_) => Err(Fault::range(format!("{} does not fit a Float64", shown(input)))),
        None => Err(unfit(input, "a number")),
    }
}

/// The nearest float of four bytes, rounded once, if there is one.
fn narrow(input: Input<'_>) -> Option<f32> {
    let found = match input {
        Input::Unsigned(number) => Some(number as f32),
        Input::Signed(number) => Some(number as f32),
        Input::Text(text) | Input::Json(text) => numeric(text),
        Input::Bool(_) | Input::Float(_) | Input::Composite => None,
    };
    found.filter(|number| number.is_finite())
}

/// A text that is a number; the standard parser alone would also take "inf" and "nan".
fn numeric<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { text.parse().ok() } else { None }
}

fn uuid(input: Input<'_>) -> Result<Uuid, Fault> {
    match input {
        Input::Text(text) => Uuid::try_parse(text).map_err(|_| unfit(input, "a UUID")),
        other => Err(unfit(other, "a UUID")),
    }
}

fn moment(input: Input<'_>) -> Result<Moment, Fault> {
    let found = match input {
        Input::Text(text) | Input::Json(text) => Moment::parse(text),
        Input::Unsigned(number) => Moment::from_count(number.into()),
        Input::Signed(number) => Moment::from_count(number.into()),
        Input::Bool(_) | Input::Float(_) | Input::Composite => Err(TimeFault::Unreadable),
    };
    found.map_err(|fault| untimely(input, fault, "1970 to 2105"))
}

/// Days since 1970, for a column that holds those of `range`; `span` is the same in words.
fn date<T: TryFrom<i64>>(input: Input<'_>, range: &RangeInclusive<i64>, span: &str) -> Result<T, Fault> {
    let found = match input {
        Input::Text(text) | Input::Json(text) => day(text, range),
        Input::Unsigned(number) => day_of_count(number.into(), range),
        Input::Signed(number) => day_of_count(number.into(), range),
        Input::Bool(_) | Input::Float(_) | Input::Composite => Err(TimeFault::Unreadable),
    };
    let days = found.and_then(|days| T::try_from(days).map_err(|_| TimeFault::OutOfRange));
    days.map_err(|fault| untimely(input, fault, span))
}

fn untimely(input: Input<'_>, fault: TimeFault, span: &str) -> Fault {
    let shown = shown(input);
    match fault {
        TimeFault::Unreadable => unfit(input, "a time (RFC 3339 or 2822, YYYYMMDD, or a count since 1970)"),
        TimeFault::OutOfRange => Fault::range(format!("{shown} is outside {span}")),
        TimeFault::Small => Fault::range(format!("{shown} is not a time: as seconds since 1970 it ends within 1970")),
    }
}

fn member(members: &EnumMembers, input: Input<'_>) -> Result<i16, Fault> {
    let found = match input {
        Input::Text(text) => members.value(text),
        Input::Unsigned(number) => i16::try_from(number).ok().filter(|value| members.has(*value)),
        Input::Signed(number) => i16::try_from(number).ok().filter(|value| members.has(*value)),
        Input::Json(number) => number.parse().ok().filter(|value| members.has(*value)),
        _ => None,
    };
    found.ok_or_else(|| unfit(input, "a member of the Enum"))
}

/// "" is the name of a member.
fn names_member(column: &Column) -> bool {
    match column {
        Column::Enum8 { members, .. } | Column::Enum16 { members, .. } => members.value("").is_some(),
        _ => false,
    }
}

fn parsed<T: std::str::FromStr>(input: Input<'_>, what: &str) -> Result<T, Fault> {
    match input {
        Input::Text(text) => text.parse().map_err(|_| unfit(input, what)),
        other => Err(unfit(other, what)),
    }
}

/// Something that is no array or object, or one that cannot be read to its end.
fn unread(input: Input<'_>, bracket: char, cause: &serde_json::Error) -> Fault {
    let what = if bracket == '[' { "an array" } else { "an object" };
    match input {
        Input::Text(text) | Input::Json(text) if trimmed(text).starts_with(bracket) => {
            Fault::invalid(format!("{} cannot be read as {what}: {cause}", shown(input)))
        }
        _ => unfit(input, what),
    }
}

fn unfit(input: Input<'_>, what: &str) -> Fault {
    Fault::invalid(format!("{} is not {what}", shown(input)))
}

/// A value in an error, at most 60 characters of it.
fn shown(input: Input<'_>) -> String {
    let clipped = |text: &str| {
        let mut out: String = text.chars().take(60).collect();
        if out.len() < text.len() {
            out.push('…');
        }
        out
    };
    match input {
        Input::Bool(value) => value.to_string(),
        Input::Unsigned(number) => number.to_string(),
        Input::Signed(number) => number.to_string(),
        Input::Float(number) => number.to_string(),
        Input::Text(text) => format!("{:?}", clipped(text)),
        Input::Json(text) => clipped(text),
        Input::Composite => "an object or array".to_owned(),
    }
}

fn kind(column: &Column) -> &'static str {
    match column {
        Column::String(_) | Column::LowCardinality(_) | Column::FixedString(_) => "a text",
        Column::Bool(_) => "true or false",
        Column::Integer(_) => "an integer",
        Column::Float32(_) | Column::Float64(_) => "a number",
        Column::Uuid(_) => "a UUID",
        Column::Date(_) | Column::Date32(_) => "a date",
        Column::DateTime(_) | Column::DateTime64 { .. } => "a time",
        Column::Enum8 { .. } | Column::Enum16 { .. } => "a member of the Enum",
        Column::Ipv4(_) | Column::Ipv6(_) => "an IP address",
        Column::Decimal(_) => "a number",
        Column::Array(_) => "an array",
        Column::Map(_) | Column::Json(_) => "an object",
    }
}
