//! The door to Kafka: events of the membership and records come out, offsets of what is stored go in.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use answers::Damage;

use crate::fence::Fence;
use crate::kafka::cluster::Cluster;
use crate::kafka::epochs::Epochs;
use crate::kafka::error::GroupRefused;
use crate::kafka::fetcher::Fetcher;
use crate::kafka::fetching::{FetchSettings, Fetched, Rewind, Stage, hand_back};
use crate::kafka::group::coordinator::{Driver, DriverEnd, DriverEnds};
use crate::kafka::group::state::GroupSettings;
use crate::kafka::group::{Assignment, Intent, Phase};
use crate::kafka::records::compression::Decompressor;
use crate::kafka::records::reader::AnswerReader;
use crate::offsets::Positions;
use crate::part::{Part, Plan, plan};
use crate::progress::KafkaProgress;

/// What happens to a consumer.
#[derive(Debug)]
pub enum Event {
    /// These partitions are ours from now on. Everything of an earlier assignment is void.
    Assigned {
        /// Their indexes.
        partitions: Vec<i32>,
        /// What an earlier owner may have stored without committing it.
        plan: Option<Plan>,
    },
    /// The group rebalances: nothing new is read. Answer with [`Consumer::drained`] when nothing is on the wire.
    Revoking {
        /// When the group goes on without us.
        deadline: Instant,
        /// Why.
        why: &'static str,
    },
    /// A partition goes on elsewhere than where it stood: its log was cut. What was read before ends there.
    Moved {
        /// The partition.
        partition: i32,
    },
    /// The partitions are gone.
    Lost {
        /// Why.
        why: &'static str,
    },
    /// [`Consumer::read`] has records.
    Records,
    /// The coordinator has acknowledged commits: see [`Consumer::acknowledged`].
    Acknowledged,
    /// The membership is over: left, or refused for good.
    Ended(Result<(), GroupRefused>),
}

/// What the consumer is made of.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// The membership.
    pub group: GroupSettings,
    /// The fetches.
    pub fetch: FetchSettings,
    /// The most bytes that one record batch may decompress to.
    pub batch_limit: usize,
}

/// The consumer.
#[derive(Debug)]
pub struct Consumer {
    settings: ConsumerSettings,
    fetch_settings: Arc<FetchSettings>,
    cluster: Cluster,
    progress: watch::Sender<KafkaProgress>,
    ends: DriverEnds,
    driver: JoinHandle<Result<(), DriverEnd>>,
    epoch: u64,
    assignment: Option<Assignment>,
    fetching: Option<Fetching>,
    /// Per partition the next offset to hand out.
    positions: Positions,
    reader: Option<AnswerReader>,
    /// An event that follows the one just given.
    queued: Option<Event>,
    decompressor: Decompressor,
    /// Where the buffer of the answer being read came from.
    home: Option<mpsc::Sender<Vec<u8>>>,
    damage: BTreeMap<i32, Damage>,
    epochs: Epochs,
    /// Partitions that are not fetched before the coordinator has acknowledged the commit of this start.
    held: BTreeMap<i32, i64>,
}

#[derive(Debug)]
struct Fetching {
    task: JoinHandle<()>,
    fetched: mpsc::Receiver<Fetched>,
    rewinds: mpsc::Sender<Rewind>,
}

impl Consumer {
    /// Starts the membership. `cluster` has met the brokers already or will.
    pub fn start(settings: ConsumerSettings, cluster: Cluster, progress: watch::Sender<KafkaProgress>) -> Self {
        let (driver, ends) = Driver::new(settings.group.clone(), cluster.fresh(), progress.clone());
        let fetch_settings = Arc::new(settings.fetch.clone());
        Self {
            settings,
            fetch_settings,
            cluster,
            progress,
            ends,
            driver: tokio::spawn(driver.run()),
            epoch: 0,
            assignment: None,
            fetching: None,
            positions: Positions::default(),
            reader: None,
            queued: None,
            decompressor: Decompressor::default(),
            home: None,
            damage: BTreeMap::new(),
            epochs: Epochs::default(),
            held: BTreeMap::new(),
        }
    }

