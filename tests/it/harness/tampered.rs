//! A proxy before a real broker that changes what passes: answers that the broker would give only in a rare moment, or
//! never. All that clients know of the broker is the proxy.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use sandarb_consumer::kafka::protocol::wire::{Reader, WireError};

use super::kafka::{Kafka, Node, controller_listener};
use super::{free_port, scratch};

/// Keys of requests; Apache Kafka's protocol guide, "API Keys".
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;
pub(crate) const API_VERSIONS: i16 = 18;

/// The broker, and the way to it on which answers are changed.
#[derive(Debug)]
pub(crate) struct Tampered {
    pub(crate) kafka: Kafka,
    port: u16,
    shared: Arc<Shared>,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) key: i16,
    pub(crate) version: i16,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It passes, changed or not.
    Pass,
    /// The connection closes instead.
    Cut,
    /// Nothing is ever said.
    Silence,
}

type Rule = Box<dyn FnMut(Asked, &mut Vec<u8>) -> Fate + Send>;

#[derive(Default)]
struct Shared {
    rule: Mutex<Option<Rule>>,
    over: AtomicBool,
    /// Connections taken so far, and requests seen.
    connections: AtomicU64,
    requests: AtomicU64,
    /// Per partition the offset of the last fetch.
    fetched: Mutex<BTreeMap<i32, i64>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("fetched", &self.fetched).finish_non_exhaustive()
    }
}

impl Tampered {
    /// Starts the broker; everything passes unchanged.
    pub(crate) fn start() -> Self {
        let (open, inner, controller) = (free_port(), free_port(), free_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own_listener = controller_listener(controller);
        let properties = [
            format!("listeners=PLAINTEXT://127.0.0.1:{open},PROXIED://127.0.0.1:{inner}{own_listener}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{open},PROXIED://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ];
        let env = vec![("KAFKA_REBALANCE_DELAY_MS", "0".to_owned()), ("KAFKA_PROPERTIES", properties.join("\n"))];
        let node = Node { port: open, controller, dir: scratch("kafka-tampered"), env };
        let shared = Arc::new(Shared::default());
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if kept.over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, inner)) else { continue };
                kept.connections.fetch_add(1, Ordering::SeqCst);
                join(&kept, client, broker);
            }
        });
        Self { kafka: Kafka::start_nodes(vec![node]), port, shared }
    }

    /// For `KAFKA_BOOTSTRAP_SERVERS`: the way through the proxy.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on each answer goes through this, from its correlation id on.
    pub(crate) fn tamper(&self, rule: impl FnMut(Asked, &mut Vec<u8>) -> Fate + Send + 'static) {
        *self.shared.rule() = Some(Box::new(rule));
    }

    /// From now on everything passes unchanged.
    pub(crate) fn pass(&self) {
        *self.shared.rule() = None;
    }

    /// Connections and requests seen so far.
    pub(crate) fn seen(&self) -> (u64, u64) {
        (self.shared.connections.load(Ordering::SeqCst), self.shared.requests.load(Ordering::SeqCst))
    }

    /// Per partition the offset that was last asked for.
    pub(crate) fn fetched(&self) -> BTreeMap<i32, i64> {
        self.shared.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tampered {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the thread that listens, so that it sees it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn rule(&self) -> MutexGuard<'_, Option<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two threads for one connection. Answers come in the order of their requests.
fn join(shared: &Arc<Shared>, client: TcpStream, broker: TcpStream) {
    let (from_client, from_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
    let asked: Arc<Mutex<VecDeque<Asked>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let counted = Arc::clone(shared);
    thread::spawn(move || {
        copy_frames(from_client, broker, |frame| {
            let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
            let request = Asked { key: number(0), version: number(2) };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
            counted.requests.fetch_add(1, Ordering::SeqCst);
            if request.key == FETCH {
                let asked = fetch_offsets(request.version, frame).unwrap();
                counted.fetched.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
            }
            Fate::Pass
        });
    });
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        copy_frames(from_broker, client, |frame| {
            let request = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap();
            shared.rule().as_mut().map_or(Fate::Pass, |rule| rule(request, frame))
        });
    });
}

/// Frames are four bytes of length and what follows them.
fn copy_frames(mut from: TcpStream, mut to: TcpStream, mut each: impl FnMut(&mut Vec<u8>) -> Fate) {
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        match each(&mut frame) {
            Fate::Pass => {}
            Fate::Cut => break,
            Fate::Silence => continue,
        }
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        if to.write_all(&length).and_then(|()| to.write_all(&frame)).is_err() {
            break;
        }
    }
    // The other end may have closed it already.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

/// The partitions and offsets of a Fetch request (v9 to v16).
fn fetch_offsets(version: i16, frame: &[u8]) -> Result<Vec<(i32, i64)>, WireError> {
    let flexible = version >= 12;
    let mut reader = Reader::new(&frame[8..]);
    reader.nullable_string()?; // client id
    if flexible {
        reader.tagged_fields()?;
    }
    let numbers = if version >= 15 { 3 } else { 4 };
    for _ in 0..numbers {
        reader.i32()?; // replica id, longest wait, least and most bytes
    }
    reader.i8()?; // isolation
    reader.i32()?; // session
    reader.i32()?; // its epoch
    let partition = |reader: &mut Reader<'_>| {
        let index = reader.i32()?;
        reader.i32()?; // current leader epoch
        let offset = reader.i64()?;
        if flexible {
            reader.i32()?; // last fetched epoch
        }
        reader.i64()?; // log start
        reader.i32()?; // most bytes
        if flexible {
            reader.tagged_fields()?;
        }
        Ok((index, offset))
    };
    let topics = if flexible {
        reader.compact_array(|reader| {
            if version >= 13 {
                reader.uuid()?;
            } else {
                reader.compact_nullable_string()?;
            }
            let partitions = reader.compact_array(partition)?;
            reader.tagged_fields()?;
            Ok(partitions)
        })?
    } else {
        reader.array(|reader| {
            reader.string()?;
            reader.array(partition)
        })?
    };
    Ok(topics.into_iter().flatten().collect())
}

