//! Clients that mean no good: many connections to one port, each of which comes back when it is closed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// What each connection of a flood does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Sends a request a byte a second.
    Drip,
    /// Sends nothing.
    Idle,
    /// Sends half a request and closes its sending half.
    HalfOpen,
    /// Sends requests as fast as they are taken and reads the answers.
    Pipeline,
    /// Sends requests as fast as they are taken and reads nothing.
    Deaf,
    /// Sends one request, reads its answer and connects again.
    Churn,
}

/// A running flood; ends when dropped.
#[derive(Debug)]
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// This many connections to the port of this machine, from this many addresses of it.
    pub(crate) fn start(port: u16, habit: Habit, connections: usize, peers: u8) -> Self {
        let (stop, connected) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count) = (Arc::clone(&stop), Arc::clone(&connected));
        let thread = thread::spawn(move || {
            let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
            while !told.load(Ordering::Relaxed) {
                for index in 0..connections {
                    if let Some(client) = clients.get_mut(&index) {
                        if client.go_on(habit) == Fate::Closed {
                            clients.remove(&index);
                        }
                    } else if let Some(client) = Client::connect(port, (index % usize::from(peers)) as u8) {
                        count.fetch_add(1, Ordering::Relaxed);
                        clients.insert(index, client);
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, connected, thread: Some(thread) }
    }

    /// How many connections were made so far, those made again among them.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "the flood has broken off");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Closed,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// Bytes of [`REQUEST`] sent so far.
    sent: usize,
    next: Instant,
}

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: somebody\r\n\r\n";

impl Client {
    /// From 127.0.1.1 on: the probes come from 127.0.0.1, as does everything with one peer.
    fn connect(port: u16, peer: u8) -> Option<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        let from = if peer == 0 { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(127, 0, 1, peer) };
        socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
        socket.set_nonblocking(true).ok()?;
        match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
            Err(error) if error.raw_os_error() != Some(115) => None,
            _ => Some(Self { stream: socket.into(), sent: 0, next: Instant::now() }),
        }
    }

    /// What it does next; cheap when there is nothing to do.
    fn go_on(&mut self, habit: Habit) -> Fate {
        if habit != Habit::Deaf {
            let mut answer = [0; 65536];
            match self.stream.read(&mut answer) {
                Ok(0) => return Fate::Closed,
                Ok(_) if habit == Habit::Churn => return Fate::Closed,
                Err(error) if !waits(&error) => return Fate::Closed,
                _ => {}
            }
        }
        let outcome = match habit {
            Habit::Idle => Ok(0),
            Habit::HalfOpen | Habit::Churn if self.sent > 0 => Ok(0),
            Habit::HalfOpen => self.stream.write(&REQUEST[..10]).and_then(|count| {
                self.stream.shutdown(std::net::Shutdown::Write)?;
                Ok(count)
            }),
            Habit::Churn => self.stream.write(REQUEST),
            Habit::Pipeline | Habit::Deaf => self.stream.write(&REQUEST.repeat(100)),
            Habit::Drip if Instant::now() < self.next => Ok(0),
            Habit::Drip => {
                self.next = Instant::now() + Duration::from_secs(1);
                self.stream.write(&REQUEST[self.sent % REQUEST.len()..][..1])
            }
        };
        match outcome {
            Ok(count) => self.sent += count,
            Err(error) if !waits(&error) => return Fate::Closed,
            Err(_) => {}
        }
        Fate::Open
    }
}

fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
