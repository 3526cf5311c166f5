//! One leader broker: its connection, the partitions read there, and one fetch of all of them.

mod fetch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::HostPort;
use crate::kafka::checked::{log_fault, missing};
use crate::kafka::cluster::REQUEST_LIMIT;
use crate::kafka::connection::ConnectOptions;
use crate::kafka::direct::Direct;
use crate::kafka::epochs::{Lineage, Position, UNKNOWN_EPOCH, lineage};
use crate::kafka::error::KafkaError;
use crate::kafka::fetching::{FetchSettings, Fetched, Stage};
use crate::kafka::group::{Assignment, Committed};
use crate::kafka::protocol::fetch::FetchByIdRequest;
use crate::kafka::protocol::list_offsets::{ALL, EARLIEST, LATEST, ListOffsetsRequest, ListOffsetsResponse};
use crate::kafka::protocol::offset_for_leader_epoch::{
    EpochQuestion, OffsetForLeaderEpochRequest, UNKNOWN_LEADER_EPOCH, UNSUPPORTED_VERSION,
};
use crate::kafka::start::{Known, Log, Start, Why, decide};
use crate::progress::End;

/// A partition at its leader.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) stage: Stage,
    /// The leader's epoch as the metadata gave it, -1 when it did not.
    pub(super) leader_epoch: i32,
}

impl Place {
    /// What the leader is to be asked about the epoch of what lies before this place, `None` when nothing.
    fn question(&self, topic_id: u128) -> Option<Unchecked> {
        let (position, same_topic) = match &self.stage {
            // Fetches name the id.
            Stage::At(position) => (*position, topic_id != 0),
            // Of another topic: whatever its epochs are, reading does not go on there.
            Stage::Unresolved(Some(committed)) if committed.is_of(topic_id) => {
                let same_topic = committed.note.as_ref().is_some_and(|note| note.topic_id == topic_id && topic_id != 0);
                (Position::new(committed.offset, committed.leader_epoch), same_topic)
            }
            Stage::Unresolved(_) | Stage::Held => return None,
        };
        let question = EpochQuestion {
            partition: self.partition,
            current_leader_epoch: self.leader_epoch,
            leader_epoch: position.epoch,
        };
        position.is_unchecked(self.leader_epoch).then_some(Unchecked { position, question, same_topic })
    }
}

/// A position whose epoch the leader has to be asked about.
#[derive(Debug)]
struct Unchecked {
    position: Position,
    question: EpochQuestion,
    /// The topic's id says that what lies before was read from this topic, and not from one of the same name.
    same_topic: bool,
}

/// A leader broker.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) places: VecDeque<Place>,
    pub(super) not_before: Instant,
    pub(super) address: HostPort,
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
    /// Since when an answer is waited for.
    asking: watch::Sender<Option<Instant>>,
}

