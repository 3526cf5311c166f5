//! The rules by which a JSON value becomes a value of a column, written down a second time: slowly, on texts, with
//! nothing from the program. See the README's table of JSON kinds and column families.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::Json;

#[path = "times.rs"]
mod times;

use times::{BILLION, nanos_of, time};

/// A column type.
#[derive(Debug, Clone)]
pub(crate) enum Type {
    Text,
    Fixed(usize),
    Bool,
    /// Bits, signed.
    Integer(u32, bool),
    Float32,
    Float64,
    /// Digits in all, digits behind the point.
    Decimal(usize, usize),
    Uuid,
    Date,
    Date32,
    /// Digits behind the second; none for DateTime.
    Time(Option<usize>),
    Enum(Vec<(&'static str, i16)>),
    Ipv4,
    Ipv6,
    Nullable(Box<Self>),
    List(Box<Self>),
    Map(Box<Self>),
    Json,
}

/// What a column holds, in a form in which equal means equal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Held {
    Null,
    Text(String),
    Float32(f32),
    Float64(f64),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    Json(Value),
}

/// The event is to be rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bad;

/// What becomes of a value; `Ok(None)` for a missing one.
pub(crate) fn convert(kind: &Type, json: &Json) -> Result<Option<Held>, Bad> {
    if let Type::Nullable(inner) = kind {
        return convert(inner, json);
    }
    let text = |text: String| Ok(Some(Held::Text(text)));
    match (kind, json) {
        (_, Json::Null) => Ok(None),
        (Type::Text, json) => text(spelling(json)),
        (Type::Fixed(width), json) => {
            let spelled = spelling(json);
            let padding = width.checked_sub(spelled.len()).ok_or(Bad)?;
            text(spelled + &"\0".repeat(padding))
        }
        (kind, Json::Text(empty)) if empty.is_empty() && !is_named_empty(kind) => Ok(None),
        (Type::Bool, json) => match json {
            Json::Bool(value) => text(value.to_string()),
            Json::Number(number) => match Exact::read(number).ok_or(Bad)?.plain().as_str() {
                "0" => text("false".to_owned()),
                "1" => text("true".to_owned()),
                _ => Err(Bad),
            },
            Json::Text(word) => match word.to_ascii_lowercase().as_str() {
                "0" | "false" => text("false".to_owned()),
                "1" | "true" => text("true".to_owned()),
                _ => Err(Bad),
            },
            _ => Err(Bad),
        },
        (Type::Integer(..), Json::Bool(value)) => text(u8::from(*value).to_string()),
        (Type::Integer(bits, signed), Json::Number(number) | Json::Text(number)) => {
            let number = Exact::read(number).ok_or(Bad)?;
            let (least, most) = bounds(*bits, *signed);
            let fits =
                number.is_whole() && if number.negative { !number.exceeds(&least) } else { !number.exceeds(&most) };
            if fits { text(number.plain()) } else { Err(Bad) }
        }
        (Type::Float64 | Type::Float32, Json::Number(number) | Json::Text(number)) => {
            let exact = Exact::read(number).is_some() || is_float(number);
            let wide: f64 = number.parse().map_err(|_| Bad)?;
            let narrow = nearest(number, wide as f32);
            match kind {
                _ if !exact || !wide.is_finite() => Err(Bad),
                Type::Float64 => Ok(Some(Held::Float64(wide))),
                _ if narrow.is_finite() => Ok(Some(Held::Float32(narrow))),
                _ => Err(Bad),
            }
        }
        (Type::Decimal(precision, scale), Json::Number(number) | Json::Text(number)) => {
            let mut exact = Exact::read(number).ok_or(Bad)?;
            if exact.decimals() > *scale && matches!(json, Json::Number(_)) {
                exact = exact.nearly(*scale, number).ok_or(Bad)?;
            }
            let number = exact;
            let fits = number.decimals() <= *scale && number.whole_digits() + scale <= *precision;
            if fits { text(number.plain()) } else { Err(Bad) }
        }
        (Type::Uuid, Json::Text(id)) => text(uuid(id).ok_or(Bad)?),
        (Type::Date | Type::Date32, Json::Number(date) | Json::Text(date)) => {
            let (first, last) = if matches!(kind, Type::Date) { (0, 65_535) } else { (-25_567, 120_529) };
            let fits = |days: &i64| (first..=last).contains(days);
            let counted = Exact::read(date).filter(|number| number.is_whole() && !date.starts_with('+'));
            let days = match counted.and_then(|number| number.plain().parse().ok()).filter(fits) {
                Some(days) => days,
                None => match time(date).ok_or(Bad)? {
                    (day, None) => day.signed_duration_since(chrono::NaiveDate::default()).num_days(),
                    (day, Some(clock)) => (nanos_of(day, clock).ok_or(Bad)? / BILLION / 86_400) as i64,
                },
            };
            let day = chrono::NaiveDate::default() + chrono::Duration::days(days);
            if fits(&days) { text(day.to_string()) } else { Err(Bad) }
        }
        (Type::Time(digits), Json::Number(number) | Json::Text(number)) => {
            let (day, clock) = time(number).ok_or(Bad)?;
            let nanos = nanos_of(day, clock.unwrap_or(0)).ok_or(Bad)?;
            let time =
                chrono::DateTime::from_timestamp((nanos / BILLION) as i64, (nanos % BILLION) as u32).ok_or(Bad)?;
            let whole = time.format("%FT%T").to_string();
            text(match digits {
                None | Some(0) => format!("{whole}Z"),
                Some(digits) => {
                    let fraction = format!("{:09}", nanos % BILLION);
                    format!("{whole}.{}Z", &fraction[..*digits])
                }
            })
        }
        (Type::Enum(members), Json::Text(name)) => {
            text(members.iter().find(|(known, _)| known == name).ok_or(Bad)?.0.to_owned())
        }
        (Type::Enum(members), Json::Number(number)) => {
            let value: i64 = number.parse().map_err(|_| Bad)?;
            text(members.iter().find(|(_, known)| i64::from(*known) == value).ok_or(Bad)?.0.to_owned())
        }
        (Type::Ipv4, Json::Text(address)) => text(address.parse::<std::net::Ipv4Addr>().map_err(|_| Bad)?.to_string()),
        (Type::Ipv6, Json::Text(address)) => {
            let address: std::net::IpAddr = address.parse().map_err(|_| Bad)?;
            text(match address {
                std::net::IpAddr::V4(old) => format!("::ffff:{old}"),
                std::net::IpAddr::V6(new) => new.to_string(),
            })
        }
        (Type::List(inner), Json::List(items)) => {
            Ok(Some(Held::List(items.iter().map(|item| filled(inner, item)).collect::<Result<_, _>>()?)))
        }
        (Type::Map(inner), Json::Object(pairs)) => {
            let mut map = BTreeMap::new();
            // Of a repeated key the last counts, and it alone.
            let last: BTreeMap<&String, &Json> = pairs.iter().map(|(key, value)| (key, value)).collect();
            for (key, value) in last {
                map.insert(key.clone(), filled(inner, value)?);
            }
            Ok(Some(Held::Map(map)))
        }
        (Type::Json, Json::Object(_)) => {
            Ok(Some(Held::Json(serde_json::from_str(&json.write()).map(server_json).map_err(|_| Bad)?)))
        }
        (Type::List(_), Json::Text(written)) => match Json::read(written).ok_or(Bad)? {
            list @ Json::List(_) => convert(kind, &list),
            _ => Err(Bad),
        },
        (Type::Map(_) | Type::Json, Json::Text(written)) => match Json::read(written).ok_or(Bad)? {
            object @ Json::Object(_) => convert(kind, &object),
            _ => Err(Bad),
        },
        _ => Err(Bad),
    }
}

/// An Enum with a member whose name is "".
fn is_named_empty(kind: &Type) -> bool {
    matches!(kind, Type::Enum(members) if members.iter().any(|(name, _)| name.is_empty()))
}

/// An item of a list or a map: a missing one is NULL where the type has it, else the type's zero.
fn filled(kind: &Type, json: &Json) -> Result<Held, Bad> {
    Ok(convert(kind, json)?.unwrap_or_else(|| zero(kind)))
}

/// What the server shows for the type's zero.
pub(crate) fn zero(kind: &Type) -> Held {
    Held::Text(match kind {
        Type::Nullable(_) => return Held::Null,
        Type::List(_) => return Held::List(Vec::new()),
        Type::Map(_) => return Held::Map(BTreeMap::new()),
        Type::Json => return Held::Json(Value::Object(serde_json::Map::new())),
        Type::Float32 => return Held::Float32(0.0),
        Type::Float64 => return Held::Float64(0.0),
        Type::Text => String::new(),
        Type::Fixed(width) => "\0".repeat(*width),
        Type::Bool => "false".to_owned(),
        Type::Integer(..) | Type::Decimal(..) => "0".to_owned(),
        Type::Uuid => "00000000-0000-0000-0000-000000000000".to_owned(),
        Type::Date | Type::Date32 => "1970-01-01".to_owned(),
        Type::Time(None | Some(0)) => "1970-01-01T00:00:00Z".to_owned(),
        Type::Time(Some(digits)) => format!("1970-01-01T00:00:00.{}Z", "0".repeat(*digits)),
        Type::Enum(members) => members.iter().min_by_key(|(_, value)| *value).map_or("", |(name, _)| name).to_owned(),
        Type::Ipv4 => "0.0.0.0".to_owned(),
        Type::Ipv6 => "::".to_owned(),
    })
}

/// What the server answered, in the same form.
pub(crate) fn answered(kind: &Type, value: &Value) -> Held {
    match (kind, value) {
        (Type::Nullable(_), Value::Null) => Held::Null,
        (Type::Nullable(inner), value) => answered(inner, value),
        (Type::List(inner), Value::Array(items)) => {
            Held::List(items.iter().map(|item| answered(inner, item)).collect())
        }
        (Type::Map(inner), Value::Object(pairs)) => {
            Held::Map(pairs.iter().map(|(key, value)| (key.clone(), answered(inner, value))).collect())
        }
        (Type::Json, value) => Held::Json(server_json(value.clone())),
        (Type::Float32, value) => Held::Float32(value.as_str().map_or(f32::NAN, |text| text.parse().unwrap())),
        (Type::Float64, value) => Held::Float64(value.as_str().map_or(f64::NAN, |text| text.parse().unwrap())),
        (_, Value::String(text)) => Held::Text(text.clone()),
        (_, other) => Held::Text(other.to_string()),
    }
}

/// A JSON column keeps paths, not texts: no NULLs, no empty objects, and numbers in lists may come back as texts.
fn server_json(value: Value) -> Value {
    match value {
        Value::Object(pairs) => Value::Object(
            pairs
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, server_json(value)))
                .filter(|(_, value)| value.as_object().is_none_or(|inner| !inner.is_empty()))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(server_json).collect()),
        Value::Number(number) => Value::String(number.to_string()),
        other => other,
    }
}

