//! The meaning of an event: serde_json walks the object, values go straight into the columns.
//!
//! Keys are looked at where they lie in the text. A value that does not fit is noted and the walk goes on, because the
//! same key may come again further on, and then only that last value counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;

use fast_mem::equal_bytes;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::reject::Fault;
use super::rows::UnknownKeys;
use super::value::{Input, MAX_DEPTH, Stored, depth, store, store_plain, store_usual};
use crate::clickhouse::schema::Schema;
use crate::columns::{Cells, Column};

/// Finds the column of a key.
#[derive(Debug)]
pub(super) struct Keys {
    by_name: HashMap<Box<str>, usize>,
    /// What came behind each column last time, and at the very end what came behind the brace: producers write their keys
    /// in one order, and a key that is left out now and then disturbs only its neighbours.
    next: Vec<Expected>,
    /// Values under this key are ours to give.
    ours: Option<usize>,
}

/// A key in its quotes and with the colon, as an event has it.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) column: usize,
    /// Bytes of it.
    pub(super) length: usize,
    text: [u8; KEY],
    /// Bits of the bytes of `text` that count. More than there are where it must be looked up each time: a long name, one
    /// that an event has only with escapes, and that of the column whose values are ours to give.
    marks: u64,
}

/// Longer keys are looked up each time.
const KEY: usize = 32;

impl Expected {
    fn new(column: usize, name: &str, looked_up: bool) -> Self {
        let quoted = format!("\"{name}\":");
        let mut text = [0; KEY];
        for (text, byte) in text.iter_mut().zip(quoted.bytes()) {
            *text = byte;
        }
        let escaped = name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
        let never = looked_up || escaped || quoted.len() > KEY;
        let marks = if never { u64::MAX } else { (1 << quoted.len()) - 1 };
        Self { column, length: quoted.len(), text, marks }
    }

    /// Whether an event goes on with this key. All bytes are looked at, which takes a few instructions for sixteen of them;
    /// a search for the first difference would take a branch for each.
    #[inline(always)]
    pub(super) fn begins(&self, front: &[u8; KEY]) -> bool {
        self.marks & !u64::from(equal_bytes(front, &self.text)) == 0
    }

    fn name(&self) -> Option<&[u8]> {
        self.text.get(1..self.length.checked_sub(2)?)
    }
}

impl Keys {
    pub(super) fn new(schema: &Schema, ours: Option<usize>) -> Self {
        let names = schema.columns.iter().map(|column| column.name.as_str()).enumerate();
        let mut next: Vec<Expected> =
            names.clone().map(|(at, name)| Expected::new(at, name, ours == Some(at))).collect();
        // Behind the brace comes the first column, behind it the second.
        if let Some(first) = next.first().cloned() {
            next.rotate_left(1);
            next.push(first);
        }
        Self { by_name: names.map(|(at, name)| (name.into(), at)).collect(), next, ours }
    }

    /// What is `previous` to the first key: no column.
    pub(super) fn before_all(&self) -> usize {
        self.next.len().saturating_sub(1)
    }

    /// What came behind `previous` last time.
    #[inline(always)]
    pub(super) fn expected(&self, previous: usize) -> Option<&Expected> {
        self.next.get(previous)
    }

    /// The column of a key, which becomes `previous`.
    pub(super) fn find(&mut self, previous: &mut usize, key: &str) -> Option<usize> {
        let expected = self.next.get_mut(*previous)?;
        let found = if expected.name() == Some(key.as_bytes()) { expected.column } else { *self.by_name.get(key)? };
        if expected.column != found {
            *expected = Expected::new(found, key, self.ours == Some(found));
        }
        *previous = found;
        Some(found)
    }

    /// Whether values of this column are ours to give.
    #[inline(always)]
    pub(super) fn is_ours(&self, column: usize) -> bool {
        self.ours == Some(column)
    }
}

/// One walk over one event.
#[derive(Debug)]
pub(super) struct Walk<'r> {
    pub(super) keys: &'r mut Keys,
    pub(super) cells: &'r mut [Cells],
    /// The row being filled: rows before this event.
    pub(super) row: usize,
    /// Columns whose values are taken as JSON text: those read from it, and others once they had a value that must be.
    pub(super) as_text: &'r mut [bool],
    /// Values that did not fit, by column; at most one each.
    pub(super) faults: &'r mut Vec<(usize, Fault)>,
    /// Columns whose value was rounded to the scale of a Decimal.
    pub(super) rounded: &'r mut Vec<usize>,
    /// Columns with a value in this row.
    pub(super) filled: usize,
    /// Columns that always get a value: naming them makes no event of this table.
    pub(super) always: [Option<usize>; 2],
    /// Another column is named without a value.
    pub(super) names_one: bool,
    /// Keys without a column; not in a second walk, which would count them twice.
    pub(super) unknown: Option<&'r mut UnknownKeys>,
    /// A column was found whose value must be taken as JSON text: walk again.
    pub(super) again: bool,
    /// A value nests deeper than [`MAX_DEPTH`].
    pub(super) too_deep: bool,
    /// An object or array was passed over whose depth is not known.
    pub(super) unmeasured: bool,
}

