//! A proxy between the program and a real ClickHouse that spoils inserts as networks and gateways do: the server has done
//! its part, or has never heard of it, and the program cannot tell.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{free_port, wait_until};

/// What becomes of one insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing: the server's own answer.
    Pass,
    /// The rows are stored; the connection closes without a word.
    LostAnswer,
    /// The rows are stored; the answer breaks off in the middle of its headers.
    CutHead,
    /// The rows are stored; the answer lacks its last chunk.
    CutBody,
    /// The rows are stored; the answer is 200 with an exception code in a header.
    CodeIn200,
    /// Nothing is stored, and the answer is the same.
    CodeIn200Unstored,
    /// Nothing is stored: the gateway says 503.
    Unavailable,
    /// The rows are stored; the gateway says 504.
    GatewayTimeout,
    /// The rows are stored; nothing is ever said.
    Silence,
    /// Nothing is said, and only when the program has given up does the request reach the server.
    Late,
    /// Most of the request reaches the server, and then no more.
    CutRequest,
    /// Nothing is stored, and the answer confirms all rows beside an exception code that is no number.
    OddCode,
    /// Nothing is stored: the gateway says 413.
    TooLarge,
    /// The rows are stored, the connection closes without a word, and from then on connections are refused.
    LastWords,
}

impl Fault {
    /// Each that lets the next request through.
    pub(crate) const ALL: [Self; 12] = [
        Self::LostAnswer,
        Self::CutHead,
        Self::CutBody,
        Self::CodeIn200,
        Self::CodeIn200Unstored,
        Self::Unavailable,
        Self::GatewayTimeout,
        Self::Silence,
        Self::Late,
        Self::CutRequest,
        Self::OddCode,
        Self::TooLarge,
    ];
}

/// The proxy. Only inserts are spoiled, in turn by the script; when it is at its end it begins anew.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: u16,
    refusing: AtomicBool,
    listening: AtomicBool,
    bare: AtomicBool,
    over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: Vec<Fault>,
    at: usize,
    done: BTreeMap<Fault, u32>,
    /// A fault that was not what its name says.
    wrong: Option<String>,
}