fn spelling(json: &Json) -> String {
    match json {
        Json::Text(text) => text.clone(),
        other => other.write(),
    }
}

/// A decimal number, exactly.
struct Exact {
    negative: bool,
    /// Without zeros at the left.
    whole: String,
    /// Without zeros at the right.
    fraction: String,
}

impl Exact {
    /// Reads `[+-]digits[.digits][e[+-]digits]`.
    fn read(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || mantissa.len() > 400 || exponent.abs() > 1000 {
            return None;
        }
        let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
        for _ in 0..exponent {
            whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
        }
        for _ in exponent..0 {
            fraction.insert(0, whole.pop().unwrap_or('0'));
        }
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }

    fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        if self.fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", self.fraction) }
    }

    /// The number rounded to so many digits after the point, if it is no further away than the next float is from the one
    /// that the text means. All of it digit by digit; a float has a last digit when written out far enough.
    fn nearly(&self, scale: usize, text: &str) -> Option<Self> {
        let float: f64 = text.parse::<f64>().ok()?.abs();
        let step = format!("{:.1100}", f64::from_bits(float.to_bits() + 1) - float);
        let (kept, dropped) = self.fraction.split_at(scale);
        let places = 1100;
        let padded = |whole: &str, fraction: &str| -> Vec<i8> {
            let digits = format!("{whole:0>400}{fraction:0<places$}");
            digits.bytes().map(|digit| (digit - b'0') as i8).collect()
        };
        let mut near = padded(&self.whole, kept);
        if dropped.as_bytes()[0] >= b'5' {
            let mut at = 400 + scale;
            loop {
                at -= 1;
                near[at] += 1;
                if near[at] < 10 {
                    break;
                }
                near[at] = 0;
            }
        }
        let exact = padded(&self.whole, &self.fraction);
        let (mut more, mut less) = (&near, &exact);
        if more < less {
            (more, less) = (less, more);
        }
        let mut away = more.clone();
        for at in (0..away.len()).rev() {
            away[at] -= less[at];
            if away[at] < 0 {
                away[at] += 10;
                away[at - 1] -= 1;
            }
        }
        let (whole, fraction) = step.split_once('.')?;
        if away > padded(whole, fraction) || near.iter().all(|digit| *digit == 0) {
            return None;
        }
        let text: String = near.iter().map(|digit| char::from(b'0' + *digit as u8)).collect();
        let (whole, fraction) = text.split_at(400);
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let negative = self.negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }

    fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }

    /// In the order of the numbers without their signs.
    fn magnitude(&self) -> (usize, &str, &str) {
        (self.whole.len(), &self.whole, &self.fraction)
    }

    fn decimals(&self) -> usize {
        self.fraction.len()
    }

    fn whole_digits(&self) -> usize {
        self.whole.len()
    }

    /// The magnitude is greater than that of a whole number without leading zeros.
    fn exceeds(&self, bound: &str) -> bool {
        let bound = bound.trim_start_matches('0');
        (self.whole.len(), self.whole.as_str()) > (bound.len(), bound)
    }
}

