//! What ClickHouse's JSON type refuses although it is JSON: a path that comes twice in one object (`{"a":1,"a":2}`,
//! `{"a":{},"a":{}}`, but also `{"a.b":1,"a":{"b":2}}`), a number that no float holds, a text with half a surrogate pair. One such object would
//! fail the insert of the whole batch, so it is found here.
//!
//! Source: `JSONExtractTree.cpp`, `SerializationObject.cpp`; confirmed on a server.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Reads an object to its end; the error says what the server would refuse. The caller bounds the depth.
pub(super) fn check(object: &str) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(object);
    let top = Path::top();
    Value { top: &top, here: top.clone(), paths: &mut Paths::default() }.deserialize(&mut json)?;
    json.end()
}

/// A path as two hashes of its keys, each behind a dot, under keys that nobody outside knows. The paths themselves would
/// take the square of the object's bytes: one long key may stand before all others. In 128 bits two paths of one object
/// are practically never taken for one, so no good object is refused, and nobody can write two that are.
///
/// A hash goes on from that of the path above, so a long key is read once only. It knows bytes but not where a piece of them
/// ends, as `write` of [`DefaultHasher`] has it: `a.b` is one path, whether it is one key or two.
#[derive(Debug, Clone)]
struct Path([DefaultHasher; 2]);

impl Path {
    /// The object itself.
    fn top() -> Self {
        Self([RandomState::new().build_hasher(), RandomState::new().build_hasher()])
    }

    fn below(&self, key: &str) -> Self {
        let mut path = self.clone();
        for hash in &mut path.0 {
            hash.write(b".");
            hash.write(key.as_bytes());
        }
        path
    }

    fn id(&self) -> [u64; 2] {
        [self.0[0].finish(), self.0[1].finish()]
    }
}

/// The paths of one object.
#[derive(Debug, Default)]
struct Paths {
    /// The keys down to the value that is being read, each behind a dot: for the error.
    here: String,
    seen: HashSet<[u64; 2]>,
}

/// A value under the path `here`.
struct Value<'p> {
    top: &'p Path,
    here: Path,
    paths: &'p mut Paths,
}

impl Value<'_> {
    /// The path is new.
    fn once<E: Error>(&mut self) -> Result<(), E> {
        if self.paths.seen.insert(self.here.id()) {
            return Ok(());
        }
        let path: String = self.paths.here.chars().skip(1).take(60).collect();
        Err(E::custom(format_args!("the path {path:?} comes twice")))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.once()
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.once()
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.once()
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.once()
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.once()
    }

    fn visit_str<E: Error>(mut self, _: &str) -> Result<(), E> {
        self.once()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.once()?;
        // An object in a list has paths of its own.
        let top = self.top;
        while items.next_element_seed(Value { top, here: top.clone(), paths: &mut Paths::default() })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut pairs: A) -> Result<(), A::Error> {
        self.once()?;
        let Self { top, here, paths } = self;
        let length = paths.here.len();
        while let Some(key) = pairs.next_key::<String>()? {
            paths.here.push('.');
            paths.here.push_str(&key);
            pairs.next_value_seed(Value { top, here: here.below(&key), paths })?;
            paths.here.truncate(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_once() {
        for good in [
            "{}",
            r#"{"a":1,"b":{"a":1},"ab":[{"a":1},{"a":2},[{"a":3}]]}"#,
            r#"{"a":{"a":{}},"x":{"a":[]}}"#,
            r#"{"":1,"x":1e-400}"#,
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            (r#"{"a":1,"a":null}"#, "\"a\""),
            (r#"{"x":{"a":1},"x":{"b":1}}"#, "\"x\""),
            (r#"{"a.b":1,"a":{"b":[]}}"#, "\"a.b\""),
            (r#"{"l":[{"a":1,"a":2}]}"#, "\"a\""),
            (r#"{"a":1e400}"#, "out of range"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            (r#"{"\udc00":1}"#, "hex escape"),
            (r#"{"a":1"#, "EOF"),
        ] {
            let text = check(bad).unwrap_err().to_string();
            assert!(text.contains(word), "{bad}: {text}");
        }
    }
}
