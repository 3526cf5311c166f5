//! One fetch of all partitions of a leader, and what its answer brings.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Cycle, Leader, Trouble};
use crate::kafka::checked::{fetch_fault, missing};
use crate::kafka::cluster::REQUEST_LIMIT;
use crate::kafka::epochs::EpochStart;
use crate::kafka::error::KafkaError;
use crate::kafka::fetching::{FETCH_BYTES, FetchSettings, Fetched, Slot, Stage, hand_back};
use crate::kafka::protocol::fetch::{
    FetchAnswer, FetchByIdRequest, FetchFrom, FetchRequest, FetchedPartition, TopicKey,
};
use crate::kafka::records::batch;
use crate::kafka::records::reader::{Answer, Section, end_of};
use crate::progress::End;

impl Leader {
    /// Fetches once, when the answer before was taken up.
    pub(super) async fn fetch(
        &mut self,
        settings: &FetchSettings,
        topic_id: u128,
        leaders: usize,
        out: &mpsc::Sender<Fetched>,
        cycle: &mut Cycle,
    ) -> Result<(), KafkaError> {
        self.asking.send_replace(None);
        // A closed semaphore cannot be: it is never closed.
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(()) };
        // The broker fills the answer in this order up to its size: another partition comes first each time.
        self.places.rotate_left(usize::from(!self.places.is_empty()));
        let asked: Vec<FetchFrom> = self
            .places
            .iter()
            .filter_map(|place| match place.stage {
                // What could not be asked about, or whose start was just found, comes next time.
                Stage::At(position) if !position.is_unchecked(place.leader_epoch) => Some(FetchFrom {
                    partition: place.partition,
                    offset: position.offset,
                    leader_epoch: place.leader_epoch,
                }),
                Stage::At(_) | Stage::Held | Stage::Unresolved(_) => None,
            })
            .take(if self.single { 1 } else { usize::MAX })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        self.asking.send_replace(Some(Instant::now()));
        let Some(answer) = self.ask(settings, topic_id, leaders, &asked, cycle).await? else { return Ok(()) };
        let (sections, epochs) = self.take_sections(&asked, settings.isolation, &answer, cycle)?;
        if !sections.is_empty() {
            self.single = false;
            let home = self.spare.0.clone();
            let answer = Answer { bytes: answer.bytes, sections };
            let records = Fetched::Records(answer, epochs, Slot { permit: slot, home });
            self.asking.send_replace(None);
            if out.send(records).await.is_err() {
                tracing::debug!("nobody listens to the fetcher any more");
            }
        } else {
            hand_back(&self.spare.0, answer.bytes);
        }
        Ok(())
    }

    /// Sends the fetch; its answer, whose topic is the one that was asked for. `None` when it was too large.
    async fn ask(
        &mut self,
        settings: &FetchSettings,
        topic_id: u128,
        leaders: usize,
        asked: &[FetchFrom],
        cycle: &mut Cycle,
    ) -> Result<Option<FetchAnswer>, KafkaError> {
        let bytes = FETCH_BYTES.min(settings.buffer_bytes / leaders.max(1));
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(settings.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.min_bytes.min(bytes),
            max_bytes: bytes,
            isolation: settings.isolation,
            topic: &settings.topic,
            partitions: asked,
            partition_max_bytes: bytes,
        };
        let limit = settings.max_wait + REQUEST_LIMIT;
        let max_answer = self.options.max_answer;
        // Without one (at first, or when an answer was dropped unread) an empty one grows.
        let buffer = self.spare.1.try_recv().unwrap_or_default();
        let connection = self.connection().await?;
        // By name, a topic that was created anew would be read at the old one's positions.
        let by_id = topic_id != 0 && connection.takes::<FetchByIdRequest<'_>>();
        let answer = if by_id {
            connection.request(&FetchByIdRequest { topic_id, fetch: request }, buffer, limit).await
        } else {
            connection.request(&request, buffer, limit).await
        };
        let buffer = match answer {
            Err(KafkaError::AnswerTooLarge { .. }) => {
                self.connection = None;
                match asked {
                    [only] => {
                        let trouble = Trouble::TooLarge { position: only.offset, limit: max_answer };
                        cycle.troubles.push((only.partition, trouble));
                        self.single = false;
                    }
                    _ => self.single = true,
                }
                return Ok(None);
            }
            other => other?,
        };
        let (peer, api) = (self.address.to_string(), "Fetch");
        let answer =
            FetchAnswer::decode(buffer).map_err(|cause| KafkaError::Malformed { peer: peer.clone(), api, cause })?;
        if answer.error != 0 {
            return Err(KafkaError::Code { peer, api, code: answer.error });
        }
        let is_asked = |topic: &TopicKey| match topic {
            TopicKey::Id(id) => *id == topic_id,
            TopicKey::Name(name) => *name == settings.topic,
        };
        if let Some(other) = answer.topics.iter().find(|topic| !is_asked(topic)) {
            return Err(KafkaError::Unasked { peer, api, what: format!("it is about the topic {other}") });
        }
        Ok(Some(answer))
    }

    /// Sorts an answer's partitions into records and troubles, and moves the positions on.
    fn take_sections(
        &mut self,
        asked: &[FetchFrom],
        isolation: i8,
        answer: &FetchAnswer,
        cycle: &mut Cycle,
    ) -> Result<(Vec<Section>, Vec<EpochStart>), KafkaError> {
        let indexes: Vec<i32> = asked.iter().map(|from| from.partition).collect();
        let lacking = missing(&indexes, answer.partitions.iter().map(|fetched| fetched.partition))
            .map_err(|what| KafkaError::Unasked { peer: self.address.to_string(), api: "Fetch", what })?;
        for partition in lacking {
            let what = format!("Fetch says nothing of partition {partition}");
            cycle.troubles.push((partition, Trouble::Contradiction { what }));
        }
        let (mut sections, mut epochs) = (Vec::new(), Vec::new());
        for fetched in &answer.partitions {
            // They come in another order than asked for.
            let Some(from) = asked.iter().find(|from| from.partition == fetched.partition) else { continue };
            let partition = from.partition;
            match fetched.error {
                0 => match self.take_section(*from, isolation, answer, fetched, &mut epochs) {
                    Ok(section) => {
                        let readable = fetched.readable_end(isolation);
                        cycle.ends.push((partition, End { readable, log: fetched.high_watermark }));
                        let Some(section) = section else { continue };
                        // The reader says what it is, and has the partition rewound.
                        let bytes = answer.bytes.get(fetched.records.clone()).unwrap_or(&[]);
                        if batch::front(bytes).is_err() {
                            cycle.troubles.push((partition, Trouble::Unreadable));
                        }
                        sections.push(section);
                    }
                    Err(what) => cycle.troubles.push((partition, Trouble::Contradiction { what })),
                },
                1 => cycle.troubles.push((partition, Trouble::OutOfRange { position: from.offset })),
                code => cycle.troubles.push((partition, Trouble::Code(code))),
            }
        }
        Ok((sections, epochs))
    }

    /// The records of a partition, if it has any; what is wrong with them otherwise.
    fn take_section(
        &mut self,
        FetchFrom { partition, offset: fetch_offset, .. }: FetchFrom,
        isolation: i8,
        answer: &FetchAnswer,
        fetched: &FetchedPartition,
        epochs: &mut Vec<EpochStart>,
    ) -> Result<Option<Section>, String> {
        let bytes = answer.bytes.get(fetched.records.clone()).unwrap_or(&[]);
        let (mut first, mut before, mut astray) = (None, i64::MIN, None);
        let mut last: Option<EpochStart> = None;
        let known = epochs.len();
        let end = end_of(bytes, |batch| {
            first = first.or(Some(batch.base_offset));
            if batch.base_offset <= before {
                astray = Some(format!("a record batch from offset {} on after one to {before}", batch.base_offset));
            }
            before = batch.last_offset;
            let start = EpochStart { partition, offset: batch.base_offset, epoch: batch.leader_epoch };
            if last.is_none_or(|last| last.epoch != start.epoch) {
                epochs.push(start);
                last = Some(start);
            }
        });
        let astray = astray.or_else(|| fetch_fault(fetched, fetch_offset, isolation, first)).or_else(|| {
            end.filter(|end| *end <= fetch_offset)
                .map(|end| format!("records up to offset {end} for offset {fetch_offset}"))
        });
        if let Some(what) = astray {
            epochs.truncate(known);
            return Err(format!("of partition {partition}, {what}"));
        }
        match end {
            Some(end) => {
                if let Some(position) = self.position_mut(partition) {
                    position.read(end, last);
                }
            }
            None if batch::front(bytes).is_err() => {}
            None => return Ok(None),
        }
        Ok(Some(Section { fetch_offset, fetched: fetched.clone() }))
    }
}
