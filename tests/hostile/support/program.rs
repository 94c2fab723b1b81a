use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::PATIENCE;

/// A directory of one test alone.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{name}"));
    fs::create_dir_all(&path).unwrap();
    path
}

/// The program, run as a user would run it.
pub(crate) struct Program {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Program {
    /// Runs with this configuration; `name` must be the caller's own.
    pub(crate) fn run(name: &str, configuration: &str) -> Self {
        Self::run_with(name, configuration, &[])
    }

    /// As [`Self::run`], with variables in its environment.
    pub(crate) fn run_with(name: &str, configuration: &str, variables: &[(&str, &str)]) -> Self {
        let file = directory(name).join("bearerd.yaml");
        fs::write(&file, configuration).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), &output);
        collect(child.stderr.take().unwrap(), &output);
        let deadline = std::time::SystemTime::now() + PATIENCE;
        let (proxy, admin) = loop {
            let text = String::from_utf8_lossy(&output.lock().unwrap()).into_owned();
            if let Some(addresses) = addresses(&text) {
                break addresses;
            }
            assert!(std::time::SystemTime::now() < deadline, "it does not listen: {text}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        Self { proxy, admin, child, output }
    }

    /// All that it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// What the admin listener says at `path`, head and body.
    pub(crate) fn admin(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        String::from_utf8_lossy(&super::talk_to_the_end(self.admin, request.as_bytes()))
            .into_owned()
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut chunk = [0_u8; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..count]);
        }
    });
}

fn addresses(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = text.lines().find(|line| line.contains("listening proxy="))?;
    let value = |key: &str| {
        let rest = line.split_once(key)?.1;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some((value("proxy=")?, value("admin=")?))
}
