//! Answers through a socket, read as the program reads them.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use sandarb_consumer::kafka::records::reader::Answer;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A connection on which another thread sends the answers over and over again; what the sending costs is not counted.
pub(crate) struct Socket {
    runtime: Runtime,
    stream: TcpStream,
    lengths: Vec<usize>,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of the loopback");
        let address = listener.local_addr().expect("a bound listener");
        let lengths = answers.iter().map(|answer| answer.bytes.len()).collect();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the connection below");
            // Ends when the other side closes.
            while answers.iter().all(|answer| stream.write_all(&answer.bytes).is_ok()) {}
        });
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        let stream = runtime.block_on(TcpStream::connect(address)).expect("the listener above");
        Self { runtime, stream, lengths, buffer: Vec::new() }
    }

    /// Reads all answers once, each into the same buffer: the loop of `kafka/direct`.
    pub(crate) fn read(&mut self) -> u64 {
        let Self { runtime, stream, lengths, buffer } = self;
        runtime.block_on(async {
            let mut sum = 0;
            for length in lengths {
                buffer.clear();
                buffer.reserve(*length);
                let mut body = (&mut *stream).take(*length as u64);
                while buffer.len() < *length {
                    assert_ne!(body.read_buf(buffer).await.expect("a loopback"), 0, "the sender goes on for ever");
                }
                sum += buffer.len() as u64;
            }
            sum
        })
    }
}
