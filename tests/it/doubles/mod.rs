//! Strict doubles of the systems that the examples are for: what the real one rejects, the double
//! rejects, in the same words. Each is a state behind a lock and a function from a request to an
//! answer; tests pull its levers and read what it has seen.

pub(crate) mod caepe;
pub(crate) mod educates;
pub(crate) mod google;
pub(crate) mod keycloak;
pub(crate) mod lxhive;
pub(crate) mod scripted;
mod strict;
pub(crate) mod sunbird;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::{Head, Upstream};

/// What a test's clients send by every road that a credential may take. It must never arrive.
pub(crate) const FOREIGN: &str = "foreign-credential";

/// A system that answers.
pub(crate) trait System: Send + 'static {
    fn answer(&mut self, ask: &Ask) -> Reply;
}

/// A system at an address.
pub(crate) struct Double<S> {
    upstream: Upstream,
    system: Arc<Mutex<S>>,
}

impl<S: System> Double<S> {
    pub(crate) fn start(system: S) -> Self {
        let system = Arc::new(Mutex::new(system));
        let answering = Arc::clone(&system);
        let upstream = Upstream::run(move |conversation| {
            loop {
                let request = conversation.request()?;
                let ask = Ask::new(&request.head, request.body);
                let reply = locked(&answering).answer(&ask);
                std::thread::sleep(reply.delay);
                conversation.send(reply.bytes())?;
                if reply.cut {
                    return Ok(());
                }
            }
        });
        Self { upstream, system }
    }

    pub(crate) fn url(&self) -> String {
        self.upstream.url()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.upstream.address
    }

    /// The system itself, to look at it or to pull a lever.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut locked(&self.system))
    }

    /// No byte of what the clients sent as their own credential has come here.
    pub(crate) fn assert_saw_no_foreign_credential(&self) {
        for request in self.upstream.requests() {
            let all = [request.raw, request.body].concat();
            let text = String::from_utf8_lossy(&all).into_owned();
            assert!(!text.contains(FOREIGN), "a client's credential got through:\n{text}");
        }
    }
}

fn locked<S>(system: &Mutex<S>) -> MutexGuard<'_, S> {
    system.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A request, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    fn new(head: &Head, body: Vec<u8>) -> Self {
        let mut words = head.start.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { method, path: path.to_owned(), query: pairs(query), head: head.clone(), body }
    }

    /// The media type, without parameters.
    pub(crate) fn media_type(&self) -> String {
        let field = self.head.one("content-type");
        field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(crate) fn is_form(&self) -> bool {
        self.media_type() == "application/x-www-form-urlencoded"
    }

    /// The form's members; none if the body is no form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        if self.is_form() { pairs(&String::from_utf8_lossy(&self.body)) } else { BTreeMap::new() }
    }

    /// The JSON body; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What stands behind a scheme in `Authorization`; the scheme's case is ignored.
    pub(crate) fn authorization(&self, scheme: &str) -> Option<String> {
        let field = self.head.one("authorization");
        let (found, rest) = field.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then(|| rest.to_owned())
    }

    /// Id and secret by HTTP Basic, as they are.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let decoded = STANDARD.decode(self.authorization("basic")?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
    }

    /// Id and secret by HTTP Basic, form-decoded as RFC 6749 section 2.3.1 says.
    pub(crate) fn basic_form(&self) -> Option<(String, String)> {
        self.basic().map(|(id, secret)| (decoded(&id), decoded(&secret)))
    }
}

/// Form or query members, decoded. A doubled name is a mistake of whoever sent it.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut members = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let doubled = members.insert(decoded(name), decoded(value));
        assert!(doubled.is_none(), "`{name}` occurs twice in `{text}`");
    }
    members
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    cut: bool,
    delay: Duration,
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new(), cut: false, delay: Duration::ZERO }
    }

    pub(crate) fn text(status: u16, media_type: &str, body: &str) -> Self {
        let reply = Self { body: body.as_bytes().to_vec(), ..Self::empty(status) };
        reply.with("content-type", media_type)
    }

    pub(crate) fn html(status: u16, body: &str) -> Self {
        Self::text(status, "text/html; charset=utf-8", body)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Comes so much later, while the system goes on.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Breaks off in the middle of the body.
    pub(crate) fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Double\r\n", self.status);
        head += &format!("date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()));
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        if self.status != 204 {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        let sent = if self.cut { self.body.len() / 2 } else { self.body.len() };
        [head.as_bytes(), b"\r\n", &self.body[..sent]].concat()
    }
}

/// A text that occurs once only.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}{:032x}", fastrand::u128(..))
}

/// The seconds of Unix time.
pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// A JWT whose signature nobody checks: the double knows what it has issued.
pub(crate) fn jwt(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), unique("s"))
}

/// The header and claims of a JWT.
pub(crate) fn opened(token: &str) -> Option<(Value, Value)> {
    let mut parts = token.split('.');
    let mut part = || -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()
    };
    Some((part()?, part()?))
}
