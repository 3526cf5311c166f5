//! `LowCardinality(String)`: a dictionary while the batch has few distinct values, plain strings beyond.
//!
//! Wire form with rows: `u64 1` (version), `u64 flags` (index width | 0x200 keys follow | 0x400 they replace the
//! dictionary), `u64 n_keys`, the keys as a String column, `u64 n_rows`, the indexes. Keys may repeat and the order is
//! free, but in the Nullable form index 0 is NULL and key 1 the empty string, so both are always there.

use std::ops::Range;

use super::{Sink, Strings, put_varint};

/// The values of a `LowCardinality(String)` column.
#[derive(Debug)]
pub struct LowCardinality {
    store: Store,
}

#[derive(Debug)]
enum Store {
    Dictionary(Dictionary),
    /// More distinct values than a dictionary is worth. The server takes plain strings for the column as well.
    Plain(Strings),
}

impl Default for LowCardinality {
    fn default() -> Self {
        Self { store: Store::Dictionary(Dictionary::new()) }
    }
}

impl LowCardinality {
    /// Appends a string.
    pub fn push(&mut self, text: &[u8]) {
        self.push_front(text, text.len());
    }

    /// Appends the first `length` bytes of `from`.
    #[inline(always)]
    pub(super) fn push_front(&mut self, from: &[u8], length: usize) {
        // Most values are short, known, and lie where they belong.
        if let Store::Dictionary(dictionary) = &mut self.store
            && let Some(short) = from.first_chunk().and_then(|piece| Short::of(piece, length))
            && dictionary.push_known(&short)
        {
            return;
        }
        self.push_any(from.get(..length).unwrap_or(from));
    }

    #[inline(never)]
    fn push_any(&mut self, text: &[u8]) {
        match &mut self.store {
            Store::Plain(strings) => strings.push(text),
            Store::Dictionary(dictionary) => {
                if dictionary.push(text) {
                    return;
                }
                let mut strings = dictionary.spell_out();
                strings.push(text);
                self.store = Store::Plain(strings);
            }
        }
    }

    /// Whether it goes as `LowCardinality(…)`; else as plain strings.
    pub fn is_dictionary(&self) -> bool {
        matches!(self.store, Store::Dictionary(_))
    }

