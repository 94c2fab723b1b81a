//! The program under test, and an origin of threads.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

pub struct Program {
    child: Child,
    pub address: SocketAddr,
    file: PathBuf,
}

impl Program {
    /// Before this origin, with these lines before the routes.
    pub fn start(binary: &str, origin: SocketAddr, lines: &str) -> Self {
        Self::start_with(
            binary,
            &format!(
                "{lines}routes:\n  - upstream: http://{origin}\n    inject: {{Authorization: Bearer scale}}\n"
            ),
        )
    }

    /// Before these origins: the one at index 3 gets what is below `/3/`.
    pub fn before_each(binary: &str, origins: &[SocketAddr]) -> Self {
        let routes: String = origins
            .iter()
            .enumerate()
            .map(|(index, origin)| {
                format!(
                    "  - match: {{path: /{index}/}}\n    upstream: http://{origin}\n    inject: {{Authorization: Bearer scale}}\n"
                )
            })
            .collect();
        Self::start_with(binary, &format!("routes:\n{routes}"))
    }

    fn start_with(binary: &str, text: &str) -> Self {
        let file = std::env::temp_dir().join(format!("scale-{}.yaml", std::process::id()));
        std::fs::write(&file, text).expect("a file");
        let mut child = Command::new(binary)
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = loop {
            let line = lines.next().expect("it listens").expect("text");
            if let Some((_, rest)) = line.split_once("listening proxy=") {
                break rest.split_whitespace().next().unwrap().parse().expect("an address");
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, file }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Resident memory in KiB: now, and at most since the start.
    pub fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    pub fn assert_alive(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the program has ended");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.file).ok();
    }
}

/// Runs `script` in a thread for every connection.
pub fn origin(
    script: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            stream.set_nodelay(true).unwrap();
            let script = Arc::clone(&script);
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || drop(script(stream)))
                .unwrap();
        }
    });
    address
}
