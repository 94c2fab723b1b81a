use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Answer, Client, eventually};

/// The program itself in a process of its own, as a user starts it.
pub(crate) struct Process {
    child: Child,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// The file that users copy.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples").join(format!("{name}.yaml"))
}

/// A file of this test run alone.
pub(crate) fn file(name: &str, content: &str) -> PathBuf {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}-{number}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("a file");
    path
}

/// A directory of its own, gone with the value. In the system's place for such, whose path is short
/// enough for the sockets of Unix.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("bearerd-it-{:x}", fastrand::u64(..)));
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Process {
    /// Starts it with this configuration and no other environment than this.
    pub(crate) fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut process = Self::listening(config, environment, "127.0.0.1:0");
        process.proxy = process.address("proxy=").expect("an address");
        process
    }

    /// The same, where it is told to listen.
    pub(crate) fn listening(config: &Path, environment: &[(&str, &str)], listen: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
        command
            .args(["run", "--listen", listen, "--admin", "127.0.0.1:0", "--config"])
            .arg(config)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self::spawn(command)
    }

    /// Starts `command`, and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("bearerd starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let mut process = Self { child, proxy: nowhere(), admin: nowhere(), log };
        eventually(|| process.address("admin=").is_some(), || process.log());
        process.admin = process.address("admin=").unwrap();
        process
    }

    fn address(&self, key: &str) -> Option<SocketAddr> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("listening proxy="))?;
        line.split_whitespace().find_map(|word| word.strip_prefix(key))?.parse().ok()
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.proxy)
    }

    /// The sum of the series whose text before the value begins so.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = Client::connect(self.admin).get("/metrics").text();
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Requests that were sent again with a renewed credential.
    pub(crate) fn replays(&self) -> f64 {
        self.metric("bearerd_replays_total")
    }

    /// Waits until all tokens are there.
    pub(crate) fn ready(&self) {
        let is_ready = || Client::connect(self.admin).get("/readyz").status() == 200;
        eventually(is_ready, || self.log());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to read its configuration anew.
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("an id"), signal).expect("a signal");
    }

    /// Asks it to end, waits until it has, and returns what it logged.
    pub(crate) fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// One client that asks again and again, with the same request.
pub(crate) struct Load {
    end: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Vec<Answer>>>,
}

impl Load {
    /// Sends `request`, a head's lines, every ten milliseconds.
    pub(crate) fn start(process: &Process, request: &[&str]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let (ended, count) = (Arc::clone(&end), Arc::clone(&done));
        let lines: Vec<String> = request.iter().map(|&line| line.to_owned()).collect();
        let mut client = process.client();
        let thread = std::thread::spawn(move || {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut answers = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                answers.push(client.request(&lines).answer());
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
            answers
        });
        Self { end, done, thread: Some(thread) }
    }

    /// Waits until so many more requests were answered.
    pub(crate) fn more(&self, count: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        let there = || self.done.load(Ordering::Relaxed);
        eventually(|| there() >= wanted, || format!("{} answers of {wanted}", there()));
    }

    /// Goes on for so long.
    pub(crate) fn go_on(&self, period: Duration) {
        let end = bearerd::vocab::Moment::now() + period;
        while bearerd::vocab::Moment::now() < end {
            self.more(1);
        }
    }

    /// Ends, and checks that every answer was 200; their number.
    pub(crate) fn all_ok(mut self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        let answers = thread.join().expect("the client did not fail");
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status(), 200, "answer {index}: {:?} {}", answer.head, answer.text());
        }
        assert!(answers.len() > 20, "only {} answers", answers.len());
        answers.len()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}
