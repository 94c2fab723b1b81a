use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bearerd::vocab::Moment;

use super::wire;

/// One POST as the issuer saw it.
#[derive(Debug, Clone)]
pub struct Post {
    /// Counts from 0.
    pub number: usize,
    pub at: Moment,
    pub head: String,
    pub form: BTreeMap<String, String>,
}

/// What comes back.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole answer.
    Http { status: u16, fields: Vec<(String, String)>, body: Vec<u8> },
    /// These bytes and the end of the connection.
    Raw(Vec<u8>),
    /// A whole answer, one byte at a time.
    Trickle(Vec<u8>, Duration),
    /// A head, then bytes without end.
    Endless,
    /// RST.
    Reset,
    /// Nothing, for so long.
    Stall(Duration),
    /// The reply, later.
    Late(Duration, Box<Self>),
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Http { status, fields: Vec::new(), body: body.to_string().into_bytes() }
    }

    /// A bearer token that holds for `lifetime` seconds.
    pub fn token(value: &str, lifetime: f64) -> Self {
        let body = serde_json::json!({
            "access_token": value, "token_type": "Bearer", "expires_in": lifetime
        });
        Self::json(200, &body)
    }

    /// The same with a refresh token.
    pub fn pair(value: &str, refresh: &str, lifetime: f64) -> Self {
        let body = serde_json::json!({
            "access_token": value, "token_type": "Bearer", "expires_in": lifetime,
            "refresh_token": refresh
        });
        Self::json(200, &body)
    }

    pub fn error(status: u16, code: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": code }))
    }

    pub fn status(status: u16) -> Self {
        Self::Http { status, fields: Vec::new(), body: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Http { fields, .. } = &mut self {
            fields.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::Late(delay, Box::new(self))
    }

    /// The bytes of a whole answer.
    pub fn bytes(&self) -> Vec<u8> {
        let Self::Http { status, fields, body } = self else { return Vec::new() };
        let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in fields {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        [out.as_bytes(), body].concat()
    }
}

type Script = dyn Fn(&Post) -> Reply + Send + Sync;

/// A token endpoint that does what its script says for each POST, and remembers them all.
pub struct Issuer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    posts: Mutex<Vec<Post>>,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    script: Box<Script>,
}

impl Issuer {
    pub fn run(script: impl Fn(&Post) -> Reply + Send + Sync + 'static) -> Self {
        super::lateness::watch();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            posts: Mutex::default(),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            script: Box::new(script),
        });
        let seen = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&seen);
                let stream = stream.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { address, shared }
    }

    /// Gives `token-N` for the POST number N, each for `lifetime` seconds.
    pub fn giving(lifetime: f64) -> Self {
        Self::run(move |post| Reply::token(&format!("token-{}", post.number), lifetime))
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub fn posts(&self) -> Vec<Post> {
        self.shared.posts.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.posts.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most POSTs that were answered at one time.
    pub fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Ordering::SeqCst)
    }

    /// Seconds between one POST and the next.
    pub fn gaps(&self) -> Vec<f64> {
        let posts = self.posts();
        posts.windows(2).map(|two| two[1].at.since(two[0].at).as_secs_f64()).collect()
    }

    /// Waits until there were so many POSTs.
    pub fn await_posts(&self, count: usize) {
        super::eventually(&format!("{count} POSTs"), || self.count() >= count);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut reader = wire::Reader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let message = reader.message()?;
            let form = wire::form(&message.body);
            let mut posts = self.posts.lock().unwrap();
            let post = Post { number: posts.len(), at: Moment::now(), head: message.head, form };
            posts.push(post.clone());
            drop(posts);
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            let outcome = answer(&mut stream, (self.script)(&post));
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            outcome?;
        }
    }
}

fn answer(stream: &mut TcpStream, reply: Reply) -> io::Result<()> {
    let over = || Err(io::ErrorKind::ConnectionAborted.into());
    match reply {
        Reply::Http { .. } => stream.write_all(&reply.bytes()),
        Reply::Raw(bytes) => stream.write_all(&bytes).and_then(|()| over()),
        Reply::Trickle(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[byte])?;
                std::thread::sleep(pause);
            }
            Ok(())
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"400\r\n")?;
                stream.write_all(&[b' '; 1024])?;
                stream.write_all(b"\r\n")?;
            }
        }
        Reply::Reset => {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            // The reader's copy must go too, or nothing is sent.
            stream.shutdown(std::net::Shutdown::Read)?;
            over()
        }
        Reply::Stall(time) => {
            std::thread::sleep(time);
            over()
        }
        Reply::Late(delay, reply) => {
            std::thread::sleep(delay);
            answer(stream, *reply)
        }
    }
}
