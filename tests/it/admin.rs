//! The admin listener of the program itself: who may ask, what a browser and what a script gets,
//! and that none of it is a secret.

mod events;
mod page;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::support::{Place, read};

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
        let (mut answer, began) = (Vec::new(), SystemTime::now());
        let mut chunk = [0; 4096];
        while let count @ 1.. = read(&mut stream, &mut chunk).unwrap() {
            answer.extend_from_slice(&chunk[..count]);
            assert!(began.elapsed().unwrap() < PATIENCE, "{path} does not end");
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn ask(&self, path: &str, fields: &str) -> (String, String) {
        let (head, body) = self.get(self.admin, path, fields);
        assert_eq!(head.matches("\r\ndate: ").count(), 1, "{path}: {head}");
        (head, body)
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