    /// Waits for the next event; [`Event::Records`] only when `wanted`. May be cancelled.
    pub async fn next(&mut self, wanted: bool) -> Event {
        if let Some(event) = self.queued.take() {
            return event;
        }
        loop {
            self.release_acknowledged();
            if wanted && self.reader.is_some() {
                return Event::Records;
            }
            // The membership first: records of an assignment that is over are of no use.
            tokio::select! {
                biased;
                changed = self.ends.membership.changed() => {
                    if changed.is_ok() {
                        if let Some(event) = self.membership_changed() {
                            return event;
                        }
                    } else {
                        return self.ended().await;
                    }
                }
                // Fails only when the driver has ended, which the membership told first.
                Ok(()) = self.ends.acknowledged.changed() => return Event::Acknowledged,
                fetched = receive(&mut self.fetching), if wanted => match fetched {
                    Fetched::Start { partition, offset, epoch, held } => {
                        if self.start_at(partition, offset, epoch, held) {
                            return Event::Moved { partition };
                        }
                    }
                    Fetched::Recreated => self.look_at_the_topic(true),
                    Fetched::SameTopic => self.look_at_the_topic(false),
                    Fetched::Records(answer, epochs, slot) => {
                        drop(slot.permit); // the next fetch may begin while this answer is read
                        self.home = Some(slot.home);
                        self.open(answer, &epochs);
                    }
                },
            }
        }
    }