/// Sets the error code of partitions in an answer to Fetch (v4 to v16), where `code` gives one for a partition.
pub(crate) fn set_fetch_errors(asked: Asked, answer: &mut [u8], mut code: impl FnMut(i32) -> Option<i16>) {
    for (index, at) in fetched_partitions(asked, answer) {
        if let Some(code) = code(index) {
            answer[at..at + 2].copy_from_slice(&code.to_be_bytes());
        }
    }
}

/// Gives a partition in an answer to Fetch another index.
pub(crate) fn rename_fetched(asked: Asked, answer: &mut [u8], from: i32, to: i32) {
    for (index, at) in fetched_partitions(asked, answer) {
        if index == from {
            answer[at - 4..at].copy_from_slice(&to.to_be_bytes());
        }
    }
}

/// The partitions in an answer to Fetch, and where their error codes are.
fn fetched_partitions(asked: Asked, answer: &[u8]) -> Vec<(i32, usize)> {
    let flexible = asked.version >= 12;
    let mut found = Vec::new();
    let total = answer.len();
    let mut reader = Reader::new(&answer[4..]);
    if flexible {
        reader.tagged_fields().unwrap();
    }
    reader.i32().unwrap(); // throttle time
    if asked.version >= 7 {
        reader.i16().unwrap(); // error
        reader.i32().unwrap(); // session
    }
    let mut partition = |reader: &mut Reader<'_>| {
        let index = reader.i32()?;
        found.push((index, total - reader.rest().len()));
        reader.i16()?; // error
        let offsets = 1 + usize::from(asked.version >= 4) + usize::from(asked.version >= 5);
        for _ in 0..offsets {
            reader.i64()?; // high watermark, last stable offset, log start
        }
        if flexible {
            reader.compact_array(|reader| {
                reader.i64()?;
                reader.i64()?;
                reader.tagged_fields()
            })?;
        } else {
            reader.array(|reader| {
                reader.i64()?;
                reader.i64()
            })?;
        }
        if asked.version >= 11 {
            reader.i32()?; // preferred read replica
        }
        if flexible {
            reader.compact_nullable_bytes()?;
            reader.tagged_fields()
        } else {
            reader.nullable_bytes().map(drop)
        }
    };
    if flexible {
        reader
            .compact_array(|reader| {
                if asked.version >= 13 {
                    reader.uuid()?;
                } else {
                    reader.compact_nullable_string()?;
                }
                reader.compact_array(&mut partition)?;
                reader.tagged_fields()
            })
            .unwrap();
    } else {
        reader
            .array(|reader| {
                reader.string()?;
                reader.array(&mut partition)
            })
            .unwrap();
    }
    found
}
