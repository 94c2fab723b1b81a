use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bearerd::vocab::Moment;

use super::wire;

/// An answer as a client saw it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub at: Moment,
    pub took: Duration,
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        wire::field(&self.head, name)
    }

    /// A refusal for want of a token, as it must look.
    pub fn is_missing_token(&self) -> bool {
        self.status == 503
            && self.field("bearerd-refusal") == Some("no-token")
            && self.field("retry-after").is_some()
            && self.field("content-type") == Some("application/problem+json")
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    pub reader: wire::Reader,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let reader = wire::Reader::new(stream.try_clone()?);
        Ok(Self { stream, reader })
    }

    pub fn ask(&mut self, request: &str) -> io::Result<()> {
        self.stream.write_all(request.as_bytes())
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        let start = Moment::now();
        let message = self.reader.message()?;
        let at = Moment::now();
        Ok(Answer {
            at,
            took: at.since(start),
            status: wire::status(&message.head),
            head: message.head,
            body: message.body,
        })
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        self.answer()
    }
}

/// Requests at a steady rate from a few connections.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    threads: Vec<JoinHandle<()>>,
}

const CONNECTIONS: u32 = 4;

impl Load {
    /// So many requests a second for `path`.
    pub fn on(address: SocketAddr, path: &str, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..CONNECTIONS)
            .map(|_| {
                let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
                let path = path.to_owned();
                std::thread::spawn(move || {
                    let mut client = Client::connect(address).expect("a connection");
                    while !stop.load(Ordering::SeqCst) {
                        let answer = client.get(&path).expect("an answer");
                        if answer.field("connection") == Some("close") {
                            client = Client::connect(address).expect("a connection");
                        }
                        answers.lock().unwrap().push(answer);
                        std::thread::sleep(Duration::from_secs(1) * CONNECTIONS / rate);
                    }
                })
            })
            .collect();
        Self { stop, answers, threads }
    }

    pub fn so_far(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }

    /// Ends it; all answers.
    pub fn end(mut self) -> Vec<Answer> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("the load's connection held");
        }
        self.so_far()
    }

    /// Ends it; every answer must have been the upstream's 200.
    pub fn end_without_errors(self) -> Vec<Answer> {
        let answers = self.end();
        assert!(!answers.is_empty());
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
        answers
    }
}
