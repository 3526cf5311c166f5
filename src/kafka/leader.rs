//! One leader broker: its connection, the partitions read there, and one fetch of all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::HostPort;
use crate::kafka::cluster::REQUEST_LIMIT;
use crate::kafka::connection::ConnectOptions;
use crate::kafka::direct::Direct;
use crate::kafka::error::KafkaError;
use crate::kafka::fetching::{FETCH_BYTES, FetchSettings, Fetched, Slot, Stage, hand_back};
use crate::kafka::group::{Assignment, Committed};
use crate::kafka::protocol::fetch::{FetchAnswer, FetchByIdRequest, FetchFrom, FetchRequest};
use crate::kafka::protocol::list_offsets::{ALL, EARLIEST, LATEST, ListOffsetsRequest};
use crate::kafka::records::batch;
use crate::kafka::records::reader::{Answer, Section, end_of};
use crate::kafka::start::{Log, Start, decide};
use crate::progress::End;

/// A partition at its leader.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) stage: Stage,
}

/// A leader broker.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) places: VecDeque<Place>,
    pub(super) not_before: Instant,
    address: HostPort,
    options: ConnectOptions,
    connection: Option<Box<Direct>>,
    backoff: Backoff,
    failing: bool,
    /// One answer may lie unread.
    slots: Arc<Semaphore>,
    /// Buffers of answers that were read come back here: one is being filled while another is read.
    spare: (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>),
    /// An answer was too large: one partition at a time, to find which.
    single: bool,
}

/// What one cycle brought, beside the records it sent.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    pub(super) starts: Vec<(i32, Start)>,
    pub(super) troubles: Vec<(i32, Trouble)>,
    pub(super) failed: Option<KafkaError>,
    /// Per partition the end of what may be read.
    pub(super) ends: Vec<(i32, End)>,
}

/// Why a partition cannot be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An error code of the partition.
    Code(i16),
    /// Below the log's start or behind its end.
    OutOfRange { position: i64 },
    /// A record batch that is larger than any answer may be.
    TooLarge { position: i64, limit: usize },
    /// No record batch: the reader says what, and has it rewound.
    Unreadable,
}

impl Leader {
    pub(super) fn new(node: i32, address: HostPort, options: ConnectOptions) -> Self {
        Self {
            node,
            places: VecDeque::new(),
            not_before: Instant::now(),
            address,
            options,
            connection: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            failing: false,
            slots: Arc::new(Semaphore::new(1)),
            spare: mpsc::channel(2),
            single: false,
        }
    }

    /// Takes the partitions out that fit.
    pub(super) fn release(&mut self, fits: impl Fn(i32) -> bool) -> Vec<Place> {
        let (moved, kept): (Vec<Place>, Vec<Place>) =
            std::mem::take(&mut self.places).into_iter().partition(|place| fits(place.partition));
        self.places = kept.into();
        moved
    }

    pub(super) fn set_stage(&mut self, partition: i32, stage: Stage) {
        for place in self.places.iter_mut().filter(|place| place.partition == partition) {
            place.stage = stage.clone();
        }
    }

