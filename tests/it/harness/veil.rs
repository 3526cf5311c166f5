//! A proxy before a broker that hides a topic: who asks for it hears that it does not exist, who creates it that it does.
//! Brokers say so of a topic that is being deleted, for as long as that takes them, but not for as long as a test asks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
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
    over: AtomicBool,
}

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
    let asking = Arc::clone(veil);
    thread::spawn(move || {
        copy_frames(from_client, broker, |frame| {
            if let (true, Some((topic, nowhere))) = (frame.starts_with(&METADATA), asking.hidden().clone()) {
                replace(frame, topic.as_bytes(), nowhere.as_bytes());
            }
        });
    });
    let answering = Arc::clone(veil);
    thread::spawn(move || {
        copy_frames(from_broker, client, |frame| {
            if let Some((topic, nowhere)) = answering.hidden().clone() {
                replace(frame, nowhere.as_bytes(), topic.as_bytes());
            }
        });
    });
}

impl Veil {
    fn hidden(&self) -> MutexGuard<'_, Option<(String, String)>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames are four bytes of length and what follows them.
fn copy_frames(mut from: TcpStream, mut to: TcpStream, mut each: impl FnMut(&mut [u8])) {
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        each(&mut frame);
        if to.write_all(&length).and_then(|()| to.write_all(&frame)).is_err() {
            break;
        }
    }
    // The other end may have closed it already.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

fn replace(frame: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while let Some(found) = frame[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        frame[at..at + to.len()].copy_from_slice(to);
        at += to.len();
    }
}
