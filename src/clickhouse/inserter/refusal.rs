//! What the inserter asks when an insert is refused: whether rows are at fault at all, and what is stored all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Insert, Inserter};
use crate::clickhouse::block::statement;
use crate::clickhouse::error::Failure;
use crate::clickhouse::presence::{self, NotKnown};
use crate::clickhouse::schema::Schema;

/// How long it is believed how a table is made: an index may be added at any time.
const PARTS_VALID: Duration = Duration::from_secs(1);

impl Inserter {
    /// Whether refused rows are looked for: then a refusal is not followed by an insert of no rows.
    pub fn searching(&mut self, searching: bool) {
        self.searching = searching;
    }

    /// Publishes why nothing can be stored, until something is.
    pub fn block(&self, why: String) {
        self.progress.send_modify(|progress| progress.blocked = Some(why));
    }

    /// How many rows with each of these event_ids the table holds.
    ///
    /// # Errors
    /// When that cannot be known.
    pub async fn present(&mut self, schema: &Schema, ids: &[String]) -> Result<BTreeMap<String, u64>, NotKnown> {
        let present = presence::present(&mut self.client, schema, ids).await;
        if let Err(NotKnown::Failed(failure)) = &present {
            self.client.disconnect();
            self.failed(failure, None);
        }
        present
    }

    /// Whether the statement is refused with the same code when there are no rows.
    pub(super) async fn is_refused_without_rows(&mut self, insert: &Insert, failure: &Failure) -> bool {
        if self.searching || failure.named_row().is_some() {
            return false;
        }
        let schema = &insert.block.schema;
        let sql = statement(schema, &insert.block.column_list);
        let seconds = self.max_execution_time();
        match self.client.query(&sql, &self.settings(schema, &seconds)).await {
            Ok(answer) => Failure::of_insert(&answer, 0).is_some_and(|other| other.code() == failure.code()),
            Err(cause) => {
                tracing::debug!(%cause, "cannot try an insert of no rows");
                self.client.disconnect();
                false
            }
        }
    }

    /// Whether a refusal has stored nothing, as far as can be told from how the table is made.
    pub(super) async fn proves_nothing_stored(&mut self, insert: &Insert, failure: &Failure) -> bool {
        let parts = match self.parts {
            Some((asked, parts)) if asked.elapsed() < PARTS_VALID => parts,
            _ => {
                let parts = presence::parts(&mut self.client, &insert.block.schema).await;
                self.parts = Some((Instant::now(), parts));
                parts
            }
        };
        parts.prove_nothing_stored(failure, insert.block.rows)
    }
}