    /// Notes a failure; true for the first of a row.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.connection = None;
        self.not_before = now + self.backoff.pause();
        !std::mem::replace(&mut self.failing, true)
    }

    /// Resolves what is unresolved, then fetches once. Waits until the last answer was taken before it asks.
    pub(super) async fn cycle(
        mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        leaders: usize,
        out: &mpsc::Sender<Fetched>,
    ) -> (Self, Cycle) {
        let mut cycle = Cycle::default();
        let outcome = match self.resolve(settings, assignment, &mut cycle).await {
            // The starts go out before the first records do.
            Ok(()) if cycle.starts.is_empty() => {
                self.fetch(settings, assignment.topic_id, leaders, out, &mut cycle).await
            }
            other => other,
        };
        match outcome {
            Ok(()) => {
                self.failing = false;
                self.backoff.reset();
            }
            Err(error) => cycle.failed = Some(error),
        }
        (self, cycle)
    }

    async fn connection(&mut self) -> Result<&mut Direct, KafkaError> {
        if self.connection.is_none() {
            self.connection = Some(Box::new(Direct::open(&self.address, &self.options).await?));
        }
        self.connection.as_deref_mut().ok_or(KafkaError::UnknownBroker { node: self.node })
    }

    async fn resolve(
        &mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        cycle: &mut Cycle,
    ) -> Result<(), KafkaError> {
        let unresolved = |place: &Place| match &place.stage {
            Stage::Unresolved(committed) => Some((place.partition, committed.clone())),
            Stage::At(_) => None,
        };
        let open: Vec<(i32, Option<Committed>)> = self.places.iter().filter_map(unresolved).collect();
        if open.is_empty() {
            return Ok(());
        }
        let partitions: Vec<(i32, i32)> = open.iter().map(|(partition, _)| (*partition, -1)).collect();
        let ask = |timestamp, isolation| ListOffsetsRequest {
            isolation,
            topic: &settings.topic,
            partitions: &partitions,
            timestamp,
        };
        let connection = self.connection().await?;
        let starts = connection.request(&ask(EARLIEST, ALL), Vec::new(), REQUEST_LIMIT).await?;
        let readable_ends = connection.request(&ask(LATEST, settings.isolation), Vec::new(), REQUEST_LIMIT).await?;
        // The last of them: an end that was asked before could lie before a readable one.
        let ends = match settings.isolation {
            ALL => readable_ends.clone(),
            _ => connection.request(&ask(LATEST, ALL), Vec::new(), REQUEST_LIMIT).await?,
        };
        for (partition, committed) in open {
            let listed = [&starts, &readable_ends, &ends].map(|answer| answer.of(partition));
            let [Ok(start), Ok(readable_end), Ok(end)] = listed else {
                let code = listed.into_iter().find_map(Result::err).unwrap_or(-1);
                cycle.troubles.push((partition, Trouble::Code(code)));
                continue;
            };
            let log = Log { start, readable_end, end };
            let decision = decide(assignment, &settings.topic, partition, committed.as_ref(), log, settings.reset);
            if let Start::At { offset, .. } = decision {
                self.set_stage(partition, Stage::At(offset));
            }
            cycle.starts.push((partition, decision));
        }
        Ok(())
    }

    async fn fetch(
        &mut self,
        settings: &FetchSettings,
        topic_id: u128,
        leaders: usize,
        out: &mpsc::Sender<Fetched>,
        cycle: &mut Cycle,
    ) -> Result<(), KafkaError> {
        // A closed semaphore cannot be: it is never closed.
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Ok(()) };
        // The broker fills the answer in this order up to its size: another partition comes first each time.
        self.places.rotate_left(usize::from(!self.places.is_empty()));
        let asked: Vec<FetchFrom> = self
            .places
            .iter()
            .filter_map(|place| match place.stage {
                Stage::At(offset) => Some(FetchFrom { partition: place.partition, offset, leader_epoch: -1 }),
                Stage::Unresolved(_) => None,
            })
            .take(if self.single { 1 } else { usize::MAX })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let bytes = FETCH_BYTES.min(settings.buffer_bytes / leaders.max(1));
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(settings.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.min_bytes.min(bytes),
            max_bytes: bytes,
            isolation: settings.isolation,
            topic: &settings.topic,
            partitions: &asked,
            partition_max_bytes: bytes,
        };
        let limit = settings.max_wait + REQUEST_LIMIT;
        let max_answer = self.options.max_answer;
        // Without one (at first, or when an answer was dropped unread) an empty one grows.
        let buffer = self.spare.1.try_recv().unwrap_or_default();
        let connection = self.connection().await?;
        // By name, a topic that was created anew would be read at the old one's positions.
        let answer = if topic_id != 0 && connection.takes::<FetchByIdRequest<'_>>() {
            connection.request(&FetchByIdRequest { topic_id, fetch: request }, buffer, limit).await
        } else {
            connection.request(&request, buffer, limit).await
        };
        let buffer = match answer {
            Err(KafkaError::AnswerTooLarge { .. }) => {
                self.connection = None;
                match asked.as_slice() {
                    [only] => {
                        let trouble = Trouble::TooLarge { position: only.offset, limit: max_answer };
                        cycle.troubles.push((only.partition, trouble));
                        self.single = false;
                    }
                    _ => self.single = true,
                }
                return Ok(());
            }
            other => other?,
        };
        let peer = self.address.to_string();
        let answer = FetchAnswer::decode(buffer).map_err(|cause| KafkaError::Malformed {
            peer: peer.clone(),
            api: "Fetch",
            cause,
        })?;
        if answer.error != 0 {
            return Err(KafkaError::Code { peer, api: "Fetch", code: answer.error });
        }
        let known = answer.partitions.iter().filter(|fetched| fetched.error == 0);
        cycle.ends.extend(known.map(|fetched| {
            let readable = fetched.readable_end(settings.isolation);
            (fetched.partition, End { readable, log: fetched.high_watermark })
        }));
        let sections = self.take_sections(&asked, &answer, cycle);
        if !sections.is_empty() {
            self.single = false;
            let home = self.spare.0.clone();
            let records = Fetched::Records(Answer { bytes: answer.bytes, sections }, Slot { permit: slot, home });
            if out.send(records).await.is_err() {
                tracing::debug!("nobody listens to the fetcher any more");
            }
        } else {
            hand_back(&self.spare.0, answer.bytes);
        }
        Ok(())
    }

    /// Sorts an answer's partitions into records and troubles, and moves the positions on.
    fn take_sections(&mut self, asked: &[FetchFrom], answer: &FetchAnswer, cycle: &mut Cycle) -> Vec<Section> {
        let mut sections = Vec::new();
        for fetched in &answer.partitions {
            // They come in another order than asked for.
            let Some(from) = asked.iter().find(|from| from.partition == fetched.partition) else { continue };
            let FetchFrom { partition, offset: fetch_offset, .. } = *from;
            match fetched.error {
                0 => {}
                1 => {
                    cycle.troubles.push((partition, Trouble::OutOfRange { position: fetch_offset }));
                    continue;
                }
                code => {
                    cycle.troubles.push((partition, Trouble::Code(code)));
                    continue;
                }
            }
            let bytes = answer.bytes.get(fetched.records.clone()).unwrap_or(&[]);
            match end_of(bytes) {
                Some(end) if end > fetch_offset => self.set_stage(partition, Stage::At(end)),
                Some(_) => continue,
                None if batch::front(bytes).is_err() => cycle.troubles.push((partition, Trouble::Unreadable)),
                None => continue,
            }
            sections.push(Section { fetch_offset, fetched: fetched.clone() });
        }
        sections
    }
}
