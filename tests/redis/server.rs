use std::cell::RefCell;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::support::{Dir, eventually};

/// A Redis of its own, on a free port. It is killed with the value.
pub struct Redis {
    pub port: u16,
    pub dir: Dir,
    child: RefCell<Option<Child>>,
}

impl Redis {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let redis = Self { port, dir: Dir::new(), child: RefCell::new(None) };
        redis.dir.write("key", "0123456789abcdef0123456789abcdef");
        redis.up();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The `state` block of a token that shares by this Redis.
    pub fn state(&self) -> String {
        let key = self.dir.path().join("key");
        format!("state: {{redis: {{url: \"{}\", key: {{file: {}}}}}}}", self.url(), key.display())
    }

    /// Its Unix socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Starts the server, with what it had saved.
    pub fn up(&self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--save", "", "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(self.dir.path()).arg("--unixsocket");
        command.arg(self.socket());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("redis-server; tests/redis/run installs it");
        assert!(self.child.replace(Some(child)).is_none(), "it was up already");
        eventually("Redis", || self.try_ask(&["PING"]).is_some_and(|said| said == "PONG"));
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let child = self.child.borrow();
        let id = child.as_ref().expect("it is up").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// One command's answer, as `redis-cli` prints it.
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).expect("an answer")
    }

    fn try_ask(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(words)
            .output()
            .expect("redis-cli");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// The names of all values.
    pub fn entries(&self) -> Vec<String> {
        let all = self.ask(&["--raw", "KEYS", "*"]);
        let plain = |name: &&str| !name.ends_with(":lease") && !name.ends_with(":probe");
        all.lines().filter(|name| !name.is_empty()).filter(plain).map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