/// Magnitudes of the least and the greatest integer.
fn bounds(bits: u32, signed: bool) -> (String, String) {
    let mut power = vec![1_u8];
    for _ in 0..bits - u32::from(signed) {
        let mut carry = 0;
        for digit in &mut power {
            let doubled = *digit * 2 + carry;
            (*digit, carry) = (doubled % 10, doubled / 10);
        }
        if carry > 0 {
            power.push(carry);
        }
    }
    let least: String = power.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
    // A power of two never ends in 0.
    power[0] -= 1;
    let most: String = power.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
    (if signed { least } else { String::new() }, most)
}

/// The float nearest to a number by its digits, of `near` and those beside it; of two as near, the even one. `near` itself where
/// the digits are too many to be looked at.
fn nearest(number: &str, near: f32) -> f32 {
    let Some(number) = Exact::read(number) else { return near };
    // What is rounded up from the greatest float is this, in the arithmetic of the rule.
    let value = |float: f32| if float.is_finite() { f64::from(float) } else { 2_f64.powi(128) };
    let from_middle = |low: f32, high: f32| {
        // A Float64 holds what lies in the middle of two floats, and 150 digits behind the point write all of it.
        let middle = Exact::read(&format!("{:.150}", (value(low) + value(high)) / 2.0)).unwrap();
        match number.magnitude().cmp(&middle.magnitude()) {
            Ordering::Less => low,
            Ordering::Greater => high,
            Ordering::Equal if low.to_bits().is_multiple_of(2) => low,
            Ordering::Equal => high,
        }
    };
    let mut best = near.abs();
    if best.is_finite() {
        best = from_middle(best, best.next_up());
    }
    if best == near.abs() && best > 0.0 {
        best = from_middle(best.next_down(), best);
    }
    best.copysign(near)
}

/// What a float column reads beyond decimal numbers with a digit on each side of the point.
fn is_float(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

fn uuid(text: &str) -> Option<String> {
    let bare = text.strip_prefix("urn:uuid:").or_else(|| text.strip_prefix('{')?.strip_suffix('}')).unwrap_or(text);
    let hyphens: Vec<usize> = bare.match_indices('-').map(|(at, _)| at).collect();
    let hex: String = bare.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let shaped = hyphens == [8, 13, 18, 23] || (hyphens.is_empty() && bare.len() == text.len());
    if !shaped || hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