    pub(super) fn push_missing(&mut self) {
        match &mut self.store {
            Store::Dictionary(dictionary) => dictionary.push_null(),
            Store::Plain(strings) => strings.push_missing(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.store {
            Store::Dictionary(dictionary) => dictionary.indexes.len(),
            Store::Plain(strings) => strings.len(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.store {
            Store::Dictionary(dictionary) => dictionary.indexes.len() * 2 + dictionary.keys.len(),
            Store::Plain(strings) => strings.bytes(),
        }
    }

    /// But for the table, whose size has a limit.
    pub(super) fn room(&self) -> usize {
        match &self.store {
            Store::Dictionary(dictionary) => dictionary.indexes.capacity() * 2 + dictionary.keys.capacity(),
            Store::Plain(strings) => strings.room(),
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.store {
            Store::Dictionary(dictionary) => dictionary.truncate(rows),
            Store::Plain(strings) => strings.truncate(rows),
        }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.store {
            Store::Dictionary(dictionary) => dictionary.clear(),
            Store::Plain(_) => *self = Self::default(),
        }
    }

    /// Writes some rows. The dictionary goes along only with all of them: many blocks of few rows would repeat it.
    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        match &self.store {
            Store::Dictionary(dictionary) if rows == (0..self.len()) => dictionary.encode(sink),
            Store::Dictionary(dictionary) => dictionary.encode_plain(rows, sink),
            Store::Plain(strings) => strings.encode(rows, sink),
        }
    }
}

/// Index of the NULL key.
const NULL: u16 = 0;
/// Distinct values beyond which plain strings are cheaper for both sides, and the hash table would outgrow its use.
const MAX_KEYS: usize = 4096;
/// Places looked at for one key: colliding keys, chosen by whoever writes the events, cost no more than this. A key
/// that finds no place is written a second time, which the format allows.
const MAX_PROBES: usize = 16;
const FIRST_TABLE: usize = 64;
const VERSION: u64 = 1;
const FLAGS: u64 = 0x200 | 0x400;

#[derive(Debug)]
struct Dictionary {
    /// In wire form.
    keys: Vec<u8>,
    /// Start and end of each key's bytes in `keys`, without the length prefix.
    spans: Vec<(usize, usize)>,
    /// The keys once more, as far as they are short.
    shorts: Vec<Short>,
    /// Open addressing, a power of two of places, at most half full. An index of [`NULL`] marks a free place.
    table: Vec<Place>,
    indexes: Vec<u16>,
    /// The value pushed last brought its key with it.
    fresh: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    index: u16,
}

const FREE: Place = Place { hash: 0, index: NULL };

impl Dictionary {
    fn new() -> Self {
        let mut empty = Self {
            keys: Vec::new(),
            spans: Vec::new(),
            shorts: Vec::new(),
            table: vec![FREE; FIRST_TABLE],
            indexes: Vec::new(),
            fresh: false,
        };
        empty.clear();
        empty
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.spans.clear();
        self.shorts.clear();
        self.table.fill(FREE);
        self.indexes.clear();
        self.append_key(b"");
        // No text is found there, not even the empty one: it is NULL.
        self.shorts.fill(Short::NONE);
        // The empty string proper: found by its hash like any other key.
        self.intern(hash(b""), b"");
    }

    /// Keeps the first `rows`. The key of an undone value goes with it, so that bad events cannot pile up keys.
    fn truncate(&mut self, rows: usize) {
        let undone = if rows + 1 == self.indexes.len() { self.indexes.last().copied() } else { None };
        self.indexes.truncate(rows);
        let fresh = std::mem::replace(&mut self.fresh, false);
        let Some(index) = undone.filter(|index| fresh && usize::from(*index) + 1 == self.spans.len()) else { return };
        let hash = hash(self.key(index));
        let held = self.places(hash).find(|at| self.table.get(*at).is_some_and(|place| place.index == index));
        // It was the last to come in, so none was placed behind it, except by a growth right then: such a key would not
        // be found any more and be written twice.
        if let Some(place) = held.and_then(|at| self.table.get_mut(at)) {
            *place = FREE;
        }
        self.spans.pop();
        self.shorts.pop();
        self.keys.truncate(self.spans.last().map_or(0, |(_, end)| *end));
    }

    /// Appends a text that is a key in the place of its hash; false and nothing for any other.
    #[inline(always)]
    fn push_known(&mut self, short: &Short) -> bool {
        let hash = short.hash();
        let Some(place) = self.table.get(hash as usize & (self.table.len() - 1)) else { return false };
        let known = place.hash == hash && self.shorts.get(usize::from(place.index)) == Some(short);
        if known {
            self.fresh = false;
            self.indexes.push(place.index);
        }
        known
    }

    /// False when the dictionary is full and the text is not in it.
    fn push(&mut self, text: &[u8]) -> bool {
        self.fresh = false;
        let keys = self.spans.len();
        let Some(index) = self.intern(hash(text), text) else { return false };
        self.fresh = self.spans.len() > keys;
        self.indexes.push(index);
        true
    }

    fn push_null(&mut self) {
        self.fresh = false;
        self.indexes.push(NULL);
    }

    fn intern(&mut self, hash: u32, text: &[u8]) -> Option<u16> {
        let mut free = None;
        for place in self.places(hash) {
            let found = *self.table.get(place)?;
            if found.index == NULL {
                free = Some(place);
                break;
            }
            if found.hash == hash && self.key(found.index) == text {
                return Some(found.index);
            }
        }
        let index = u16::try_from(self.spans.len()).ok().filter(|index| usize::from(*index) < MAX_KEYS)?;
        self.append_key(text);
        if let Some(place) = free.and_then(|place| self.table.get_mut(place)) {
            *place = Place { hash, index };
        }
        if self.spans.len() * 2 > self.table.len() {
            self.grow();
        }
        Some(index)
    }

    fn places(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let mask = self.table.len() - 1;
        (0..MAX_PROBES).map(move |step| (hash as usize).wrapping_add(step) & mask)
    }

    fn grow(&mut self) {
        let wider = vec![FREE; self.table.len() * 2];
        let old = std::mem::replace(&mut self.table, wider);
        for place in old.into_iter().filter(|place| place.index != NULL) {
            let free = self.places(place.hash).find(|at| self.table.get(*at).is_some_and(|held| held.index == NULL));
            if let Some(free) = free.and_then(|at| self.table.get_mut(at)) {
                *free = place;
            }
        }
    }

    fn append_key(&mut self, text: &[u8]) {
        put_varint(text.len(), &mut self.keys);
        let start = self.keys.len();
        self.keys.extend_from_slice(text);
        self.spans.push((start, self.keys.len()));
        self.shorts.push(Short::new(text).unwrap_or(Short::NONE));
    }

    fn key(&self, index: u16) -> &[u8] {
        let span = self.spans.get(usize::from(index));
        span.and_then(|(start, end)| self.keys.get(*start..*end)).unwrap_or(b"")
    }

    fn spell_out(&self) -> Strings {
        let mut strings = Strings::default();
        for index in &self.indexes {
            strings.push(self.key(*index));
        }
        strings
    }

    /// Writes rows as plain strings.
    fn encode_plain(&self, rows: Range<usize>, sink: Sink<'_>) {
        let mut text = Vec::new();
        for index in self.indexes.get(rows).unwrap_or(&[]) {
            let key = self.key(*index);
            text.clear();
            put_varint(key.len(), &mut text);
            text.extend_from_slice(key);
            sink(&text);
        }
    }

    fn encode(&self, sink: Sink<'_>) {
        let narrow = self.spans.len() <= 256;
        sink(&VERSION.to_le_bytes());
        sink(&(FLAGS | u64::from(!narrow)).to_le_bytes());
        sink(&count(self.spans.len()));
        sink(&self.keys);
        sink(&count(self.indexes.len()));
        let mut piece = [0; 512];
        for rows in self.indexes.chunks(piece.len() / 2) {
            let used = if narrow {
                for (index, place) in rows.iter().zip(&mut piece) {
                    [*place, _] = index.to_le_bytes();
                }
                rows.len()
            } else {
                for (index, place) in rows.iter().zip(piece.chunks_exact_mut(2)) {
                    place.copy_from_slice(&index.to_le_bytes());
                }
                rows.len() * 2
            };
            sink(piece.get(..used).unwrap_or(&[]));
        }
    }
}

fn count(number: usize) -> [u8; 8] {
    (number as u64).to_le_bytes()
}

/// A text of at most 31 bytes, filled up with NUL, and its length behind it: four words, compared without a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short([u64; SHORT / 8]);

const SHORT: usize = 32;

/// From `SHORT - n` on: `n` times all ones, then zeros.
const KEEP: [u8; SHORT * 2] = {
    let mut keep = [0; SHORT * 2];
    let mut at = 0;
    while at < SHORT {
        keep[at] = u8::MAX;
        at += 1;
    }
    keep
};

impl Short {
    /// Equal to no text.
    const NONE: Self = Self([u64::MAX; SHORT / 8]);

    /// A text by itself, if it is short enough.
    fn new(text: &[u8]) -> Option<Self> {
        let mut piece = [0; SHORT];
        piece.get_mut(..text.len())?.copy_from_slice(text);
        Self::of(&piece, text.len())
    }

    /// The first `length` bytes of a piece, if they are few enough.
    #[inline(always)]
    fn of(piece: &[u8; SHORT], length: usize) -> Option<Self> {
        if length >= SHORT {
            return None;
        }
        let keep: &[u8; SHORT] = KEEP.get(SHORT - length..)?.first_chunk()?;
        let mut words = [0; SHORT / 8];
        for ((word, bytes), keep) in words.iter_mut().zip(piece.as_chunks().0).zip(keep.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes) & u64::from_le_bytes(*keep);
        }
        let [.., last] = &mut words;
        *last |= (length as u64) << 56;
        Some(Self(words))
    }

    /// One multiplication a word. Not keyed: [`MAX_PROBES`] bounds what chosen keys can cost.
    #[inline(always)]
    fn hash(&self) -> u32 {
        let ([a, b, c, d], [p, q, r, s]) = (self.0, FACTORS);
        let near = a.wrapping_mul(p).wrapping_add(b.wrapping_mul(q));
        let sum = c.wrapping_mul(r).wrapping_add(d.wrapping_mul(s)).wrapping_add(near);
        ((sum ^ sum >> 32).wrapping_mul(p) >> 32) as u32
    }
}

/// Odd numbers without a pattern.
const FACTORS: [u64; 4] = [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63];

/// That of [`Short`] where the text is one; else multiply and fold, eight bytes at a time.
fn hash(text: &[u8]) -> u32 {
    if let Some(short) = Short::new(text) {
        return short.hash();
    }
    let mut state = text.len() as u64;
    let mut mix = |word: &[u8; 8]| {
        state = (state.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTORS[0]);
        state ^= state >> 32;
    };
    text.as_chunks().0.iter().for_each(&mut mix);
    // The rest together with bytes before it, so that it is one word, too.
    if let Some(tail) = text.last_chunk() {
        mix(tail);
    }
    (state >> 32) as u32
}
