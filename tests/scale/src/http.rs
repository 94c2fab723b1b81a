//! Just enough HTTP to check what comes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

/// Reads messages off a connection.
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

/// A head: start line and fields, names in lower case.
pub struct Head {
    pub start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// A request's method and target.
    pub fn target(&self) -> (&str, &str) {
        let mut words = self.start.split(' ');
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(64 * 1024), start: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    fn more(&mut self) -> Result<()> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let from = self.buffer.len();
        self.buffer.resize(from + 256 * 1024, 0);
        let read = self.stream.read(&mut self.buffer[from..]);
        self.buffer.truncate(from + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// One line, without its end.
    fn line(&mut self) -> Result<String> {
        loop {
            let there = &self.buffer[self.start..];
            if let Some(at) = there.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&there[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            self.more()?;
        }
    }

    pub fn head(&mut self) -> Result<Head> {
        let start = self.line()?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { start, fields });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("no colon"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn exactly(&mut self, mut left: u64, each: &mut impl FnMut(&[u8])) -> Result<()> {
        while left > 0 {
            if self.start == self.buffer.len() {
                self.more()?;
            }
            let there = (self.buffer.len() - self.start).min(usize::try_from(left).unwrap());
            each(&self.buffer[self.start..self.start + there]);
            self.start += there;
            left -= there as u64;
        }
        Ok(())
    }

    /// The body that a head announces, piece by piece; an error if it is cut off.
    pub fn body(&mut self, head: &Head, mut each: impl FnMut(&[u8])) -> Result<()> {
        if head.get("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line()?;
                let size = u64::from_str_radix(&line, 16).map_err(|_| bad("no chunk"))?;
                if size == 0 {
                    return self.line()?.is_empty().then_some(()).ok_or_else(|| bad("trailers"));
                }
                self.exactly(size, &mut each)?;
                if !self.line()?.is_empty() {
                    return Err(bad("no end of a chunk"));
                }
            }
        }
        let length = head.get("content-length").map_or(Ok(0), str::parse);
        self.exactly(length.map_err(|_| bad("no length"))?, &mut each)
    }

    pub fn text(&mut self, head: &Head) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.body(head, |piece| all.extend_from_slice(piece))?;
        Ok(all)
    }
}

/// Sends a chunk.
pub fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}
