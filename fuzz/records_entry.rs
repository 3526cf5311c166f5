//! What is fuzzed, shared by the cargo-fuzz target and by tests/fuzz_records.rs.

use sandarb_consumer::kafka::protocol::fetch::FetchedPartition;
use sandarb_consumer::kafka::records::batch::{self, Front};
use sandarb_consumer::kafka::records::compression::Decompressor;
use sandarb_consumer::kafka::records::reader::{Answer, AnswerReader, Item, Section};

/// What one batch may decompress to.
pub(crate) const LIMIT: usize = 1 << 18;

/// Walks over the bytes as over a partition of a fetch answer: as they are, then with checksums made right, so that
/// what lies behind them is reached too. Panics when a promise is broken: an offset that goes back, a buffer beyond the
/// limit, a walk that does not end.
pub(crate) fn records(input: &[u8]) {
    walk(input.to_vec());
    let mut mended = input.to_vec();
    mend(&mut mended);
    if mended != input {
        walk(mended);
    }
}

/// Makes the checksums of whole batches right.
fn mend(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..)
        && let Ok(Front::Batch(header)) = batch::front(rest)
    {
        let end = at + header.length;
        let crc = crc32c::crc32c(&bytes[at + 21..end]);
        bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
}

fn walk(bytes: Vec<u8>) {
    let total = bytes.len();
    let fetched = FetchedPartition {
        partition: 0,
        error: 0,
        high_watermark: 0,
        last_stable_offset: 0,
        log_start_offset: 0,
        preferred_replica: -1,
        aborted: vec![(7, 3), (9, 0)],
        records: 0..total,
    };
    let sections = vec![Section { fetch_offset: 1, fetched }];
    let mut reader = AnswerReader::new(Answer { bytes, sections }, Decompressor::default(), LIMIT);
    // A record takes at least seven bytes of a batch, and a batch 61.
    let mut steps = (total / 61 + 1) * (LIMIT / 7 + 2) + total;
    while let Ok(true) = reader.advance() {
        steps = steps.checked_sub(1).expect("the walk ends");
        match reader.item().expect("an item after a step") {
            Item::Record(record) => {
                assert!(record.offset >= 1, "before what was asked for");
                let lengths = record.headers.len() + record.value.map_or(0, <[u8]>::len);
                assert!(lengths <= total.max(LIMIT), "a record of {lengths} bytes");
            }
            Item::Passed { from, next, .. } => assert!(from <= next || next > 1, "{from} to {next}"),
        }
    }
    let held = reader.into_parts().0.held();
    assert!(held <= LIMIT, "{held} bytes held");
}
