//! A valve between the program and ClickHouse that leaves the outcome of an insert unknown: the server gets all of it
//! and stores it, its answer is cut, and then nobody is there until the valve is opened again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{ClickHouse, free_port, wait_until};

/// A forwarder with a port of its own.
#[derive(Debug)]
pub(crate) struct Valve {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    server: u16,
    /// The answer to the next insert is to be cut.
    armed: AtomicBool,
    /// Answers cut.
    cut: AtomicU64,
    /// Closed while there is none.
    listener: Mutex<Option<Arc<AtomicBool>>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Valve {
    /// An open valve before this server.
    pub(crate) fn before(server: &ClickHouse) -> Self {
        let valve = Self { port: free_port(), state: Arc::new(State { server: server.port, ..State::default() }) };
        valve.open();
        valve
    }

    /// For `CLICKHOUSE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Listens (again).
    pub(crate) fn open(&self) {
        let listener = wait_until(Duration::from_secs(10), "the port is free", || {
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).map_err(|error| error.to_string())
        });
        let closed = Arc::new(AtomicBool::new(false));
        *locked(&self.state.listener) = Some(Arc::clone(&closed));
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    break; // and the listener with it: from now on connections are refused
                }
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, state.server)) else { continue };
                join(&state, client, server);
            }
        });
    }

    /// Cuts the answer to the next insert, and closes; returns when that has happened.
    pub(crate) fn cut_an_answer(&self) {
        let before = self.state.cut.load(Ordering::SeqCst);
        self.state.armed.store(true, Ordering::SeqCst);
        wait_until(Duration::from_secs(60), "an insert's answer is cut", || {
            if self.state.cut.load(Ordering::SeqCst) > before { Ok(()) } else { Err("none yet".to_owned()) }
        });
        wait_until(Duration::from_secs(10), "connections are refused", || {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(_) => Err("one was taken".to_owned()),
                Err(_) => Ok(()),
            }
        });
    }
}

impl State {
    /// Ends every connection and listens no more.
    fn close(&self) {
        for stream in locked(&self.streams).drain(..) {
            // Its other end may have closed it already.
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(closed) = locked(&self.listener).take() {
            closed.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.state.close();
        // Wakes the thread that listens, so that it sees it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Two threads for one connection, one each way.
fn join(state: &Arc<State>, client: TcpStream, server: TcpStream) {
    let inserting = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    locked(&state.streams).push(client.try_clone().unwrap());
    let (mut to_client, mut to_server) = (client, server);
    let seen = Arc::clone(&inserting);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut buffer) {
            if buffer[..length].starts_with(b"POST ") {
                let insert = buffer[..length].windows(12).any(|window| window == b"decompress=1");
                seen.store(insert, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(to_server.shutdown(Shutdown::Write));
    });
    let state = Arc::clone(state);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_server.read(&mut buffer) {
            if inserting.load(Ordering::SeqCst) && state.armed.swap(false, Ordering::SeqCst) {
                assert!(buffer[..length].starts_with(b"HTTP/1.1 200"), "the insert was not stored");
                state.close();
                state.cut.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(to_client.shutdown(Shutdown::Both));
    });
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
