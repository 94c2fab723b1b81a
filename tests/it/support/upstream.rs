use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Head, PATIENCE};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server whose every connection is handled by a script in a thread of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: Head,
    /// The head's bytes.
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// One connection, seen from the upstream.
pub(crate) struct Conversation {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Upstream {
    /// Runs `script` for every connection. It ends when the connection breaks.
    pub(crate) fn run(
        script: impl Fn(&mut Conversation) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        let (log, count) = (Arc::clone(&requests), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || {
                    let mut conversation = Conversation { stream, buffer: Vec::new(), log };
                    drop(script(&mut conversation));
                });
            }
        });
        Self { address, requests, connections }
    }

    /// Answers every request with the same bytes.
    pub(crate) fn answering(answer: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::run(move |conversation| {
            loop {
                conversation.request()?;
                conversation.send(answer.as_ref())?;
            }
        })
    }

    /// Answers every request with 200 and `ok`.
    pub(crate) fn ok() -> Self {
        Self::answering(OK)
    }

    /// As [`Self::ok`]; the answer to `/slow` takes a while.
    pub(crate) fn ok_at_leisure() -> Self {
        Self::run(|conversation| {
            loop {
                let request = conversation.request()?;
                if request.head.start.contains("/slow") {
                    std::thread::sleep(Duration::from_millis(300));
                }
                conversation.send(OK)?;
            }
        })
    }

    /// An address at which nobody listens.
    pub(crate) fn gone() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
        }
    }

    /// Another server, for those who ask for a URL.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, requests: Arc::default(), connections: Arc::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far whose bodies are complete.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Conversation {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut chunk = [0_u8; 16 * 1024];
        match super::read(&mut self.stream, &mut chunk)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn take_through(&mut self, end: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            self.more()?;
        }
    }

    /// Reads only a request's head; it is not logged.
    pub(crate) fn head(&mut self) -> std::io::Result<Head> {
        Ok(Head::parse(&self.take_through(b"\r\n\r\n")?))
    }

    /// Reads a whole request and logs it.
    pub(crate) fn request(&mut self) -> std::io::Result<Request> {
        let raw = self.take_through(b"\r\n\r\n")?;
        let head = Head::parse(&raw);
        let mut trailers = Vec::new();
        let body = if head.one("transfer-encoding") == "chunked" {
            let mut body = Vec::new();
            loop {
                let line = self.take_through(b"\r\n")?;
                let size = String::from_utf8_lossy(&line).trim().to_owned();
                let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
                if size == 0 {
                    break;
                }
                body.extend(self.take(size)?);
                assert_eq!(self.take(2)?, b"\r\n");
            }
            loop {
                let line = self.take_through(b"\r\n")?;
                if line == b"\r\n" {
                    break;
                }
                trailers.extend(Head::parse(&[b"\n", line.as_slice()].concat()).fields);
            }
            body
        } else {
            let length = head.one("content-length");
            let length = if length.is_empty() { 0 } else { length.parse().expect("a length") };
            self.take(length)?
        };
        let request = Request { head, raw, body, trailers };
        self.log.lock().unwrap().push(request.clone());
        Ok(request)
    }

    /// Waits until the other side closes; an error if it sends anything.
    pub(crate) fn until_closed(&mut self) -> std::io::Result<()> {
        let mut byte = [0_u8; 1];
        match super::read(&mut self.stream, &mut byte) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}
