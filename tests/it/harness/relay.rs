//! A way to a broker on which things happen: nothing passes any more though connections stay open, everything takes its
//! time, or answers are others than the broker gave.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::kafka::{Kafka, Node, controller_listener};
use super::{free_port, scratch};

/// What becomes of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Pass,
    /// They are swallowed; new connections are taken.
    Swallow,
    /// They take this long, each way.
    Delay(Duration),
    /// Requests of the group (offsets among them) are swallowed; all others pass.
    MuteGroup,
    /// Fetches are swallowed; all other requests pass.
    MuteFetch,
}

/// Changes an answer (without its length, with its correlation id) to a request with this key.
pub(crate) type Edit = Box<dyn Fn(i16, Vec<u8>) -> Vec<u8> + Send>;

/// The broker, and the way to it.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) kafka: Kafka,
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mode: Mutex<Option<Mode>>,
    edit: Mutex<Option<Edit>>,
    /// Requests that were passed on, by their key.
    requests: Mutex<BTreeMap<i16, u64>>,
    over: AtomicBool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

/// Keys of requests; Apache Kafka's protocol guide, "API Keys".
const FETCH: i16 = 1;
pub(crate) const OFFSET_COMMIT: i16 = 8;
pub(crate) const OFFSET_FETCH: i16 = 9;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const SYNC_GROUP: i16 = 14;
/// OffsetCommit, OffsetFetch, FindCoordinator, JoinGroup, Heartbeat, LeaveGroup, SyncGroup.
const GROUP: [i16; 7] = [OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, 11, 12, 13, SYNC_GROUP];

impl Relay {
    /// Starts a broker that advertises the way through here, which lets everything pass.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more properties of the broker.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        let (open, inner, controller) = (free_port(), free_port(), free_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own_listener = controller_listener(controller);
        let mut properties = vec![
            format!("listeners=PLAINTEXT://127.0.0.1:{open},RELAY://127.0.0.1:{inner}{own_listener}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{open},RELAY://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,RELAY:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ];
        properties.extend(more.iter().map(|line| (*line).to_owned()));
        let env = vec![("KAFKA_REBALANCE_DELAY_MS", "0".to_owned()), ("KAFKA_PROPERTIES", properties.join("\n"))];
        let node = Node { port: open, controller, dir: scratch("kafka-relay"), env };
        let state = Arc::new(State::default());
        let kept = Arc::clone(&state);
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
        Self { kafka: Kafka::start_nodes(vec![node]), port, state }
    }

    /// For `KAFKA_BOOTSTRAP_SERVERS`.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        *locked(&self.state.mode) = Some(mode);
    }

    /// From now on answers are changed so, or not.
    pub(crate) fn edit(&self, edit: Option<Edit>) {
        *locked(&self.state.edit) = edit;
    }

    /// From now on every partition of every OffsetCommit is answered with this code.
    pub(crate) fn answer_commits(&self, code: i16) {
        self.edit(Some(Box::new(move |key, mut answer| {
            if key == OFFSET_COMMIT {
                each_commit(&mut answer, |at| at.copy_from_slice(&code.to_be_bytes()));
            }
            answer
        })));
    }

    /// How many requests with this key came through so far.
    pub(crate) fn requests(&self, key: i16) -> u64 {
        locked(&self.state.requests).get(&key).copied().unwrap_or(0)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the thread that listens, so that it sees it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// The code of each partition in an answer to OffsetCommit v7: correlation id, throttle time, topics, each with its name
/// and its partitions, each with index and code.
fn each_commit(answer: &mut [u8], mut change: impl FnMut(&mut [u8])) {
    let mut at = 8;
    let number = |answer: &[u8], at: &mut usize, bytes: usize| {
        let read = answer[*at..*at + bytes].iter().fold(0, |read, byte| (read << 8) | usize::from(*byte));
        *at += bytes;
        read
    };
    for _ in 0..number(answer, &mut at, 4) {
        at += number(answer, &mut at, 2);
        for _ in 0..number(answer, &mut at, 4) {
            at += 4;
            change(&mut answer[at..at + 2]);
            at += 2;
        }
    }
}

/// Two threads for one connection. Which request an answer belongs to is told by its correlation id.
fn join(state: &Arc<State>, client: TcpStream, broker: TcpStream) {
    let (from_client, from_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
    let keys = Arc::new(Mutex::new(HashMap::<[u8; 4], i16>::new()));
    let (asking, asked) = (Arc::clone(state), Arc::clone(&keys));
    thread::spawn(move || {
        copy_frames(&asking, from_client, broker, |frame| {
            let (key, id) = (i16::from_be_bytes([frame[0], frame[1]]), [frame[4], frame[5], frame[6], frame[7]]);
            locked(&asked).insert(id, key);
            *locked(&asking.requests).entry(key).or_default() += 1;
            let mute = match *locked(&asking.mode) {
                Some(Mode::MuteGroup) => GROUP.contains(&key),
                Some(Mode::MuteFetch) => key == FETCH,
                _ => false,
            };
            (!mute).then_some(frame)
        });
    });
    let answering = Arc::clone(state);
    thread::spawn(move || {
        copy_frames(&answering, from_broker, client, |frame| {
            let key = locked(&keys).remove(&frame[..4]);
            Some(match (key, locked(&answering.edit).as_ref()) {
                (Some(key), Some(edit)) => edit(key, frame),
                _ => frame,
            })
        });
    });
}

/// Frames are four bytes of length and what follows them.
fn copy_frames(
    state: &State,
    mut from: TcpStream,
    mut to: TcpStream,
    mut each: impl FnMut(Vec<u8>) -> Option<Vec<u8>>,
) {
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let came = Instant::now();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        let mode = locked(&state.mode).unwrap_or(Mode::Pass);
        match mode {
            Mode::Pass | Mode::MuteGroup | Mode::MuteFetch => {}
            Mode::Swallow => continue,
            Mode::Delay(by) => thread::sleep(by.saturating_sub(came.elapsed())),
        }
        let Some(frame) = each(frame) else { continue };
        let length = (frame.len() as u32).to_be_bytes();
        if to.write_all(&length).and_then(|()| to.write_all(&frame)).is_err() {
            break;
        }
    }
    // The other end may have closed it already.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
