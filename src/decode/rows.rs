//! The open rows of one batch: events in, one Native block out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::IgnoredAny;
use uuid::{Uuid, uuid};

use super::reject::{Class, Fault, Reject};
use super::scan::{self, scan};
use super::time::Moment;
use super::value::{MAX_DEPTH, push_moment, push_uuid, set_moment, trimmed};
use super::visit::{Keys, Walk};
use crate::clickhouse::block::Block;
use crate::clickhouse::compress::Frames;
use crate::clickhouse::presence::EVENT_ID;
use crate::clickhouse::schema::{Schema, SchemaColumn};
use crate::clickhouse::types::DataType;
use crate::columns::{Cells, Column, Missing};
use crate::config::Compression;

/// Where all events of a batch come from. Part of the ids given to events without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The topic.
    pub topic: String,
}

/// Where one event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970; -1 for none.
    pub timestamp_ms: i64,
}

/// Keys of events that no column has, with how often they came. Only so many names are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownKeys {
    counts: BTreeMap<String, u64>,
    /// Keys beyond the names that are kept.
    pub others: u64,
    unreported: Vec<String>,
    seen: u64,
}

impl UnknownKeys {
    /// Names and counts.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// The names seen for the first time since the last call.
    pub fn take_new(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unreported)
    }

    /// How often any came since the last call.
    pub fn take_seen(&mut self) -> u64 {
        std::mem::take(&mut self.seen)
    }

    pub(super) fn count(&mut self, key: &str) {
        self.seen += 1;
        if let Some(count) = self.counts.get_mut(key) {
            *count += 1;
        } else if self.counts.len() < MAX_UNKNOWN && key.len() <= MAX_UNKNOWN_BYTES {
            self.counts.insert(key.to_owned(), 1);
            self.unreported.push(key.to_owned());
        } else {
            self.others += 1;
        }
    }
}

/// Rows between two counts of the columns' bytes.
const COUNT_EVERY: usize = 32;
/// An event after which they are counted at once.
const LARGE: usize = 16 * 1024;
const NO_COLUMN: &str = "none of its keys is a column of the table";
const MAX_UNKNOWN: usize = 64;
const MAX_UNKNOWN_BYTES: usize = 256;

/// The open columns of one batch.
#[derive(Debug)]
pub struct Rows {
    schema: Arc<Schema>,
    origin: Origin,
    cells: Vec<Cells>,
    rows: usize,
    /// Columns whose DEFAULT rows ask for by leaving the column out of their block, and how many blocks that makes.
    asking: Vec<usize>,
    blocks: usize,
    held: usize,
    keys: Keys,
    as_text: Vec<bool>,
    faults: Vec<(usize, Fault)>,
    /// Columns of the event being read whose value was rounded, and how many such values the rows hold.
    rounded: Vec<usize>,
    rounded_values: u64,
    unknown: UnknownKeys,
    scratch: scan::Scratch,
    /// Events go through the fast path first. Off only where a test compares the two.
    fast: bool,
    /// Events that the fast path left to serde_json.
    fell_back: u64,
    /// Columns with a meaning of their own, where their type fits.
    event_id: Option<usize>,
    event_time: Option<usize>,
    ingested_at: Option<usize>,
    /// Rows whose event_time is the time of encoding, because neither the event nor its record had one.
    untimed: Vec<usize>,
    frames: Frames,
    /// Bytes of room that the columns may keep from batch to batch.
    keeps: usize,
    /// Objects of which no key is a column are no events of the table.
    needs_a_column: bool,
}

/// The namespace of the ids given to events without one. Never changes: a replay must give the same ids.
const NAMESPACE: Uuid = uuid!("0fd44c70-9117-4325-a5c2-46c6a55d671f");

