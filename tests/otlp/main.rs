//! Spans as a collector gets them: the real program, over real HTTP, to a receiver that reads just
//! enough of the OTLP protobuf.

// clippy.toml allows these in tests, but knows only functions marked as such, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);

/// A request's head and body.
type Seen = (String, Vec<u8>);

/// A server that answers every request with `answer` and remembers it.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sink = Arc::clone(&sink);
                std::thread::spawn(move || converse(stream, answer, &sink));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Answers until the other side has had enough.
fn converse(stream: TcpStream, answer: &str, sink: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        sink.lock().unwrap().push((head, body));
        let length = answer.len();
        write!(&stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}").ok()?;
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
}

/// The program in a process of its own.
struct Program {
    child: Child,
    proxy: SocketAddr,
}

impl Program {
    fn start(name: &str, issuer: &Server, upstream: &Server, environment: &[(&str, &str)]) -> Self {
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("otlp-{name}.yaml"));
        let text = format!(
            "tokens: {{api: {{oauth2: {{token_url: \"http://{}/token\", client_id: me, client_secret: {{env: SECRET}}}}}}}}
routes: [{{name: orders, upstream: \"http://{}\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
            issuer.address, upstream.address
        );
        std::fs::write(&path, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&path)
            .env_clear()
            .env("SECRET", "secret-canary")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.find_map(|line| line.ok().filter(|line| line.contains("listening proxy=")));
        let proxy = line.unwrap().split("proxy=").nth(1).unwrap().to_owned();
        let proxy = proxy.split(' ').next().unwrap().parse().unwrap();
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        Self { child, proxy }
    }

    fn get(&self, fields: &str) -> String {
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /path-canary?key=query-canary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    /// Ends it in an orderly way; what it still has to send is sent then.
    fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

// ---- just enough of protobuf

enum Part<'p> {
    Number(u64),
    Bytes(&'p [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The fields of a message by number, in their order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Part<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let fixed = |bytes: &mut &[u8], count: usize| {
            let (number, rest) = bytes.split_at(count);
            *bytes = rest;
            number.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
        };
        let part = match key & 7 {
            0 => Part::Number(varint(&mut bytes)),
            1 => Part::Number(fixed(&mut bytes, 8)),
            5 => Part::Number(fixed(&mut bytes, 4)),
            _ => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (part, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(part)
            }
        };
        found.push((key >> 3, part));
    }
    found
}

fn parts(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let of = |(found, part): (u64, _)| match part {
        Part::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

fn text(bytes: &[u8], number: u64) -> String {
    String::from_utf8(parts(bytes, number).first().unwrap_or(&&b""[..]).to_vec()).unwrap()
}

fn hex(bytes: &[u8], number: u64) -> String {
    let bytes = parts(bytes, number);
    bytes.first().unwrap_or(&&b""[..]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes of a message at a field number, values as text.
fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let value = |value: &[u8]| match fields(value).into_iter().next() {
        Some((_, Part::Number(number))) => number.to_string(),
        Some((_, Part::Bytes(text))) => String::from_utf8(text.to_vec()).unwrap(),
        None => String::new(),
    };
    let pair = |pair: &[u8]| (text(pair, 1), value(parts(pair, 2)[0]));
    parts(message, number).into_iter().map(pair).collect()
}

#[derive(Debug)]
struct Span {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    fields: BTreeMap<String, String>,
}

fn spans(collector: &Server) -> Vec<Span> {
    let mut found = Vec::new();
    for (head, body) in collector.seen() {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        for resource in parts(&body, 1) {
            let service = attributes(parts(resource, 1)[0], 1)["service.name"].clone();
            for span in parts(resource, 2).into_iter().flat_map(|scope| parts(scope, 2)) {
                found.push(Span {
                    service: service.clone(),
                    trace: hex(span, 1),
                    id: hex(span, 2),
                    parent: hex(span, 4),
                    name: text(span, 5),
                    fields: attributes(span, 9),
                });
            }
        }
    }
    found
}

const TOKEN: &str =
    r#"{"access_token": "token-canary", "token_type": "Bearer", "expires_in": 600}"#;
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_request_a_call_and_a_fetch_are_spans_of_the_callers_trace() {
    let (issuer, upstream) = (Server::start(TOKEN), Server::start("fine"));
    let collector = Server::start("");
    let endpoint = format!("http://{}", collector.address);
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SERVICE_NAME", "till")];
    let program = Program::start("spans", &issuer, &upstream, &environment);
    program.get(&format!(
        "traceparent: {PARENT}\r\ntracestate: a=b\r\nAuthorization: Bearer client-canary\r\n"
    ));
    program.end();
    let spans = spans(&collector);
    let of = |name: &str, key: &str| {
        let found: Vec<&Span> = spans
            .iter()
            .filter(|span| span.name == name && span.fields.contains_key(key))
            .collect();
        assert_eq!(found.len(), 1, "{name} {key}: {spans:#?}");
        found[0]
    };
    let request = of("GET", "bearerd.route");
    let calls: Vec<_> = spans.iter().filter(|span| span.parent == request.id).collect();
    assert_eq!(calls.len(), 1, "{spans:#?}");
    let call = calls[0];
    assert_eq!(request.parent, "b7ad6b7169203331");
    for span in [request, call] {
        assert_eq!(span.trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.fields["http.response.status_code"], "200");
        assert_eq!(span.fields["http.request.method"], "GET");
        assert_eq!(span.service, "till");
    }
    assert_eq!(request.fields["bearerd.route"], "orders");
    let fetch = of("token", "bearerd.token");
    assert_eq!(
        (&*fetch.fields["bearerd.token"], &*fetch.fields["bearerd.means"]),
        ("api", "acquire")
    );
    // The upstream continues the call.
    let (head, _) = &upstream.seen()[0];
    let named = field(head, "traceparent").unwrap();
    assert_eq!(named, format!("00-{}-{}-01", call.trace, call.id));
    assert_eq!(field(head, "tracestate").unwrap(), "a=b");
    assert_eq!(field(head, "authorization").unwrap(), "Bearer token-canary");
    for (_, body) in collector.seen() {
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(!body.contains("canary"), "{body}");
    }
}

#[test]
fn without_an_endpoint_or_when_disabled_the_callers_trace_passes_as_it_came() {
    let (issuer, upstream) = (Server::start(TOKEN), Server::start("fine"));
    let collector = Server::start("");
    let endpoint = format!("http://{}", collector.address);
    let disabled = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SDK_DISABLED", "true")];
    for (name, environment) in [("none", &[][..]), ("disabled", &disabled[..])] {
        let program = Program::start(name, &issuer, &upstream, environment);
        program.get(&format!("traceparent: {PARENT}\r\ntracestate: a=b\r\n"));
        program.end();
        let (head, _) = upstream.seen().pop().unwrap();
        assert_eq!(field(&head, "traceparent").unwrap(), PARENT);
        assert_eq!(field(&head, "tracestate").unwrap(), "a=b");
    }
    assert!(collector.seen().is_empty());
}

#[test]
fn the_sampler_decides_and_a_dead_collector_holds_nothing_up() {
    let (issuer, upstream) = (Server::start(TOKEN), Server::start("fine"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_TRACES_SAMPLER", "always_off")];
    let program = Program::start("off", &issuer, &upstream, &environment);
    program.get(&format!("traceparent: {PARENT}\r\n"));
    program.end();
    let (head, _) = upstream.seen().pop().unwrap();
    let named = field(&head, "traceparent").unwrap();
    assert!(named.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && named.ends_with("-00"));
    let program = Program::start("dead", &issuer, &upstream, &environment[..1]);
    program.get("");
    program.end();
}
