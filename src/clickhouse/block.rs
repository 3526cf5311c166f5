//! Writes Native blocks: `varint columns, varint rows`, then per column its name, its type and its data. One block a
//! body, so that the server makes one part a partition of it and a retry is dropped as a whole.
//!
//! Input is always read at revision 0: no block info, no custom-serialisation bytes, whatever the server's version.
//! Source: <https://clickhouse.com/docs/interfaces/formats/Native>, `NativeReader.cpp`.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::compress::Frames;
use super::schema::Schema;
use crate::columns::{Cells, put_varint};

/// An encoded batch, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct Block {
    /// The INSERT statement and the block, together in compression frames.
    pub body: Bytes,
    /// The columns it holds, quoted, as the statement in the body has them: `` `a`,`b` ``.
    pub column_list: String,
    /// Rows in it.
    pub rows: u64,
    /// What it was made for.
    pub schema: Arc<Schema>,
}

impl Block {
    /// Encodes the columns of a batch; `cells` stand in the order of the schema's columns and have `rows` rows each.
    pub fn encode(schema: &Arc<Schema>, cells: &[Cells], rows: usize, frames: &mut Frames) -> Self {
        let mut sent: Vec<_> = schema.columns.iter().zip(cells).filter(|(_, cells)| cells.is_sent()).collect();
        if sent.is_empty() {
            // A block without columns inserts nothing one could name in the statement: let one column ask for its
            // DEFAULT row by row.
            let mut asking = schema.columns.iter().zip(cells).filter(|(_, cells)| cells.can_ask_for_default());
            sent.extend(asking.next().or_else(|| schema.columns.iter().zip(cells).next()));
        }
        let names: Vec<String> = sent.iter().map(|(column, _)| quoted(&column.name)).collect();
        let column_list = names.join(",");
        let mut head = statement(schema, &column_list).into_bytes();
        put_varint(sent.len(), &mut head);
        put_varint(rows, &mut head);
        for (column, cells) in sent {
            put_text(&column.name, &mut head);
            put_text(&cells.wire_type(&column.wire_type), &mut head);
            frames.write(&head);
            head.clear();
            cells.encode(&mut |bytes| frames.write(bytes));
        }
        Self { body: frames.finish(), column_list, rows: rows as u64, schema: Arc::clone(schema) }
    }
}

/// What stands before the data in the body of an insert. Not in the URL: the names of many columns would be too long for
/// the server (http_max_uri_size), and for load balancers long before.
pub(super) fn statement(schema: &Schema, column_list: &str) -> String {
    // The data begin after the line break, whatever their first byte is.
    format!("INSERT INTO {}.{} ({column_list}) FORMAT Native\n", quoted(&schema.database), quoted(&schema.table))
}

/// An identifier as a person would write it: in backticks only where it needs them.
pub fn readable(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// An identifier in backticks.
pub fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('`');
    for c in name.chars() {
        if matches!(c, '`' | '\\') {
            out.push('\\');
        }
        if c.is_ascii_control() {
            // Writing into a String cannot fail.
            let written = write!(out, "\\x{:02X}", u32::from(c));
            debug_assert!(written.is_ok());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_varint(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quoted("plain"), "`plain`");
        assert_eq!(quoted("a`b\\c"), "`a\\`b\\\\c`");
        assert_eq!(quoted("zwei\nZeilen"), "`zwei\\x0AZeilen`");
    }
}