/// What one cycle brought, beside the records it sent.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    /// With the leader epoch of what lies before.
    pub(super) starts: Vec<(i32, Start, i32)>,
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
    /// The answer lacks the partition, or contradicts the question or itself.
    Contradiction { what: String },
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
            asking: watch::Sender::new(None),
        }
    }

    /// Tells since when an answer of the broker is waited for, also while the leader is away.
    pub(super) fn asked(&self) -> watch::Receiver<Option<Instant>> {
        self.asking.subscribe()
    }

    /// Whether there is something to ask. While the metadata shows another topic of this name (`foreign`), only what is
    /// asked for by the topic's id is of this one.
    pub(super) fn may_ask(&self, foreign: bool) -> bool {
        let by_id = || self.connection.as_ref().is_some_and(|connection| connection.takes::<FetchByIdRequest<'_>>());
        let at =
            |place: &Place| matches!(place.stage, Stage::At(position) if !position.is_unchecked(place.leader_epoch));
        !self.places.is_empty() && (!foreign || by_id() && self.places.iter().any(at))
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

    fn position_mut(&mut self, partition: i32) -> Option<&mut Position> {
        self.places.iter_mut().filter(|place| place.partition == partition).find_map(|place| match &mut place.stage {
            Stage::At(position) => Some(position),
            Stage::Unresolved(_) | Stage::Held => None,
        })
    }

    /// Takes the epochs that the metadata gives for the partitions here.
    pub(super) fn learn_epochs(&mut self, epoch: impl Fn(i32) -> Option<i32>) {
        for place in &mut self.places {
            place.leader_epoch = epoch(place.partition).unwrap_or(place.leader_epoch);
        }
    }

    /// The epoch of what was read of a partition last, -1 when unknown.
    pub(super) fn epoch_of(&mut self, partition: i32) -> i32 {
        self.position_mut(partition).map_or(UNKNOWN_EPOCH, |position| position.epoch)
    }

    /// Notes a failure; true for the first of a row.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.connection = None;
        self.not_before = now + self.backoff.pause();
        !std::mem::replace(&mut self.failing, true)
    }

    /// Resolves what is unresolved (by the topic's name, so not while the metadata shows another of it), then fetches once.
    /// Waits until the last answer was taken before it asks.
    pub(super) async fn cycle(
        mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        foreign: bool,
        leaders: usize,
        out: &mpsc::Sender<Fetched>,
    ) -> (Self, Cycle) {
        let mut cycle = Cycle::default();
        self.asking.send_replace(Some(Instant::now()));
        let prepared = if foreign { Ok(()) } else { self.prepare(settings, assignment, &mut cycle).await };
        let outcome = match prepared {
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
        self.asking.send_replace(None);
        (self, cycle)
    }

    async fn prepare(
        &mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        cycle: &mut Cycle,
    ) -> Result<(), KafkaError> {
        let lineages = self.check_epochs(settings, assignment, cycle).await?;
        self.resolve(settings, assignment, &lineages, cycle).await
    }

    async fn connection(&mut self) -> Result<&mut Direct, KafkaError> {
        if self.connection.is_none() {
            self.connection = Some(Box::new(Direct::open(&self.address, &self.options).await?));
        }
        self.connection.as_deref_mut().ok_or(KafkaError::UnknownBroker { node: self.node })
    }

    /// Asks whether the log still holds what was read or committed, where an epoch tells and this leader was not asked
    /// yet. Gives the answers for what is to be resolved.
    async fn check_epochs(
        &mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        cycle: &mut Cycle,
    ) -> Result<BTreeMap<i32, Lineage>, KafkaError> {
        let topic_id = assignment.topic_id;
        let unchecked: Vec<Unchecked> = self.places.iter().filter_map(|place| place.question(topic_id)).collect();
        let mut lineages = BTreeMap::new();
        if unchecked.is_empty() {
            return Ok(lineages);
        }
        let questions: Vec<EpochQuestion> = unchecked.iter().map(|place| place.question).collect();
        let request = OffsetForLeaderEpochRequest { topic: &settings.topic, partitions: &questions };
        let connection = self.connection().await?;
        let answer = if connection.takes::<OffsetForLeaderEpochRequest<'_>>() {
            Some(connection.request(&request, Vec::new(), REQUEST_LIMIT).await?)
        } else {
            None
        };
        for Unchecked { position, question, same_topic } in unchecked {
            let partition = question.partition;
            let found = match answer.as_ref().map(|answer| answer.of(&question)) {
                // As before there were epochs.
                None | Some(Err(UNSUPPORTED_VERSION)) => Lineage::Unknown,
                Some(Ok(end)) => lineage(&position, &question, &end, same_topic),
                Some(Err(code)) => {
                    cycle.troubles.push((partition, Trouble::Code(code)));
                    continue;
                }
            };
            if found == Lineage::Behind {
                cycle.troubles.push((partition, Trouble::Code(UNKNOWN_LEADER_EPOCH)));
                continue;
            }
            let Some(at) = self.position_mut(partition) else {
                lineages.insert(partition, found);
                continue;
            };
            at.checked = question.current_leader_epoch;
            if let Lineage::Cut { end, epoch } = found {
                self.set_stage(partition, Stage::Held);
                let why = Why::Cut { position: position.offset, epoch: position.epoch, end, end_epoch: epoch, lost: 0 };
                cycle.starts.push((partition, Start::At { offset: end, why }, epoch));
            }
        }
        Ok(lineages)
    }

    async fn resolve(
        &mut self,
        settings: &FetchSettings,
        assignment: &Assignment,
        lineages: &BTreeMap<i32, Lineage>,
        cycle: &mut Cycle,
    ) -> Result<(), KafkaError> {
        let troubled = |partition| cycle.troubles.iter().any(|(index, _)| *index == partition);
        let unresolved = |place: &Place| match &place.stage {
            Stage::Unresolved(committed) if !troubled(place.partition) => {
                Some((place.partition, place.leader_epoch, committed.clone()))
            }
            Stage::Unresolved(_) | Stage::Held | Stage::At(_) => None,
        };
        let open: Vec<(i32, i32, Option<Committed>)> = self.places.iter().filter_map(unresolved).collect();
        if open.is_empty() {
            return Ok(());
        }
        let partitions: Vec<(i32, i32)> = open.iter().map(|(partition, epoch, _)| (*partition, *epoch)).collect();
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
        let indexes: Vec<i32> = open.iter().map(|(partition, ..)| *partition).collect();
        let mut lacking = BTreeSet::new();
        for answer in [&starts, &readable_ends, &ends] {
            lacking.extend(self.listed(&settings.topic, &indexes, answer)?);
        }
        for (partition, leader_epoch, committed) in open {
            if lacking.contains(&partition) {
                let what = format!("ListOffsets says nothing of partition {partition}");
                cycle.troubles.push((partition, Trouble::Contradiction { what }));
                continue;
            }
            let listed = [&starts, &readable_ends, &ends].map(|answer| answer.of(partition));
            let [Ok(start), Ok(readable_end), Ok(end)] = listed else {
                let code = listed.into_iter().find_map(Result::err).unwrap_or(-1);
                cycle.troubles.push((partition, Trouble::Code(code)));
                continue;
            };
            let log = Log { start, readable_end, end };
            if let Some(what) = log_fault(log) {
                cycle.troubles.push((partition, Trouble::Contradiction { what: format!("ListOffsets says {what}") }));
                continue;
            }
            let lineage = lineages.get(&partition).copied().unwrap_or(Lineage::Unknown);
            let known = committed.as_ref().map(|committed| Known { committed, lineage });
            let decision = decide(assignment, &settings.topic, partition, known, log, settings.reset);
            let before = committed.as_ref().map(|committed| committed.offset);
            let epoch = match &decision {
                Start::At { why: Why::Committed, .. } => committed.map_or(UNKNOWN_EPOCH, |at| at.leader_epoch),
                Start::At { why: Why::Cut { end_epoch, .. }, .. } => *end_epoch,
                Start::At { why: Why::Latest, .. } => readable_ends.epoch_of(partition),
                Start::At { .. } => starts.epoch_of(partition),
                Start::Wait { .. } => UNKNOWN_EPOCH,
            };
            if let Start::At { offset, .. } = decision {
                let position = Position { checked: leader_epoch, ..Position::new(offset, epoch) };
                self.set_stage(partition, if before == Some(offset) { Stage::At(position) } else { Stage::Held });
            }
            cycle.starts.push((partition, decision, epoch));
        }
        Ok(())
    }

    /// The partitions that an answer to ListOffsets lacks.
    fn listed(&self, topic: &str, asked: &[i32], answer: &ListOffsetsResponse) -> Result<BTreeSet<i32>, KafkaError> {
        let unasked = |what| KafkaError::Unasked { peer: self.address.to_string(), api: "ListOffsets", what };
        if let Some(other) = answer.topics.iter().find(|name| *name != topic) {
            return Err(unasked(format!("it is about the topic {other:?}")));
        }
        missing(asked, answer.partitions.iter().map(|listed| listed.partition)).map_err(unasked)
    }
}
