use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use super::{Head, PATIENCE};

/// A connection to the sidecar, over which a test writes what it likes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The trailers of a chunked body.
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.start.split(' ').nth(1).expect("a status").parse().expect("a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The slug, if the answer is the sidecar's own.
    pub(crate) fn refusal(&self) -> String {
        self.head.one("bearerd-refusal")
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the sidecar takes bytes");
        self
    }

    /// Writes a request with the given lines, each without its line end.
    pub(crate) fn request(&mut self, lines: &[&str]) -> &mut Self {
        let mut text = lines.join("\r\n");
        text.push_str("\r\n\r\n");
        self.send(text)
    }

    /// A GET with the default `Host`, and its answer.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.request(&[&format!("GET {target} HTTP/1.1"), "Host: localhost"]).answer()
    }

    fn more(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0_u8; 16 * 1024];
        let count = super::read(&mut self.stream, &mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more().expect("bytes") > 0, "the connection ended within an answer");
        }
        self.buffer.drain(..count).collect()
    }

    fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            if self.more().expect("bytes") == 0 {
                let left = String::from_utf8_lossy(&self.buffer);
                panic!("the connection ended: {left:?}");
            }
        }
    }

    /// What has come, or else comes next; nothing at the end of the connection.
    pub(crate) fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.more().expect("bytes");
        }
        std::mem::take(&mut self.buffer)
    }

    /// Only the head of an answer.
    pub(crate) fn head(&mut self) -> Head {
        Head::parse(&self.take_through(b"\r\n\r\n"))
    }

    /// An answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        self.rest(head)
    }

    /// The body that a head announces.
    pub(crate) fn rest(&mut self, head: Head) -> Answer {
        let mut trailers = Vec::new();
        let status: u16 = head.start.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if status == 204 || status == 304 || status < 200 {
            Vec::new()
        } else if head.one("transfer-encoding") == "chunked" {
            let mut body = Vec::new();
            loop {
                let line = self.take_through(b"\r\n");
                let size = String::from_utf8_lossy(&line).trim().to_owned();
                let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
                if size == 0 {
                    break;
                }
                body.extend(self.take(size));
                assert_eq!(self.take(2), b"\r\n");
            }
            loop {
                let line = self.take_through(b"\r\n");
                if line == b"\r\n" {
                    break;
                }
                trailers.extend(Head::parse(&[b"\n", line.as_slice()].concat()).fields);
            }
            body
        } else if head.has("content-length") {
            let length = head.one("content-length").parse().expect("a length");
            self.take(length)
        } else {
            self.until_closed().expect("a clean end")
        };
        Answer { head, body, trailers }
    }

    /// Everything up to the end of the connection; an error if that is a reset.
    pub(crate) fn until_closed(&mut self) -> std::io::Result<Vec<u8>> {
        while self.more()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Everything up to this end, or to that of the connection, clean or not.
    pub(crate) fn until_closed_or(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.buffer.ends_with(end) && self.more().is_ok_and(|count| count > 0) {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the sidecar has closed the connection, cleanly or not, without a further byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.until_closed() {
            Ok(rest) => rest.is_empty(),
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        }
    }
}
