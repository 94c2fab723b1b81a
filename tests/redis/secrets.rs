//! Canaries in a token that is shared: the store's key and password, the client's secret and the
//! tokens come out nowhere, neither from the programs nor in Redis, whatever goes wrong there.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::canary::assert_hidden;
use crate::server::Redis;
use crate::support::{Issuer, Reply, Sidecar, Upstream, eventually, pass};

const ACCESS: &str = "canary-access-token-3d17";
const REFRESH: &str = "canary-refresh-token-a2e9";
const CLIENT_SECRET: &str = "canary-client-secret-5b60";
const PASSWORD: &str = "canary-redis-password-e4f8";
const KEYS: [&str; 2] =
    ["canary-store-key-one-of-32-letters", "canary-store-key-two-of-32-letters"];
const CALLER: &str = "canary-of-a-caller-9c05";

/// All that is said in Redis while this lives: commands of everybody, and messages.
struct Eavesdropper {
    children: Vec<Child>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Eavesdropper {
    fn at(redis: &Redis) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut children = Vec::new();
        for words in [&["MONITOR"][..], &["PSUBSCRIBE", "*"]] {
            let mut child = Command::new("redis-cli")
                .args(["-h", "127.0.0.1", "-p", &redis.port.to_string()])
                .args(words)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let (mut from, into) = (child.stdout.take().unwrap(), Arc::clone(&heard));
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut chunk) {
                    into.lock().unwrap().extend_from_slice(&chunk[..count]);
                }
            });
            children.push(child);
        }
        Self { children, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

impl Drop for Eavesdropper {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn start(redis: &Redis, issuer: &Issuer, upstream: &Upstream) -> Sidecar {
    let launch = Sidecar::launch().wrapped(&["env", "RUST_LOG=trace"]);
    let files = redis.dir.path().display();
    launch.start(&format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{}\", client_id: me, client_secret: {{file: {files}/secret}}, \
         state: {{redis: {{url: \"{}\", username: bob, password: {{file: {files}/password}}, \
         key: {{file: {files}/key}}}}}}}}}}}}\n\
         routes: [{{upstream: \"{}\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        issuer.url(),
        redis.url(),
        upstream.url()
    ))
}

/// Uses it, with a credential of the caller's own, and looks at all that it shows.
fn shown(sidecar: &Sidecar, out: &mut String) {
    let request = format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CALLER}\r\nCookie: {CALLER}\r\n\r\n"
    );
    let mut client = sidecar.client();
    client.ask(&request).unwrap();
    let answer = client.answer().unwrap();
    out.push_str(&String::from_utf8_lossy(&answer.body));
    for path in ["/metrics", "/status", "/status/requests"] {
        out.push_str(&String::from_utf8_lossy(&sidecar.admin(path).body));
    }
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn nothing_that_is_shared_comes_out_of_programs_or_is_readable_in_redis() {
    let redis = Redis::start();
    let allow = |password: &str| {
        redis.ask(&["ACL", "SETUSER", "bob", "reset", "on", password, "~*", "&*", "+@all"]);
    };
    allow(&format!(">{PASSWORD}"));
    redis.dir.write("secret", CLIENT_SECRET);
    redis.dir.write("password", PASSWORD);
    redis.dir.write("key", KEYS[0]);
    let spy = Eavesdropper::at(&redis);
    let count = AtomicUsize::new(0);
    let issuer = Issuer::run(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Reply::pair(&format!("{ACCESS}-{number}"), &format!("{REFRESH}-{number}"), 2.0)
    });
    let upstream = Upstream::ok();
    let both = [(); 2].map(|()| start(&redis, &issuer, &upstream));
    let events = |event: &str| -> f64 {
        let series = format!("bearerd_token_store_events_total{{event=\"{event}\"");
        both.iter().map(|sidecar| sidecar.metric(&series)).sum()
    };
    let mut out = String::new();
    let mut look = || both.iter().for_each(|sidecar| shown(sidecar, &mut out));
    for sidecar in &both {
        sidecar.await_ready();
    }
    eventually("sharing", || events("published") > 0.0 && events("adopted") > 0.0);
    look();
    // Somebody writes there; the key is changed; the password is no longer right; nobody is there.
    for entry in redis.entries() {
        redis.ask(&["HSET", &entry, "data", "nonsense", "fence", "999999999"]);
    }
    eventually("a value that was touched", || events("unreadable") > 0.0);
    look();
    redis.dir.write("key", KEYS[1]);
    let published = events("published");
    eventually("the other key", || events("published") > published);
    look();
    let mut stored = String::new();
    for name in redis.ask(&["--raw", "KEYS", "*"]).lines() {
        stored += name;
        stored += &redis.ask(&["--raw", "DUMP", name]);
        stored += &redis.ask(&["--raw", "HGETALL", name]);
    }
    allow(">another");
    redis.ask(&["CLIENT", "KILL", "USER", "bob"]);
    let up = || both.iter().map(|sidecar| sidecar.metric("bearerd_token_store_up")).sum::<f64>();
    eventually("a wrong password", || redis.ask(&["ACL", "LOG"]).contains("auth") && up() == 0.0);
    look();
    let heard = spy.heard();
    redis.kill();
    pass(2.0);
    look();
    let used = upstream.credentials();
    assert!(used.len() >= 4 && used.iter().all(|sent| sent.contains(ACCESS)), "{used:?}");
    for sidecar in both {
        let log = sidecar.log();
        assert!(log.contains("DEBUG") && log.contains("going on alone"), "{log}");
        out.push_str(&log);
    }
    let canaries = [ACCESS, REFRESH, CLIENT_SECRET, PASSWORD, KEYS[0], KEYS[1], CALLER];
    assert_hidden(&out, &canaries);
    assert!(!stored.is_empty() && heard.contains("EVAL"), "{heard}");
    assert_hidden(&stored, &canaries);
    assert_hidden(&heard, &canaries);
}