impl Rows {
    /// No rows yet, for a table and a topic.
    pub fn new(schema: &Arc<Schema>, origin: Origin) -> Self {
        let named = |name: &str, fits: fn(&DataType) -> bool| {
            schema.columns.iter().position(|column| column.name == name && fits(column.data_type.bare()))
        };
        let is_time = |data_type: &DataType| matches!(data_type, DataType::DateTime | DataType::DateTime64(_));
        let ingested_at = named("ingested_at", is_time);
        let event_id = named("event_id", |data_type| matches!(data_type, DataType::Uuid));
        let event_time = named("event_time", is_time);
        let ours = [event_id, event_time, ingested_at];
        let cells: Vec<Cells> =
            (0..).zip(&schema.columns).map(|(at, column)| cells_of(column, ours.contains(&Some(at)))).collect();
        let asking = (0..).zip(&cells).filter(|(_, cells)| cells.asks_by_block()).map(|(at, _)| at).collect();
        Self {
            origin,
            as_text: cells.iter().map(|cells| cells.column().reads_json_text()).collect(),
            cells,
            rows: 0,
            asking,
            blocks: 0,
            held: 0,
            keys: Keys::new(schema, ingested_at),
            faults: Vec::new(),
            rounded: Vec::new(),
            rounded_values: 0,
            unknown: UnknownKeys::default(),
            scratch: scan::Scratch::default(),
            fast: true,
            fell_back: 0,
            event_id,
            event_time,
            ingested_at,
            untimed: Vec::new(),
            frames: Frames::new(Compression::Lz4),
            keeps: usize::MAX,
            needs_a_column: false,
            schema: Arc::clone(schema),
        }
    }

    /// The same with something else in the frames of its blocks than LZ4.
    #[must_use]
    pub fn compressed(self, compression: Compression) -> Self {
        Self { frames: Frames::new(compression), ..self }
    }

    /// The same with no more than so many bytes of room kept in its columns from batch to batch.
    #[must_use]
    pub fn keeping(self, bytes: usize) -> Self {
        Self { keeps: bytes, ..self }
    }

    /// The same, and an object of which no key is a column is rejected: the columns that always get a value would make a
    /// row of anything. A table of such columns alone takes every object.
    #[must_use]
    pub fn needing_a_column(self) -> Self {
        let always = [self.event_id, self.event_time, self.ingested_at].iter().flatten().count();
        Self { needs_a_column: self.cells.len() > always, ..self }
    }

