//! The admin listener of the program itself: who may ask, what a browser and what a script gets,
//! and that none of it is a secret.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::support::Place;

const PATIENCE: Duration = Duration::from_secs(10);

/// `bearerd demo` on free ports; it ends with the value.
struct Demo {
    process: Child,
    /// Where it puts the issuer's secret: a demo that is killed leaves it there.
    _place: Place,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Demo {
    fn start(admin: &str) -> Self {
        Self::start_with(admin, |_| {})
    }

    fn start_with(admin: &str, adapt: impl FnOnce(&mut Command)) -> Self {
        let place = Place::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
        command
            .env("TMPDIR", place.path())
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", admin])
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        adapt(&mut command);
        let mut process = command.spawn().unwrap();
        let mut greeting = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut address = |path: &str| {
            let line = greeting.find_map(|line| line.ok().filter(|line| line.contains(path)));
            let line = line.unwrap_or_else(|| panic!("no {path} in the greeting"));
            let start = line.split_once("http://").unwrap().1;
            start.split('/').next().unwrap().parse::<SocketAddr>().unwrap()
        };
        let proxy = address("/hello");
        let mut admin = address("/status");
        if admin.ip().is_unspecified() {
            admin.set_ip([127, 0, 0, 1].into());
        }
        Self { process, _place: place, proxy, admin }
    }

    /// The head and body of the answer to a GET.
    fn get(&self, address: SocketAddr, path: &str, fields: &str) -> (String, String) {
        self.send(address, "GET", path, fields)
    }

    fn send(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        fields: &str,
    ) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn ask(&self, path: &str, fields: &str) -> (String, String) {
        self.get(self.admin, path, fields)
    }

    fn renew(&self, token: &str, fields: &str) -> (String, String) {
        self.send(self.admin, "POST", &format!("/tokens/{token}/renew"), fields)
    }

    fn await_token(&self) {
        let is_ready = || self.ask("/readyz", "Host: localhost\r\n").0.starts_with("HTTP/1.1 200 ");
        super::support::eventually(is_ready, String::new);
    }

    fn status_for_host(&self, host: &str) -> String {
        let (head, _) = self.ask("/status", &format!("Host: {host}\r\n"));
        head["HTTP/1.1 ".len()..][..3].to_owned()
    }

    fn terminate(&mut self) {
        let killed = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already where a test ended it.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_browser_gets_the_page_and_a_script_the_json() {
    let demo = Demo::start("127.0.0.1:0");
    let browser = "Host: localhost\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    for path in ["/status", "/"] {
        let (head, page) = demo.ask(path, browser);
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
        assert!(head.contains("vary: accept") && page.starts_with("<!doctype html>"), "{head}");
    }
    for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        let (head, body) = demo.ask("/status", &format!("Host: localhost\r\n{accept}"));
        assert!(head.contains("content-type: application/json"), "{head}");
        let status: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["tokens"][0]["name"], "api");
    }
}

#[test]
fn the_pages_policy_allows_its_own_style_and_script_and_no_other() {
    let demo = Demo::start("127.0.0.1:0");
    let (head, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    let policy = head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    for tag in ["style", "script"] {
        let inside = page.split(&format!("<{tag}>")).nth(1).unwrap();
        let inside = inside.split(&format!("</{tag}>")).next().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, inside.as_bytes());
        let source = format!("{tag}-src 'sha256-{}'", STANDARD.encode(digest));
        assert!(policy.contains(&source), "{policy} lacks {source}");
    }
}

