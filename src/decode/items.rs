//! The items of an Array and the pairs of a Map, read one by one and within bounds: a list of all of them would take many
//! times the text.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::reject::Fault;
use super::value::item;
use crate::columns::Cells;

/// What the items of one value may take in the columns. Two bytes of text are an item, and that is as wide as its type: a
/// FixedString(N) has N bytes, whatever is in it.
///
/// Known from the text alone, not from the memory budget or from what the columns hold: a batch that is read again, perhaps
/// by another owner with another budget, must have the same rows.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    left: usize,
    /// A number among the items was rounded.
    pub(super) rounded: bool,
}

impl Room {
    /// Numbers of eight bytes fit however short they are written.
    pub(super) fn of(text: &str) -> Self {
        let most = text.len().saturating_mul(4).max(MOST_BYTES);
        Self { most, left: most, rounded: false }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let Some(left) = self.left.checked_sub(bytes) else {
            let most = self.most;
            return Err(Fault::range(format!("its items take more than the {most} bytes that they may take here")));
        };
        self.left = left;
        Ok(())
    }
}

/// What the items of any value may take.
const MOST_BYTES: usize = 8 << 20;

/// What a pair of a Map takes before it goes into the columns, at least.
const PAIR: usize = 96;

/// Appends the items of an array, read to its end. The error: it is none. The fault: that of the first bad item.
pub(super) fn array(text: &str, cells: &mut Cells, room: &mut Room) -> Result<Result<(), Fault>, serde_json::Error> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_seq(Items { cells, room, fault: &mut fault })?;
    json.end()?;
    Ok(fault.map_or(Ok(()), Err))
}

/// The pairs of an object, read to its end, in the object's order. Of a repeated key the last value counts, as everywhere, in
/// the place of the first: so Python and JavaScript read an object, too.
pub(super) fn pairs<'t>(text: &'t str, room: &mut Room) -> Result<Result<InOrder<'t>, Fault>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let pairs = json.deserialize_map(Pairs { room })?;
    json.end()?;
    Ok(pairs.map(|pairs| {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable_by_key(|(_, (place, _))| *place);
        pairs.into_iter().map(|(key, (_, raw))| (key, raw)).collect()
    }))
}

/// Keys and values in the object's order.
pub(super) type InOrder<'t> = Vec<(String, &'t RawValue)>;
/// Keys with their places and values.
type Placed<'t> = BTreeMap<String, (usize, &'t RawValue)>;

struct Items<'r> {
    cells: &'r mut Cells,
    room: &'r mut Room,
    /// The first that was found. The rest is read all the same: what is no JSON is no array, whatever comes before.
    fault: &'r mut Option<Fault>,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(raw) = list.next_element::<&RawValue>()? {
            if self.fault.is_none() {
                *self.fault = item(self.cells, raw.get(), self.room).err();
            }
        }
        Ok(())
    }
}

struct Pairs<'r> {
    room: &'r mut Room,
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = Result<Placed<'de>, Fault>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Ok(Placed::new());
        while let Some((key, raw)) = object.next_entry::<String, &RawValue>()? {
            if let Ok(held) = &mut pairs {
                match self.room.take(PAIR) {
                    Ok(()) => {
                        let place = held.len();
                        held.entry(key).or_insert((place, raw)).1 = raw;
                    }
                    Err(fault) => pairs = Err(fault),
                }
            }
        }
        Ok(pairs)
    }
}