    /// Appends an event as one row, or says why it cannot; then the rows are as before.
    pub fn push(&mut self, place: &Place, value: &[u8]) -> Result<(), Reject> {
        match self.walk(value) {
            Ok(filled) => self.complete(place, filled),
            Err(reject) => {
                for cells in &mut self.cells {
                    cells.truncate(self.rows);
                }
                return Err(reject);
            }
        }
        let mut asking = self.asking.iter().filter_map(|at| self.cells.get(*at));
        if self.rows == 0 || asking.any(|cells| cells.asks(self.rows) != cells.asks(self.rows - 1)) {
            self.blocks += 1;
        }
        self.rounded_values += self.rounded.len() as u64;
        self.rows += 1;
        // Counting the columns for each event would cost as much as filling them; between two counts an event is taken
        // to become no more bytes than it has.
        self.held += value.len();
        if self.rows.is_multiple_of(COUNT_EVERY) || value.len() > LARGE {
            self.held = self.cells.iter().map(Cells::bytes).sum();
        }
        Ok(())
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Blocks that they make.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// No rows held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes the rows take, about.
    pub fn bytes(&self) -> usize {
        self.held
    }

    /// Keys that no column has.
    pub fn unknown_keys(&mut self) -> &mut UnknownKeys {
        &mut self.unknown
    }

    /// Events that took the slower way, since the start.
    pub fn fell_back(&self) -> u64 {
        self.fell_back
    }

    #[cfg(test)]
    pub(super) fn only_serde(&mut self) {
        self.fast = false;
    }

    /// The event_id of each row as the server writes it; empty where a row has none. Nothing without such a column.
    pub fn event_ids(&self) -> Vec<String> {
        let at = self.schema.columns.iter().position(|column| column.name == EVENT_ID);
        let Some(cells) = at.and_then(|at| self.cells.get(at)) else { return Vec::new() };
        let mut bytes = Vec::new();
        match cells.column() {
            Column::Uuid(_) => {
                cells.column().encode(None, 0..self.rows, &mut |part| bytes.extend_from_slice(part));
                let half = |half: &[u8]| half.try_into().map_or(0, u64::from_le_bytes);
                let text =
                    |id: &[u8]| id.split_at_checked(8).map(|(high, low)| Uuid::from_u64_pair(half(high), half(low)));
                bytes.chunks(16).map(|id| text(id).map_or_else(String::new, |id| id.to_string())).collect()
            }
            Column::String(_) => {
                cells.column().encode(None, 0..self.rows, &mut |part| bytes.extend_from_slice(part));
                texts(&bytes)
            }
            _ => Vec::new(),
        }
    }

    /// Encodes the rows and starts over, as [`Rows::clear`] does. `now` becomes their ingested_at.
    pub fn encode(&mut self, now: SystemTime) -> Block {
        let now = Moment::from_clock(now);
        if let Some(cells) = self.ingested_at.and_then(|at| self.cells.get_mut(at)) {
            for row in 0..self.rows {
                set_moment(cells.column_mut(), row, now);
            }
        }
        if let Some(cells) = self.event_time.and_then(|at| self.cells.get_mut(at)) {
            for row in &self.untimed {
                set_moment(cells.column_mut(), *row, now);
            }
        }
        let block = Block::encode(&self.schema, &self.cells, self.rows, &mut self.frames);
        let block = Block { rounded: self.rounded_values, ..block };
        self.clear();
        block
    }

    /// Bytes set aside for rows, those that are held among them.
    pub fn room(&self) -> usize {
        self.cells.iter().map(Cells::room).sum()
    }

    /// Forgets the rows; the columns keep their room, within bounds: a large value now in one column and now in another
    /// would leave each of them at its largest.
    pub fn clear(&mut self) {
        for cells in &mut self.cells {
            cells.clear();
        }
        if self.room() > self.keeps {
            let share = self.keeps / self.cells.len().max(1);
            let ours = [self.event_id, self.event_time, self.ingested_at];
            for ((at, column), cells) in (0..).zip(&self.schema.columns).zip(&mut self.cells) {
                if cells.room() > share {
                    *cells = cells_of(column, ours.contains(&Some(at)));
                }
            }
        }
        self.untimed.clear();
        self.rows = 0;
        self.blocks = 0;
        self.rounded_values = 0;
        self.held = 0;
    }

    /// Fills the columns that the event has values for; how many.
    fn walk(&mut self, value: &[u8]) -> Result<usize, Reject> {
        let whole = |class, reason: String| Reject { class, column: None, reason };
        let text = fast_mem::text(value).map_err(|cause| whole(Class::InvalidUtf8, cause.to_string()))?;
        let text = trimmed(text.strip_prefix('\u{feff}').unwrap_or(text));
        if !text.starts_with('{') {
            return Err(match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => whole(Class::NotAnObject, "the value is JSON, but no object".to_owned()),
                Err(cause) => whole(Class::InvalidJson, no_json(text, &cause)),
            });
        }
        let mut unknown = Some(&mut self.unknown);
        let mut all_as_text: Option<Vec<bool>> = None;
        let mut fast = self.fast;
        let filled = loop {
            self.faults.clear();
            self.rounded.clear();
            let mut walk = Walk {
                keys: &mut self.keys,
                cells: &mut self.cells,
                row: self.rows,
                as_text: all_as_text.as_deref_mut().unwrap_or(&mut self.as_text),
                faults: &mut self.faults,
                rounded: &mut self.rounded,
                filled: 0,
                always: [self.event_id, self.event_time],
                names_one: false,
                unknown: if fast { unknown.as_deref_mut() } else { unknown.take() },
                again: false,
                too_deep: false,
                unmeasured: false,
            };
            if fast {
                if scan(&mut walk, text, &mut self.scratch).is_ok() && !walk.again {
                    break (walk.filled, walk.names_one);
                }
                fast = false;
                self.fell_back += 1;
            } else {
                let walked = walk.run(text);
                let (again, too_deep, filled) = (walk.again, walk.too_deep, (walk.filled, walk.names_one));
                if let Err(cause) = walked {
                    if all_as_text.is_some() {
                        return Err(whole(Class::InvalidJson, no_json(text, &cause)));
                    }
                    // serde_json also gives up at a number that no float holds (1e400). It is JSON all the same, and what
                    // becomes of it must not depend on the events before, which decide what is taken as text.
                    all_as_text = Some(vec![true; self.as_text.len()]);
                } else if too_deep {
                    return Err(whole(Class::TooDeep, format!("nested deeper than {MAX_DEPTH}")));
                } else if !again {
                    break filled;
                }
            }
            // Each further walk of serde_json takes more columns as text, so this ends.
            for cells in &mut self.cells {
                cells.truncate(self.rows);
            }
        };
        let (filled, names_one) = filled;
        if self.faults.is_empty() && !names_one && self.is_empty_event(filled) {
            return Err(whole(Class::NoColumn, NO_COLUMN.to_owned()));
        }
        match self.faults.drain(..).next() {
            None => Ok(filled),
            Some((column, Fault { class, reason })) => {
                let column = self.schema.columns.get(column).map(|column| column.name.clone());
                Err(Reject { class, column, reason })
            }
        }
    }

