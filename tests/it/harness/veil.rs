//! A proxy before a broker that hides a topic: who asks for it hears that it does not exist, who creates it that it does.
//! Brokers say so of a topic that is being deleted, for as long as that takes them, but not for as long as a test asks.
//! It can also refuse the commits of offsets, as a coordinator does while it loads the group.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::kafka::{Kafka, Node, controller_listener};
use super::{free_port, scratch};

/// The broker, and a way to it on which a topic may be hidden.
#[derive(Debug)]
pub(crate) struct Veiled {
    pub(crate) kafka: Kafka,
    port: u16,
    veil: Arc<Veil>,
}

#[derive(Debug, Default)]
struct Veil {
    /// The topic, and a name of the same length that no topic has.
    hidden: Mutex<Option<(String, String)>>,
    /// What commits of offsets are answered with instead of being forwarded; 0: they are forwarded.
    refusal: AtomicI16,
    /// Commits refused so far.
    refused: AtomicU64,
    over: AtomicBool,
}

/// The key of OffsetCommit requests.
const OFFSET_COMMIT: [u8; 2] = [0, 8];
/// The key of Metadata requests; Apache Kafka's protocol guide, "API Keys".
const METADATA: [u8; 2] = [0, 3];

impl Veiled {
    /// Starts the broker, hiding nothing.
    pub(crate) fn start() -> Self {
        let (open, inner, controller) = (free_port(), free_port(), free_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own_listener = controller_listener(controller);
        let properties = [
            format!("listeners=PLAINTEXT://127.0.0.1:{open},VEILED://127.0.0.1:{inner}{own_listener}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{open},VEILED://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,VEILED:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ];
        let env = vec![("KAFKA_REBALANCE_DELAY_MS", "0".to_owned()), ("KAFKA_PROPERTIES", properties.join("\n"))];
        let node = Node { port: open, controller, dir: scratch("kafka-veiled"), env };
        let veil = Arc::new(Veil::default());
        let kept = Arc::clone(&veil);
        thread::spawn(move || {
            for client in listener.incoming() {
                if kept.over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, inner)) else { continue };
                join(&kept, client, broker);
            }
        });
        Self { kafka: Kafka::start_nodes(vec![node]), port, veil }
    }

    /// For `KAFKA_BOOTSTRAP_SERVERS`: the way on which topics are hidden.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on nobody finds this topic.
    pub(crate) fn hide(&self, topic: &str) {
        let nowhere = "-".repeat(topic.len());
        assert!(!self.kafka.topics().contains(&nowhere), "{nowhere} is a topic");
        *self.veil.hidden() = Some((topic.to_owned(), nowhere));
    }

    /// From now on every commit of offsets is answered with this error code; with 0 they are taken again.
    pub(crate) fn refuse_commits(&self, code: i16) {
        self.veil.refusal.store(code, Ordering::SeqCst);
    }

    /// Commits refused so far.
    pub(crate) fn refused_commits(&self) -> u64 {
        self.veil.refused.load(Ordering::SeqCst)
    }

    /// From now on all find it again.
    pub(crate) fn show(&self) {
        *self.veil.hidden() = None;
    }
}

impl Drop for Veiled {
    fn drop(&mut self) {
        self.veil.over.store(true, Ordering::SeqCst);
        // Wakes the thread that listens, so that it sees it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Two threads for one connection: what is asked for is another name, and what is answered again the one that was meant.
fn join(veil: &Arc<Veil>, client: TcpStream, broker: TcpStream) {
    let (from_client, from_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
    // Refusals come from one thread, the broker's answers from the other.
    let (to_broker, to_client) = (Arc::new(Mutex::new(broker)), Arc::new(Mutex::new(client)));
    let (asking, refusals) = (Arc::clone(veil), Arc::clone(&to_client));
    thread::spawn(move || {
        copy_frames(from_client, &to_broker, |frame| {
            if let (true, Some((topic, nowhere))) = (frame.starts_with(&METADATA), asking.hidden().clone()) {
                replace(frame, topic.as_bytes(), nowhere.as_bytes());
            }
            let code = asking.refusal.load(Ordering::SeqCst);
            if code == 0 || !frame.starts_with(&OFFSET_COMMIT) {
                return true;
            }
            asking.refused.fetch_add(1, Ordering::SeqCst);
            let answer = refused_commit(frame, code);
            // The client may be gone; then its next request is not there to be read.
            drop(write_frame(&refusals, &answer));
            false
        });
    });
    let answering = Arc::clone(veil);
    thread::spawn(move || {
        copy_frames(from_broker, &to_client, |frame| {
            if let Some((topic, nowhere)) = answering.hidden().clone() {
                replace(frame, nowhere.as_bytes(), topic.as_bytes());
            }
            true
        });
    });
}

/// The answer to an OffsetCommit request before v8 in which each partition has this error code. Both forms are those of
/// Apache Kafka's protocol guide: header with client id, group, generation, member, instance, then topics of partitions,
/// each with offset, leader epoch and text.
fn refused_commit(request: &[u8], code: i16) -> Vec<u8> {
    let mut fields = Fields(request);
    fields.take(4); // key and version
    let mut answer = fields.take(4).to_vec();
    fields.text(); // client id
    fields.text(); // group
    fields.take(4); // generation
    fields.text(); // member
    fields.text(); // instance
    answer.extend(0_i32.to_be_bytes()); // throttle time
    let topics = fields.number();
    answer.extend(topics.to_be_bytes());
    for _ in 0..topics {
        answer.extend(fields.text());
        let partitions = fields.number();
        answer.extend(partitions.to_be_bytes());
        for _ in 0..partitions {
            answer.extend(fields.take(4));
            answer.extend(code.to_be_bytes());
            fields.take(8 + 4); // offset and leader epoch
            fields.text();
        }
    }
    assert!(fields.0.is_empty(), "not an OffsetCommit request of v7: {request:?}");
    answer
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// A string with its length before it, -1 for none.
    fn text(&mut self) -> &'a [u8] {
        let length = i16::from_be_bytes([self.0[0], self.0[1]]);
        self.take(2 + usize::try_from(length).unwrap_or(0))
    }
}

impl Veil {
    fn hidden(&self) -> MutexGuard<'_, Option<(String, String)>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames are four bytes of length and what follows them. Those that `each` says no to are kept back.
fn copy_frames(mut from: TcpStream, to: &Mutex<TcpStream>, mut each: impl FnMut(&mut [u8]) -> bool) {
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        if each(&mut frame) && write_frame(to, &frame).is_err() {
            break;
        }
    }
    // The other end may have closed it already.
    drop(to.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

fn write_frame(to: &Mutex<TcpStream>, frame: &[u8]) -> std::io::Result<()> {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    to.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes())?;
    to.write_all(frame)
}

fn replace(frame: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while let Some(found) = frame[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        frame[at..at + to.len()].copy_from_slice(to);
        at += to.len();
    }
}