#[test]
fn the_page_shows_where_everything_stands_without_its_script() {
    let demo = Demo::start("127.0.0.1:0");
    demo.await_token();
    let (_, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    for wanted in [
        "<h3>api</h3><span class=\"chip good\">fresh</span>",
        "aria-label=\"Expiry: expires in ",
        "<h3>demo</h3>",
        "injects authorization, organization",
        ">ready</span>",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
}

#[test]
fn every_refusal_has_words_on_the_page() {
    let script = include_str!("../../src/admin/page.js");
    for slug in bearerd::proxy::refusal::SLUGS {
        let named = script.contains(&format!("\n  {slug}: \""))
            || script.contains(&format!("\n  \"{slug}\": \""));
        assert!(named, "{slug}");
    }
}

/// What a stream of events says, read as it comes.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(demo: &Demo, fields: &str) -> Self {
        let mut stream = TcpStream::connect(demo.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /status/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line; none at the end of the answer or of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).unwrap();
        (count > 0 && line != "0\r\n").then(|| line.trim_end().to_owned())
    }

    fn head(&mut self) -> String {
        let lines = std::iter::from_fn(|| self.line().filter(|line| !line.is_empty()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The data of the next event of this name for which `fits` holds.
    fn find(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line().expect("the stream goes on");
            if line == format!("event: {name}") {
                let data = self.line().unwrap();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                if fits(&data) {
                    return data;
                }
            }
        }
    }
}

#[test]
fn whoever_follows_the_events_sees_requests_by_names_alone() {
    let demo = Demo::start("127.0.0.1:0");
    let mut events = Events::open(&demo, "Accept: text/event-stream\r\n");
    let head = events.head();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(events.find("status", |_| true)["tokens"][0]["name"], "api");
    let fields = "Host: localhost\r\nAuthorization: Bearer canary-1\r\nX-Own: canary-2\r\n";
    demo.get(demo.proxy, "/hello/0123456789abcdefcanary?key=canary-3", fields);
    demo.get(demo.proxy, "/", "Host: canary.example\r\n");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Value::Array(news) = events.find("requests", |_| true) else { panic!("a list") };
        assert!(!Value::from(news.clone()).to_string().contains("canary"), "{news:?}");
        seen.extend(news);
    }
    let (relayed, refused) = (&seen[0], &seen[1]);
    assert_eq!((&relayed["method"], &relayed["status"]), (&"GET".into(), &200.into()));
    assert_eq!((&relayed["route"], &relayed["path"]), (&"demo".into(), &"/hello/[..]".into()));
    assert_eq!(relayed["stripped"], serde_json::json!(["authorization"]));
    assert_eq!(relayed["injected"], serde_json::json!(["authorization", "organization"]));
    assert_eq!((&relayed["replayed"], &relayed["refusal"]), (&false.into(), &Value::Null));
    assert_eq!((&refused["status"], &refused["refusal"]), (&403.into(), &"host".into()));
    // The same by a single look.
    let (_, list) = demo.ask("/status/requests", "Host: localhost\r\n");
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn nobody_looks_and_no_request_is_kept() {
    let demo = Demo::start("127.0.0.1:0");
    demo.get(demo.proxy, "/before", "Host: localhost\r\n");
    let list = || demo.ask("/status/requests", "Host: localhost\r\n").1;
    assert_eq!(list(), "[]\n", "nobody had looked");
    demo.get(demo.proxy, "/after", "Host: localhost\r\n");
    super::support::eventually(|| list().contains("/after"), list);
    assert!(!list().contains("/before"));
}

#[test]
fn streams_are_few_and_end_when_the_process_drains() {
    let mut demo = Demo::start("127.0.0.1:0");
    let mut streams: Vec<Events> = (0..16).map(|_| Events::open(&demo, "")).collect();
    for stream in &mut streams {
        assert!(stream.head().starts_with("HTTP/1.1 200 "));
    }
    let head = Events::open(&demo, "Connection: close\r\n").head();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 10"), "{head}");
    // A place is free again when its client goes.
    drop(streams.pop());
    super::support::eventually(
        || Events::open(&demo, "").head().starts_with("HTTP/1.1 200 "),
        String::new,
    );
    let began = bearerd::vocab::Moment::now();
    demo.terminate();
    assert!(bearerd::vocab::Moment::now().since(began) < Duration::from_secs(5));
    streams[0].find("status", |status| status["draining"] == true);
    while streams[0].line().is_some() {}
}

#[test]
fn pages_of_other_sites_can_neither_follow_nor_read_nor_renew_s2() {
    let demo = Demo::start("127.0.0.1:0");
    demo.await_token();
    let (_, key) = demo.ask("/status/key", "Host: localhost\r\n");
    for site in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:3000\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let fields = format!("Host: localhost\r\n{site}");
        for path in ["/status/events", "/status/requests", "/status/key"] {
            let (head, body) = demo.ask(path, &fields);
            assert!(head.starts_with("HTTP/1.1 403 "), "{path} {site}: {head}");
            assert!(!body.contains(key.trim()), "{body}");
        }
        let (head, _) = demo.renew("api", &format!("{fields}bearerd-key: {}\r\n", key.trim()));
        assert!(head.starts_with("HTTP/1.1 403 "), "{site}: {head}");
    }
    // Without a word about a site, but also without the key, in whatever form it is sent.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        let fields = format!("Host: localhost\r\nContent-Type: {kind}\r\n");
        for given in ["", "bearerd-key: \r\n", "bearerd-key: 0123456789abcdef0123456789abcdef\r\n"]
        {
            let (head, _) = demo.renew("api", &format!("{fields}{given}"));
            assert!(head.starts_with("HTTP/1.1 403 "), "{kind} {given}: {head}");
        }
    }
    let (_, status) = demo.ask("/status", "Host: localhost\r\n");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tokens"][0]["generation"], 1, "nobody had it renewed");
}

#[test]
fn a_program_renews_a_token_once_in_half_a_minute() {
    let demo = Demo::start("127.0.0.1:0");
    let status = || -> Value {
        serde_json::from_str(&demo.ask("/status", "Host: localhost\r\n").1).unwrap()
    };
    super::support::eventually(|| status()["tokens"][0]["state"] == "fresh", String::new);
    let (_, key) = demo.ask("/status/key", "Host: localhost\r\n");
    let fields = format!("Host: localhost\r\nbearerd-key: {}\r\n", key.trim());
    let (head, body) = demo.renew("api", &fields);
    assert!(head.starts_with("HTTP/1.1 202 ") && body.contains("has begun"), "{head} {body}");
    super::support::eventually(
        || status()["tokens"][0]["generation"] == 2,
        || status()["tokens"].to_string(),
    );
    let (head, body) = demo.renew("api", &fields);
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after: "), "{head}");
    assert!(body.contains("less than 30 s ago"), "{body}");
    assert!(demo.renew("other", &fields).0.starts_with("HTTP/1.1 404 "));
    let (head, _) = demo.ask("/tokens/api/renew", &fields);
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: POST"), "{head}");
}