    /// Whether an event has values for no column but those that always get one; `filled` columns have one.
    fn is_empty_event(&self, filled: usize) -> bool {
        if filled > 2 || !self.needs_a_column {
            return false;
        }
        let given = [self.event_id, self.event_time].into_iter().flatten();
        let given = given.filter(|at| self.cells.get(*at).is_some_and(|cells| cells.len() > self.rows)).count();
        filled == given
    }

    /// Gives the columns without a value what belongs there; `filled` have one.
    fn complete(&mut self, place: &Place, mut filled: usize) {
        if let Some(cells) = self.ingested_at.and_then(|at| self.cells.get_mut(at)) {
            // Until the batch is encoded.
            let given: Result<bool, Infallible> = cells.push(|column| Ok(push_moment(column, Moment::EPOCH)));
            filled += usize::from(given == Ok(true));
        }
        if filled == self.cells.len() {
            return;
        }
        for (at, cells) in self.cells.iter_mut().enumerate() {
            if cells.len() == self.rows {
                let at = Some(at);
                let given: Result<bool, Infallible> = cells.push(|column| {
                    Ok(if at == self.event_id {
                        give_id(column, &self.origin, place)
                    } else if at == self.event_time {
                        // A timestamp that the column's bounds exclude is as good as none.
                        let stamp = Moment::from_millis(place.timestamp_ms);
                        if stamp.is_err() {
                            self.untimed.push(self.rows);
                        }
                        push_moment(column, stamp.unwrap_or(Moment::EPOCH))
                    } else {
                        false
                    })
                });
                if given == Ok(false) {
                    cells.push_missing();
                }
            }
        }
    }
}

/// Why a text is no JSON. What Python and JavaScript call numbers and JSON does not is named.
fn no_json(text: &str, cause: &serde_json::Error) -> String {
    // Columns are counted from 1, and the error is at the first byte that does not fit or the one after it.
    let line = text.lines().nth(cause.line().saturating_sub(1)).unwrap_or("");
    let near = cause.column().saturating_sub(2)..;
    let near = line.as_bytes().get(near).unwrap_or(&[]);
    let named = ["NaN", "Infinity"].into_iter().find(|name| {
        let at = |skipped: usize| near.get(skipped..).is_some_and(|rest| rest.starts_with(name.as_bytes()));
        (0..3).any(at)
    });
    match named {
        Some(name) => format!("{name} is no value of JSON: {cause}"),
        None => cause.to_string(),
    }
}

/// The cells of a column. One of ours has a value in every row: null in it is a missing value, whatever its type.
fn cells_of(column: &SchemaColumn, ours: bool) -> Cells {
    let missing = match column.missing {
        Missing::Null { .. } if ours => Missing::Null { has_default: false },
        missing => missing,
    };
    Cells::new(&column.data_type, missing)
}

/// Strings in wire form; one that is no UTF-8 is taken as empty.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (mut length, mut shift) = (0_usize, 0_u32);
        while let Some((first, rest)) = bytes.split_first() {
            bytes = rest;
            length |= usize::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if first & 0x80 == 0 {
                break;
            }
        }
        let (text, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        bytes = rest;
        found.push(std::str::from_utf8(text).map_or_else(|_| String::new(), str::to_owned));
    }
    found
}

fn give_id(column: &mut Column, origin: &Origin, place: &Place) -> bool {
    let Column::Uuid(values) = column else { return false };
    // A topic's name cannot hold a slash, so no two places give one name.
    let name = format!("{}/{}/{}/{}", origin.cluster_id, origin.topic, place.partition, place.offset);
    push_uuid(values, Uuid::new_v5(&NAMESPACE, name.as_bytes()));
    true
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
