use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bearerd::vocab::Moment;

use super::wire;

/// One request as the upstream saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub number: usize,
    pub at: Moment,
    pub target: String,
    /// The value of `Authorization`.
    pub credential: String,
    pub body: usize,
}

type Script = dyn Fn(&Seen, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// An API that notes each credential and its time.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// `script` writes the answer.
    pub fn run(
        script: impl Fn(&Seen, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || drop(serve(stream, &log, &*script)));
            }
        });
        Self { address, seen }
    }

    /// Answers by status alone.
    pub fn answering(status: impl Fn(&Seen) -> u16 + Send + Sync + 'static) -> Self {
        Self::run(move |seen, stream| reply(stream, status(seen)))
    }

    pub fn ok() -> Self {
        Self::answering(|_| 200)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The credentials in the order of their first use.
    pub fn credentials(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for seen in self.seen() {
            if !out.contains(&seen.credential) {
                out.push(seen.credential);
            }
        }
        out
    }

    /// Fails if a credential `Bearer token-N` came later than `usable` seconds after the POST
    /// number N.
    pub fn assert_none_expired(&self, issuer: &super::Issuer, usable: f64) {
        let posts = issuer.posts();
        for seen in self.seen() {
            let number = seen.credential.strip_prefix("Bearer token-").expect("a token of ours");
            let post = &posts[number.parse::<usize>().unwrap()];
            let age = seen.at.since(post.at).as_secs_f64();
            // What was injected in time may take a moment to get here.
            assert!(
                age <= usable + super::tolerance(),
                "{} came {age} s after its POST",
                seen.credential
            );
        }
    }
}

pub fn reply(stream: &mut TcpStream, status: u16) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok").as_bytes())
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, script: &Script) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = wire::Reader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let message = reader.message()?;
        let field = |name| wire::field(&message.head, name).unwrap_or_default().to_owned();
        let mut all = log.lock().unwrap();
        let seen = Seen {
            number: all.len(),
            at: Moment::now(),
            target: message.head.split(' ').nth(1).unwrap_or_default().to_owned(),
            credential: field("authorization"),
            body: message.body.len(),
        };
        all.push(seen.clone());
        drop(all);
        script(&seen, &mut stream)?;
    }
}
