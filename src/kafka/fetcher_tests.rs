//! The fetcher against a scripted broker: real bytes over a real socket, in paused time.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{HostPort, OffsetReset};
use crate::kafka::connection::ConnectOptions;
use crate::kafka::epochs::Position;
use crate::kafka::group::{CommitNote, Committed};
use crate::kafka::protocol::wire::{Reader, put_array, put_bytes, put_i16, put_i32, put_i64, put_string};
use crate::kafka::records::write::{BatchWriter, Codec, NewRecord};
use crate::kafka::round_trip::RoundTrip;

const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const EPOCH_END: i16 = 23;
const TOPIC_ID: u128 = 7;

/// What the broker says of the one partition it leads.
#[derive(Debug, Clone)]
struct Script {
    /// By the metadata.
    told_epoch: i32,
    /// The leader's own; others are refused with 74 and 75.
    epoch: i32,
    /// Error, epoch and end in the answers to OffsetForLeaderEpoch, as often as the partition is listed.
    ends: Vec<(i16, i32, i64)>,
    /// Whether it lists OffsetForLeaderEpoch.
    knows_epochs: bool,
    /// Where its log ends.
    log_end: i64,
}

/// What was asked: the request, and the epoch or offset in it.
type Asked = Arc<Mutex<Vec<(i16, i64)>>>;

struct Broker {
    script: Arc<Mutex<Script>>,
    asked: Asked,
    port: u16,
}

impl Broker {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, asked) = (Arc::new(Mutex::new(script)), Asked::default());
        let broker = Self { script: Arc::clone(&script), asked: Arc::clone(&asked), port };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, Arc::clone(&script), Arc::clone(&asked)));
            }
        });
        broker
    }

    fn count(&self, key: i16) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| *asked == key).count()
    }

    /// Starts a fetcher of partition 0.
    fn fetch(&self, stage: Stage) -> (mpsc::Receiver<Fetched>, mpsc::Sender<Rewind>, watch::Receiver<KafkaProgress>) {
        let settings = FetchSettings {
            topic: "t".into(),
            isolation: 0,
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            buffer_bytes: 1 << 20,
            reset: OffsetReset::Latest,
        };
        let assignment = Assignment {
            generation: 1,
            topic_id: TOPIC_ID,
            partition_count: 1,
            known_partition_count: Some(1),
            partitions: BTreeMap::new(),
        };
        let options = ConnectOptions {
            client_id: Arc::from("test"),
            limit: Duration::from_secs(10),
            max_answer: 1 << 20,
            tls: None,
            sasl: None,
            round_trip: RoundTrip::default(),
        };
        let cluster = Cluster::new(vec![HostPort { host: "127.0.0.1".into(), port: self.port }], options);
        let (progress, seen) = watch::channel(KafkaProgress::default());
        let stages = BTreeMap::from([(0, stage)]);
        let (fetcher, fetched, rewinds) = Fetcher::new(Arc::new(settings), assignment, stages, cluster, progress);
        tokio::spawn(fetcher.run());
        (fetched, rewinds, seen)
    }
}