impl Walk<'_> {
    /// Walks an object and nothing behind it.
    pub(super) fn run(&mut self, text: &str) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        Event(self).deserialize(&mut json)?;
        json.end()?;
        self.too_deep |= self.unmeasured && depth(text) > MAX_DEPTH;
        Ok(())
    }

    /// Values of this column are taken as JSON text.
    #[inline(always)]
    pub(super) fn takes_text(&self, column: usize) -> bool {
        self.as_text.get(column) == Some(&true)
    }

    /// The column takes the JSON text of an object or array.
    pub(super) fn keeps_json(&self, column: usize) -> bool {
        self.takes_text(column) || self.cells.get(column).is_some_and(|cells| cells.column().is_text())
    }

    /// The first `length` bytes of `from`, which are UTF-8, into a column that has neither a value nor a fault yet; false
    /// and nothing where that takes more than a copy: then [`Walk::set`] knows what to do. That there is no fault is the
    /// caller's to know.
    #[inline(always)]
    pub(super) fn set_front(&mut self, column: usize, from: &[u8], length: usize) -> bool {
        let Some(cells) = self.cells.get_mut(column) else { return false };
        let pushed = cells.len() == self.row && (cells.push_text(from, length) || push_usual(cells, from, length));
        self.filled += usize::from(pushed);
        pushed
    }

    /// The same for a value that is no string.
    pub(super) fn set_plain(&mut self, column: usize, input: Input<'_>) -> bool {
        let Some(cells) = self.cells.get_mut(column) else { return false };
        let push = |values: &mut Column| Ok::<_, Infallible>(store_plain(values, input));
        let pushed = cells.len() == self.row && cells.push(push) == Ok(true);
        self.filled += usize::from(pushed);
        pushed
    }

    pub(super) fn set(&mut self, column: usize, input: Option<Input<'_>>) {
        let Some(cells) = self.cells.get_mut(column) else { return };
        self.filled -= cells.len().saturating_sub(self.row);
        cells.truncate(self.row);
        if !self.faults.is_empty() {
            self.faults.retain(|(at, _)| *at != column);
        }
        if !self.rounded.is_empty() {
            self.rounded.retain(|at| *at != column);
        }
        let mut found = Stored::Missing;
        if let Some(input) = input {
            let pushed = cells.push(|values| {
                found = store(values, input)?;
                Ok(matches!(found, Stored::Value | Stored::Rounded))
            });
            if let Err(fault) = pushed {
                self.faults.push((column, fault));
                return;
            }
        }
        match found {
            Stored::Value => self.filled += 1,
            Stored::Rounded => {
                self.rounded.push(column);
                self.filled += 1;
            }
            // Told from a key that is not there: that one gets the DEFAULT.
            Stored::Missing if cells.stores_null() => {
                cells.push_null();
                self.filled += 1;
            }
            Stored::Missing => self.names_one |= !self.always.contains(&Some(column)),
            Stored::NeedsText => {
                if let Some(as_text) = self.as_text.get_mut(column) {
                    *as_text = true;
                    self.again = true;
                }
            }
        }
    }

    /// A value of a text column, as it stands in the event.
    pub(super) fn set_text(&mut self, column: usize, raw: &str) -> Result<(), serde_json::Error> {
        let inside = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match inside {
            Some(plain) if !plain.contains('\\') => self.set(column, Some(Input::Text(plain))),
            Some(_) => {
                let text: String = serde_json::from_str(raw)?;
                self.set(column, Some(Input::Text(&text)));
            }
            None if raw == "null" => self.set(column, None),
            None => {
                self.too_deep |= depth(raw) >= MAX_DEPTH;
                self.set(column, Some(Input::Json(raw)));
            }
        }
        Ok(())
    }
}

#[inline(never)]
fn push_usual(cells: &mut Cells, from: &[u8], length: usize) -> bool {
    cells.push(|values| Ok::<_, Infallible>(store_usual(values, from, length))) == Ok(true)
}

/// The event itself.
struct Event<'w, 'r>(&'w mut Walk<'r>);

impl<'de> DeserializeSeed<'de> for Event<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Event<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let walk = self.0;
        let mut previous = walk.keys.before_all();
        while let Some(key) = map.next_key_seed(KeySeed { walk, previous: &mut previous })? {
            match key {
                Key::Column(column) if walk.takes_text(column) => {
                    let raw: &RawValue = map.next_value()?;
                    walk.set_text(column, raw.get()).map_err(A::Error::custom)?;
                }
                Key::Column(column) => map.next_value_seed(Cell { walk, column })?,
                Key::Ours | Key::Unknown => {
                    let raw: &RawValue = map.next_value()?;
                    walk.too_deep |= depth(raw.get()) >= MAX_DEPTH;
                }
            }
        }
        Ok(())
    }
}

enum Key {
    Column(usize),
    Ours,
    Unknown,
}

struct KeySeed<'w, 'r> {
    walk: &'w mut Walk<'r>,
    previous: &'w mut usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_> {
    type Value = Key;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_, '_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match self.walk.keys.find(self.previous, key) {
            Some(column) if self.walk.keys.is_ours(column) => Key::Ours,
            Some(column) => Key::Column(column),
            None => {
                if let Some(unknown) = &mut self.walk.unknown {
                    unknown.count(key);
                }
                Key::Unknown
            }
        })
    }
}

/// A value of a column.
struct Cell<'w, 'r> {
    walk: &'w mut Walk<'r>,
    column: usize,
}

impl Cell<'_, '_> {
    fn set<E>(self, input: Input<'_>) -> Result<(), E> {
        self.walk.set(self.column, Some(input));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.walk.set(self.column, None);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Input::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(Input::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Input::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Input::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(Input::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.walk.unmeasured = true;
        self.walk.set(self.column, Some(Input::Composite));
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.walk.unmeasured = true;
        self.walk.set(self.column, Some(Input::Composite));
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