    /// The next offset that will be read of a partition.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.positions.get(partition)
    }

    /// The offset that the coordinator holds for a partition in this assignment: found when it began, or committed since
    /// and acknowledged. `None` when there is none yet.
    pub fn acknowledged(&self, partition: i32) -> Option<i64> {
        let acknowledged = self.ends.acknowledged.borrow();
        acknowledged.offsets.get(&partition).copied().filter(|_| acknowledged.epoch == self.epoch)
    }

    /// The offset of a partition up to which all is stored: what was last given to [`Consumer::commit`] in this assignment,
    /// acknowledged or not, or what the coordinator holds.
    pub fn committed(&self, partition: i32) -> Option<i64> {
        let intent = self.ends.intent.borrow();
        let told = intent.offsets.get(&partition).copied().filter(|_| intent.epoch == self.epoch);
        told.or_else(|| self.acknowledged(partition))
    }

    /// The id of the topic of the present assignment; 0 without one, or when the broker does not tell.
    pub fn topic_id(&self) -> u128 {
        self.assignment.as_ref().map_or(0, |assignment| assignment.topic_id)
    }

    /// Bytes held: of the answer being read, and of the buffer for decompressed records.
    pub fn held(&self) -> (usize, usize) {
        match &self.reader {
            Some(reader) => reader.held(),
            None => (0, self.decompressor.held()),
        }
    }

    /// Forgets what was read: partitions go on at these offsets, the others where they stand. Those in `held` are not
    /// read until the next seek. Partitions of other members may be among `offsets`; they are read until then.
    pub fn seek(&mut self, offsets: &BTreeMap<i32, i64>, held: &BTreeSet<i32>) {
        for (partition, next) in offsets {
            self.positions.set(*partition, *next);
            self.held.remove(partition);
        }
        let Some(assignment) = self.assignment.clone() else { return };
        let at = |index, offset| Stage::At(self.epochs.position(index, offset));
        let known = |index: &i32| {
            let position = self.positions.get(*index).map(|offset| at(*index, offset));
            if self.held.contains_key(index) { Some(Stage::Held) } else { position }
        };
        let own =
            assignment.partitions.iter().filter(|(index, _)| !held.contains(index)).map(|(index, committed)| {
                (*index, known(index).unwrap_or_else(|| Stage::Unresolved(committed.clone())))
            });
        let asked = offsets.iter().filter(|(index, _)| !held.contains(index));
        let stages = asked.map(|(index, offset)| (*index, at(*index, *offset))).chain(own).collect();
        self.fetch_from(assignment, stages);
    }

    /// The same, and every other partition begins anew at what was committed: it may have been read for another purpose.
    pub fn begin_at(&mut self, offsets: &BTreeMap<i32, i64>) {
        self.positions.clear();
        self.held.clear();
        self.seek(offsets, &BTreeSet::new());
    }

    /// A fence around the current assignment.
    pub fn fence(&self) -> Fence {
        Fence::new(self.ends.tenure.clone(), self.epoch)
    }

    /// These offsets (the next to read) may be committed.
    pub fn commit(&self, offsets: &BTreeMap<i32, i64>) {
        self.intend(|intent| {
            intent.offsets.extend(offsets);
            let epochs = offsets.iter().map(|(partition, next)| (*partition, self.epochs.before(*partition, *next)));
            intent.epochs.extend(epochs);
        });
    }

    /// These parts were sent, may be stored, and are not committed: whoever owns their partitions next is told so.
    pub fn in_doubt(&self, parts: Vec<Part>) {
        self.intend(|intent| intent.parts = Some(parts));
    }

    /// Nothing of this assignment is on the wire any more: the group may go on.
    pub fn drained(&mut self) {
        self.stop_reading();
        self.intend(|intent| intent.drained = true);
    }

    /// Reads nothing more, commits what may be committed, leaves the group. [`Event::Ended`] follows.
    pub fn leave(&mut self) {
        self.drained();
        self.ends.intent.send_modify(|intent| intent.leave = true);
    }

    fn intend(&self, word: impl FnOnce(&mut Intent)) {
        let epoch = self.epoch;
        self.ends.intent.send_modify(|intent| {
            if intent.epoch != epoch {
                *intent = Intent { epoch, leave: intent.leave, ..Intent::default() };
            }
            word(intent);
        });
    }

    /// Ends the fetches and drops what was fetched.
    pub fn stop_reading(&mut self) {
        if let Some(fetching) = &self.fetching {
            fetching.task.abort();
        }
        self.fetching = None;
        self.drop_reader();
    }

    fn drop_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            let (decompressor, bytes) = reader.into_parts();
            self.decompressor = decompressor;
            self.progress.send_modify(|progress| progress.positions = self.positions.iter().collect());
            if let Some(home) = &self.home {
                hand_back(home, bytes);
            }
        }
    }

    /// Partitions are fetched from starts that the coordinator has.
    fn release_acknowledged(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|partition, offset| {
            self.acknowledged(*partition) != Some(*offset) || !self.rewind(*partition, *offset, Duration::ZERO, None)
        });
        self.held = held;
    }

    fn membership_changed(&mut self) -> Option<Event> {
        let membership = self.ends.membership.borrow_and_update().clone();
        let newer = membership.epoch != self.epoch;
        self.epoch = membership.epoch;
        match membership.phase {
            Phase::Assigned(assignment) => {
                let partitions = assignment.partitions.keys().copied().collect();
                let useless = assignment.useless_notes();
                if !useless.is_empty() {
                    let topic = &self.fetch_settings.topic;
                    warn!(
                        topic,
                        partitions = ?useless,
                        "what is noted beside the committed offsets cannot be read, or is of an earlier topic; ignored"
                    );
                }
                let plan = plan(&assignment.noted());
                self.positions.clear();
                self.held.clear();
                self.damage.clear();
                self.epochs.clear();
                self.forget_lags();
                let stages = assignment
                    .partitions
                    .iter()
                    .map(|(index, committed)| (*index, Stage::Unresolved(committed.clone())))
                    .collect();
                self.assignment = Some(assignment.clone());
                self.fetch_from(assignment, stages);
                Some(Event::Assigned { partitions, plan })
            }
            Phase::Revoking { deadline, why } if newer => {
                // An assignment came and is being taken back already: what was read before it is void all the same.
                self.forget_assignment();
                self.queued = Some(Event::Revoking { deadline, why });
                Some(Event::Lost { why })
            }
            Phase::Revoking { deadline, why } => Some(Event::Revoking { deadline, why }),
            Phase::Outside { why } => {
                let had = self.forget_assignment();
                (had && newer).then_some(Event::Lost { why })
            }
            Phase::Refused(refused) => {
                self.stop_reading();
                Some(Event::Ended(Err(refused)))
            }
        }
    }

    /// True when there was one.
    fn forget_assignment(&mut self) -> bool {
        self.stop_reading();
        self.positions.clear();
        self.held.clear();
        self.forget_lags();
        self.assignment.take().is_some()
    }

    fn forget_lags(&self) {
        self.progress.send_modify(|progress| {
            progress.forget_faults();
            progress.positions.clear();
            progress.ends.clear();
        });
    }

    async fn ended(&mut self) -> Event {
        match (&mut self.driver).await {
            Ok(Ok(())) => Event::Ended(Ok(())),
            Ok(Err(DriverEnd::Refused(refused))) => Event::Ended(Err(refused)),
            Err(panic) => {
                error!(%panic, "the group driver ended without a result");
                Event::Ended(Ok(()))
            }
        }
    }

    fn fetch_from(&mut self, assignment: Assignment, stages: BTreeMap<i32, Stage>) {
        self.drop_reader();
        let before = self.fetching.take().map(|fetching| {
            fetching.task.abort();
            fetching.task
        });
        let settings = Arc::clone(&self.fetch_settings);
        let progress = self.progress.clone();
        let (fetcher, fetched, rewinds) = Fetcher::new(settings, assignment, stages, self.cluster.fresh(), progress);
        let task = tokio::spawn(async move {
            // Two fetchers of one partition would give its records twice.
            if let Some(before) = before
                && let Err(ended) = before.await
            {
                debug!(%ended, "the fetches of before are over");
            }
            fetcher.run().await;
        });
        self.fetching = Some(Fetching { task, fetched, rewinds });
    }

    /// Has the group's driver look at the topic often, or no more: it finds the other id and joins again, or the same.
    fn look_at_the_topic(&self, look: bool) {
        self.intend(|intent| intent.look = look);
    }

    /// True when the partition stood elsewhere, or was committed further than its log goes.
    fn start_at(&mut self, partition: i32, offset: i64, epoch: i32, held: bool) -> bool {
        let before = self.positions.get(partition);
        self.epochs.start(partition, before, offset, epoch);
        let committed = self.assignment.as_ref().and_then(|assignment| assignment.partitions.get(&partition)?.as_ref());
        let cut = before.is_none() && committed.is_some_and(|committed| offset < committed.offset);
        if held {
            self.held.insert(partition, offset);
        }
        if before != Some(offset) {
            self.forget_damage(partition);
        }
        self.positions.set(partition, offset);
        self.progress.send_modify(|progress| {
            progress.positions.insert(partition, offset);
        });
        if before.is_none() {
            // At once, so that `latest` means the same moment after the next rebalance, on idle partitions too. Not where
            // something was read already: whether that is stored is not known here.
            self.commit(&BTreeMap::from([(partition, offset)]));
        }
        cut || before.is_some_and(|before| before != offset)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop_reading();
        self.driver.abort();
    }
}

/// The next of the fetcher, or nothing for ever without one.
async fn receive(fetching: &mut Option<Fetching>) -> Fetched {
    if let Some(fetching) = fetching
        && let Some(fetched) = fetching.fetched.recv().await
    {
        return fetched;
    }
    std::future::pending().await
}