async fn serve(mut stream: TcpStream, port: u16, script: Arc<Mutex<Script>>, asked: Asked) {
    while let Ok(length) = stream.read_i32().await {
        let mut request = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut request).await.unwrap();
        let mut reader = Reader::new(&request);
        let (key, version) = (reader.i16().unwrap(), reader.i16().unwrap());
        let correlation = reader.i32().unwrap();
        reader.string().unwrap(); // client id
        let script = script.lock().unwrap().clone();
        let (body, seen, wait) = answer(&script, port, (key, version), &mut reader);
        asked.lock().unwrap().push((key, seen));
        if wait {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut out = Vec::new();
        put_i32(&mut out, i32::try_from(4 + body.len()).unwrap());
        put_i32(&mut out, correlation);
        out.extend(body);
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// The body of an answer, the number of interest in the request, and whether a broker would wait with it.
fn answer(script: &Script, port: u16, (key, version): (i16, i16), request: &mut Reader<'_>) -> (Vec<u8>, i64, bool) {
    match key {
        18 => (script.versions(), version.into(), false),
        METADATA => (script.metadata(port), script.told_epoch.into(), false),
        LIST_OFFSETS => {
            request.take(4 + 1 + 4 + 3 + 4 + 4, "up to the epoch").unwrap();
            let (current, timestamp) = (request.i32().unwrap(), request.i64().unwrap());
            (script.listed(current, timestamp), current.into(), false)
        }
        EPOCH_END => {
            request.take(4 + 4 + 3 + 4 + 4, "up to the epochs").unwrap();
            let (current, epoch) = (request.i32().unwrap(), request.i32().unwrap());
            (script.epoch_ends(current), epoch.into(), false)
        }
        FETCH => {
            request.take(4 + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 3 + 4 + 4, "up to the epoch").unwrap();
            let (current, offset) = (request.i32().unwrap(), request.i64().unwrap());
            (script.fetched(current, offset), offset, script.refusal(current) == 0 && offset == script.log_end)
        }
        other => panic!("request {other}"),
    }
}

impl Script {
    /// A leader refuses who has heard of another epoch than its own.
    fn refusal(&self, current: i32) -> i16 {
        match current {
            UNKNOWN_EPOCH => 0,
            current if current < self.epoch => 74,
            current if current > self.epoch => 75,
            _ => 0,
        }
    }

    fn versions(&self) -> Vec<u8> {
        let known = [(FETCH, 4, 11), (LIST_OFFSETS, 1, 4), (METADATA, 0, 7), (EPOCH_END, 2, 3), (18, 0, 0)];
        let known = known.iter().filter(|(key, ..)| *key != EPOCH_END || self.knows_epochs).collect::<Vec<_>>();
        let mut out = Vec::new();
        put_i16(&mut out, 0);
        put_array(&mut out, known.into_iter(), |out, (key, oldest, newest)| {
            for number in [key, oldest, newest] {
                put_i16(out, *number);
            }
        });
        out
    }

    fn metadata(&self, port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [0, 1, 1] {
            put_i32(&mut out, number); // throttle time, one broker, its id
        }
        put_string(&mut out, "127.0.0.1");
        put_i32(&mut out, port.into());
        put_i16(&mut out, -1); // rack
        put_i16(&mut out, -1); // cluster id
        put_i32(&mut out, 1); // controller
        put_i32(&mut out, 1); // topics
        put_i16(&mut out, 0);
        put_string(&mut out, "t");
        out.push(0); // is_internal
        put_i32(&mut out, 1);
        put_i16(&mut out, 0);
        // Index, leader, its epoch, and no replicas.
        for number in [0, 1, self.told_epoch, 0, 0, 0] {
            put_i32(&mut out, number);
        }
        out
    }

    fn listed(&self, current: i32, timestamp: i64) -> Vec<u8> {
        let mut out = of_topic(1);
        put_i32(&mut out, 0);
        put_i16(&mut out, self.refusal(current));
        put_i64(&mut out, -1);
        put_i64(&mut out, if timestamp == -2 { 0 } else { self.log_end });
        put_i32(&mut out, self.epoch);
        out
    }

    fn epoch_ends(&self, current: i32) -> Vec<u8> {
        let mut out = of_topic(self.ends.len());
        for (error, leader_epoch, end) in &self.ends {
            put_i16(&mut out, if *error == 0 { self.refusal(current) } else { *error });
            put_i32(&mut out, 0);
            put_i32(&mut out, *leader_epoch);
            put_i64(&mut out, *end);
        }
        out
    }

    fn fetched(&self, current: i32, offset: i64) -> Vec<u8> {
        let error = if self.refusal(current) == 0 { i16::from(offset > self.log_end) } else { self.refusal(current) };
        let records = if error == 0 && offset < self.log_end { batch(offset, self) } else { Vec::new() };
        let mut out = Vec::new();
        put_i32(&mut out, 0);
        put_i16(&mut out, 0);
        out.extend(of_topic(1)); // the session's id in place of the throttle time
        put_i32(&mut out, 0);
        put_i16(&mut out, error);
        for offset in [self.log_end, self.log_end, 0] {
            put_i64(&mut out, offset);
        }
        put_i32(&mut out, 0); // aborted transactions
        put_i32(&mut out, -1); // preferred replica
        put_bytes(&mut out, &records);
        out
    }
}

/// No throttle time, one topic, this number of partitions.
fn of_topic(partitions: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_i32(&mut out, 0);
    put_i32(&mut out, 1);
    put_string(&mut out, "t");
    put_i32(&mut out, i32::try_from(partitions).unwrap());
    out
}

/// One record at this offset, of the leader's epoch.
fn batch(offset: i64, script: &Script) -> Vec<u8> {
    let mut writer = BatchWriter::new(Codec::None);
    writer.append(&NewRecord { timestamp: 0, key: None, value: Some(b"{}"), headers: &[] }).unwrap();
    let mut bytes = writer.finish();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&script.epoch.to_be_bytes());
    bytes
}

fn script() -> Script {
    Script { told_epoch: 3, epoch: 3, ends: vec![(0, 2, 100)], knows_epochs: true, log_end: 101 }
}

fn committed(offset: i64, leader_epoch: i32) -> Stage {
    let note = CommitNote { partition_count: 1, topic_id: TOPIC_ID, parts: Some(Vec::new()) };
    Stage::Unresolved(Some(Committed { offset, leader_epoch, note: Some(note) }))
}

/// The next start or the offset of the next records.
async fn next(fetched: &mut mpsc::Receiver<Fetched>) -> (&'static str, i64, i32) {
    match fetched.recv().await.unwrap() {
        Fetched::Start { offset, epoch, .. } => ("start", offset, epoch),
        Fetched::Records(answer, epochs, _) => ("records", answer.sections[0].fetch_offset, epochs[0].epoch),
        Fetched::Recreated | Fetched::SameTopic => ("another topic", 0, 0),
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_above_the_end_of_its_epoch_goes_on_there() {
    let broker = Broker::start(script()).await;
    let (mut fetched, rewinds, seen) = broker.fetch(committed(101, 2));
    assert_eq!(next(&mut fetched).await, ("start", 100, 2));
    let rewind = Rewind { partition: 0, position: Position::new(100, 2), pause: Duration::ZERO, blocked: None };
    rewinds.send(rewind).await.unwrap();
    assert_eq!(next(&mut fetched).await, ("records", 100, 3));
    assert_eq!((seen.borrow().log_cuts, seen.borrow().errors), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_log_holds_goes_on_as_it_is() {
    let broker = Broker::start(script()).await;
    let (mut fetched, _rewinds, seen) = broker.fetch(committed(100, 2));
    assert_eq!(next(&mut fetched).await, ("start", 100, 2));
    assert_eq!(next(&mut fetched).await, ("records", 100, 3));
    assert_eq!((seen.borrow().log_cuts, broker.count(EPOCH_END)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn without_an_epoch_or_the_request_it_is_as_before() {
    for (knows_epochs, epoch) in [(false, 2), (true, UNKNOWN_EPOCH)] {
        let broker = Broker::start(Script { knows_epochs, ..script() }).await;
        let (mut fetched, _rewinds, _seen) = broker.fetch(committed(100, epoch));
        assert_eq!(next(&mut fetched).await, ("start", 100, epoch));
        assert_eq!(next(&mut fetched).await, ("records", 100, 3));
        assert_eq!(broker.count(EPOCH_END), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_serves_nothing_before_it_was_asked() {
    let first = Script { told_epoch: 2, epoch: 2, ends: vec![(0, 2, 300)], knows_epochs: true, log_end: 200 };
    let broker = Broker::start(first).await;
    let (mut fetched, rewinds, _seen) = broker.fetch(Stage::At(Position::new(199, 2)));
    assert_eq!(next(&mut fetched).await, ("records", 199, 2));
    // An unclean election, and the log has grown over the position before anybody looks. The metadata lags behind.
    let second = Script { told_epoch: 2, epoch: 3, ends: vec![(0, 2, 150)], knows_epochs: true, log_end: 300 };
    *broker.script.lock().unwrap() = second;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(fetched.try_recv().is_err(), "what the new leader has at 200 was never compared");
    let refused = broker.count(FETCH);
    assert!(refused < 200, "{refused} fetches in 20 s");
    broker.script.lock().unwrap().told_epoch = 3;
    assert_eq!(next(&mut fetched).await, ("start", 150, 2));
    let rewind = Rewind { partition: 0, position: Position::new(150, 2), pause: Duration::ZERO, blocked: None };
    rewinds.send(rewind).await.unwrap();
    assert_eq!(next(&mut fetched).await, ("records", 150, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_asked_again_and_nothing_read_meanwhile() {
    // Lacking, twice, of a later epoch than asked about, and refused.
    let table = [vec![], vec![(0, 2, 150); 2], vec![(0, 3, 150)], vec![(6, -1, -1)], vec![(-1, -1, -1)]];
    for ends in table {
        let broker = Broker::start(Script { ends: ends.clone(), log_end: 300, ..script() }).await;
        let (mut fetched, _rewinds, _seen) = broker.fetch(Stage::At(Position::new(200, 2)));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(fetched.try_recv().is_err(), "{ends:?}");
        assert_eq!(broker.count(FETCH), 0, "{ends:?}");
        let asked = broker.count(EPOCH_END);
        assert!((2..200).contains(&asked), "{ends:?}: asked {asked} times in 20 s");
        broker.script.lock().unwrap().ends = vec![(0, 2, 150)];
        assert_eq!(next(&mut fetched).await, ("start", 150, 2), "{ends:?}");
    }
}

#[test]
fn metadata_that_names_an_older_leader_does_not_count() {
    let now = Instant::now();
    let backoff = Backoff::new(PAUSE, PAUSE);
    let mut metadata =
        Metadata { leaders: BTreeMap::new(), newest: BTreeMap::new(), due: now, not_before: now, backoff };
    let told = |leader, leader_epoch| [PartitionMetadata { error: 0, index: 0, leader, leader_epoch }];
    let home = |node, epoch| Some(Home { node, epoch });
    for (leader, epoch, same_topic, expected) in [
        (1, 5, true, home(1, 5)),
        (2, 4, true, home(1, 5)),
        (2, 6, true, home(2, 6)),
        (1, 5, true, home(2, 6)),
        (-1, 7, true, None),
        (1, 5, true, None),
        // A topic that has begun again.
        (1, 0, false, home(1, 0)),
        (2, UNKNOWN_EPOCH, true, home(2, UNKNOWN_EPOCH)),
    ] {
        metadata.learn(&told(leader, epoch), same_topic);
        assert_eq!(metadata.leaders.get(&0).copied(), expected, "{leader} {epoch}");
    }
}