impl Proxy {
    /// In front of the server at `backend`.
    pub(crate) fn start(backend: u16, script: &[Fault]) -> Self {
        // Not one of the kernel's choice: between refusing and listening again another's connection could take that.
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let state = Mutex::new(State { script: script.to_vec(), ..State::default() });
        let off = AtomicBool::default;
        let shared = Arc::new(Shared {
            backend,
            refusing: off(),
            listening: AtomicBool::new(true),
            bare: off(),
            over: off(),
            state,
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || listen(port, listener, &own));
        Self { port, shared }
    }

    /// For `CLICKHOUSE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Goes on with another script.
    pub(crate) fn play(&self, script: &[Fault]) {
        let mut state = self.shared.state();
        state.script = script.to_vec();
        state.at = 0;
    }

    /// How often each fault was played. Panics when one was not what its name says.
    pub(crate) fn done(&self) -> BTreeMap<Fault, u32> {
        let state = self.shared.state();
        assert_eq!(state.wrong, None);
        state.done.clone()
    }

    /// Takes `X-ClickHouse-Summary` out of all answers, or leaves it there.
    pub(crate) fn hide_summaries(&self, hide: bool) {
        self.shared.bare.store(hide, Ordering::SeqCst);
    }

    /// Refuses connections, or takes them again; returns when it is so.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::SeqCst);
        wait_until(Duration::from_secs(10), "the proxy has changed its mind", || {
            let listening = self.shared.listening.load(Ordering::SeqCst);
            if listening == refuse { Err(format!("listening: {listening}")) } else { Ok(()) }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Fault {
        let mut state = self.state();
        let fault = *state.script.get(state.at).unwrap_or(&Fault::Pass);
        state.at = (state.at + 1) % state.script.len().max(1);
        *state.done.entry(fault).or_default() += 1;
        fault
    }
}

/// Takes connections, each into a thread, until the proxy is dropped.
fn listen(port: u16, first: TcpListener, shared: &Arc<Shared>) {
    let mut listener = Some(first);
    while !shared.over.load(Ordering::SeqCst) {
        match (&listener, shared.refusing.load(Ordering::SeqCst)) {
            (Some(_), true) => listener = None,
            (None, false) => listener = Some(TcpListener::bind(("127.0.0.1", port)).unwrap()),
            (Some(open), false) => {
                open.set_nonblocking(true).unwrap();
                match open.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let own = Arc::clone(shared);
                        thread::spawn(move || {
                            // The program closes connections whenever it likes; anything else is wrong.
                            match serve(stream, &own) {
                                Err(error) if error.kind() == ErrorKind::Other => {
                                    own.state().wrong = Some(error.to_string());
                                }
                                Ok(()) | Err(_) => {}
                            }
                        });
                        continue;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                }
            }
            (None, true) => {}
        }
        shared.listening.store(listener.is_some(), Ordering::SeqCst);
        thread::sleep(LOOK);
    }
}

/// Between two looks at whether to listen.
const LOOK: Duration = Duration::from_millis(5);

/// With a short CLICKHOUSE_TIMEOUT_MS the server is told to give up after a second: on a busy machine that would be a
/// fault that is in no script.
fn patient(mut request: Vec<u8>) -> Vec<u8> {
    const SHORT: &[u8] = b"max_execution_time=1&";
    if let Some(at) = request.windows(SHORT.len()).position(|part| part == SHORT) {
        request.splice(at..at + SHORT.len(), *b"max_execution_time=60&");
    }
    request
}

/// One request; the server is asked to close after its answer, and so does the proxy.
fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client)?.map(patient) else { return Ok(()) };
    let insert = request.windows(12).any(|part| part == b"decompress=1");
    let fault = if insert { shared.next() } else { Fault::Pass };
    let forward = |part: &[u8]| exchange(shared.backend, part);
    let gateway = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
    };
    let code = "HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Code: 209\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    match fault {
        Fault::Pass if shared.bare.load(Ordering::SeqCst) => {
            let answer = forward(&request)?;
            let name = b"X-ClickHouse-Summary:";
            let at = answer.windows(name.len()).position(|part| part == name).unwrap();
            client.write_all(&[&answer[..at], b"X-Other:", &answer[at + name.len()..]].concat())?;
        }
        Fault::Pass => client.write_all(&forward(&request)?)?,
        Fault::OddCode => client.write_all(
            b"HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Code: 99999999999\r\n\
              X-ClickHouse-Summary: {\"written_rows\":\"1000000\"}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?,
        Fault::TooLarge => client.write_all(gateway("413 Payload Too Large").as_bytes())?,
        Fault::LostAnswer => drop(forward(&request)?),
        Fault::CutHead => client.write_all(&stored(forward(&request)?)?[..40])?,
        Fault::CutBody => {
            let answer = stored(forward(&request)?)?;
            if !answer.ends_with(b"\r\n0\r\n\r\n") {
                return Err(Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
            client.write_all(&answer[..answer.len() - 5])?;
        }
        Fault::CodeIn200 => {
            stored(forward(&request)?)?;
            client.write_all(code.as_bytes())?;
        }
        Fault::CodeIn200Unstored => client.write_all(code.as_bytes())?,
        Fault::Unavailable => client.write_all(gateway("503 Service Unavailable").as_bytes())?,
        Fault::GatewayTimeout => {
            stored(forward(&request)?)?;
            client.write_all(gateway("504 Gateway Timeout").as_bytes())?;
        }
        Fault::Silence => {
            stored(forward(&request)?)?;
            wait_for_the_end(&mut client)?;
        }
        Fault::Late => {
            wait_for_the_end(&mut client)?;
            // Beside its repetition; whichever comes first is the one that counts.
            forward(&request)?;
        }
        Fault::CutRequest => {
            if forward(&request[..request.len() - 100])?.starts_with(b"HTTP/1.1 200") {
                return Err(Error::other("a part of a block was taken"));
            }
        }
        Fault::LastWords => {
            stored(forward(&request)?)?;
            shared.refusing.store(true, Ordering::SeqCst);
            while shared.listening.load(Ordering::SeqCst) {
                thread::sleep(LOOK);
            }
        }
    }
    client.shutdown(Shutdown::Both)
}

/// The head with `Connection: close` in it, and the body; `None` when the connection ends without one.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    let mut whole = usize::MAX;
    while bytes.len() < whole {
        let read = client.read(&mut piece)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..read]);
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let (Some(end), usize::MAX) = (end, whole) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            whole = end + 4 + length.unwrap_or(0_usize);
            let close = b"\r\nConnection: close";
            drop(bytes.splice(end..end, close.iter().copied()));
            whole += close.len();
        }
    }
    Ok(Some(bytes))
}

/// Sends a request, or a part of one, to the server; all that it answers.
fn exchange(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(request)?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The answer, which says that the rows are in the table.
fn stored(answer: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let text = String::from_utf8_lossy(&answer);
    let good = text.starts_with("HTTP/1.1 200") && !text.contains("\r\nX-ClickHouse-Exception-Code:");
    if good { Ok(answer) } else { Err(Error::other(text.into_owned())) }
}

/// Waits until the program has closed the connection.
fn wait_for_the_end(client: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 64];
    while client.read(&mut piece)? > 0 {}
    Ok(())
}