#[test]
fn where_others_can_look_requests_are_not_listed_and_nobody_acts() {
    let demo = Demo::start("0.0.0.0:0");
    for path in ["/status/requests", "/status/key"] {
        let (head, body) = demo.ask(path, "Host: localhost\r\n");
        assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("loopback"), "{head} {body}");
    }
    let (head, body) = demo.renew("api", "Host: localhost\r\nbearerd-key: \r\n");
    assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("loopback"), "{head} {body}");
    let mut events = Events::open(&demo, "");
    demo.get(demo.proxy, "/hello", "Host: localhost\r\n");
    let status = events.find("status", |status| status["routes"][0]["traffic"]["requests"] == 1);
    assert_eq!((&status["inspect"], &status["renewable"]), (&"none".into(), &false.into()));
    let (_, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    assert!(page.contains("<meta name=\"bearerd-key\" content=\"\">"));
}

#[test]
fn a_foreign_host_is_refused_whatever_it_asks_for() {
    let demo = Demo::start("127.0.0.1:0");
    for path in [
        "/status",
        "/status/events",
        "/status/requests",
        "/status/key",
        "/metrics",
        "/livez",
        "/readyz",
        "/",
        "/nothing",
    ] {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.2", "192.0.2.1", "a b", ""]
        {
            let (head, body) = demo.ask(path, &format!("Host: {host}\r\n"));
            assert!(head.starts_with("HTTP/1.1 403 "), "{path} {host}: {head}");
            assert!(!body.contains("api"), "{body}");
        }
        let (head, _) = demo.ask(path, "Host: localhost\r\nHost: evil.example\r\n");
        assert!(!head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    }
}

#[test]
fn loopback_names_and_the_own_address_are_hosts() {
    let demo = Demo::start("127.0.0.1:0");
    let own = demo.admin.to_string();
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9090", own.as_str()] {
        assert_eq!(demo.status_for_host(host), "200", "{host}");
    }
}

#[test]
fn bound_to_every_address_any_literal_is_a_host_and_no_name() {
    let demo = Demo::start("0.0.0.0:0");
    for host in ["192.0.2.1:9090", "[2001:db8::1]", "127.0.0.1", "localhost"] {
        assert_eq!(demo.status_for_host(host), "200", "{host}");
    }
    for host in ["evil.example", "192.0.2.1.evil.example", "0x7f.1"] {
        assert_eq!(demo.status_for_host(host), "403", "{host}");
    }
}

#[test]
fn the_status_counts_requests_and_refusals() {
    let demo = Demo::start("127.0.0.1:0");
    let (head, _) = demo.get(demo.proxy, "/hello", "Host: localhost\r\nAuthorization: mine\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (head, _) = demo.get(demo.proxy, "/hello", "Host: evil.example\r\n");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    // The record is closed when the answer's end is written, a moment after it was read.
    super::support::eventually(
        || {
            let (_, body) = demo.ask("/status", "Host: localhost\r\n");
            let status: Value = serde_json::from_str(&body).unwrap();
            let traffic = &status["routes"][0]["traffic"];
            status["refusals"]["host"] == 1
                && traffic["requests"] == 1
                && traffic["stripped"] == 1
                && traffic["in_flight"] == 0
        },
        || demo.ask("/status", "Host: localhost\r\n").1,
    );
}

#[test]
fn nothing_that_is_shown_holds_a_token() {
    let demo = Demo::start("127.0.0.1:0");
    let (head, _) = demo.get(demo.proxy, "/hello", "Host: localhost\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for path in ["/status", "/metrics", "/readyz"] {
        for accept in ["*/*", "text/html"] {
            let (_, body) = demo.ask(path, &format!("Host: localhost\r\nAccept: {accept}\r\n"));
            // Every token of the demo's issuer begins like this.
            assert!(!body.contains("demo-"), "{path}: {body}");
        }
    }
}

#[test]
fn the_health_command_asks_the_listener_that_is_bound_everywhere() {
    let demo = Demo::start("0.0.0.0:0");
    let everywhere = format!("0.0.0.0:{}", demo.admin.port());
    let health = Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .arg("health")
        .env("BEARERD_ADMIN", everywhere)
        .output()
        .unwrap();
    assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
}

#[test]
fn a_service_manager_hears_of_the_start_and_of_the_end() {
    let place = Place::new();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut demo = Demo::start_with("127.0.0.1:0", |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let heard = || {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let ready = heard();
    assert!(ready.starts_with("READY=1\n") && ready.contains(&demo.admin.to_string()), "{ready}");
    demo.terminate();
    assert!(heard().starts_with("STOPPING=1\n"));
}
