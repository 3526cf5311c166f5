//! HTTP for tests: one request a connection, blocking. HTTP/1.0, so that bodies come unchunked and end with the
//! connection, and can be read as a stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: BufReader<TcpStream>,
}

impl Answer {
    /// The whole body.
    pub(crate) fn text(mut self) -> Result<String, String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// One header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Asks a port of this machine. An error is whatever went wrong below HTTP, in words.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, String> {
    let words = |error: std::io::Error| error.to_string();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(words)?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(words)?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).map_err(words)?;
    stream.write_all(body).map_err(words)?;
    let mut body = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    body.read_line(&mut line).map_err(words)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| format!("not an HTTP answer: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        body.read_line(&mut line).map_err(words)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(Answer { status, headers, body }),
        }
    }
}
