use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Answer, Client, Dir, Issuer, Load, Upstream, eventually};

/// The real program with a configuration of its own. It is killed with the value.
pub struct Sidecar {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub dir: Dir,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// How the program is started.
pub struct Launch {
    dir: Dir,
    wrapper: Vec<String>,
}

impl Launch {
    /// The wrapper's words come before the program's.
    pub fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Writes a file into its directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        self.dir.write(name, content)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it with `config`, in which `DIR` stands for its directory.
    pub fn start(self, config: &str) -> Sidecar {
        let Self { dir, wrapper } = self;
        let path = dir.write("config.yaml", config.replace("DIR", &dir.path().to_string_lossy()));
        let binary = env!("CARGO_BIN_EXE_bearerd");
        let mut words = wrapper.iter().map(String::as_str).chain([binary]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--config").arg(&path).env("NO_COLOR", "1").env_remove("RUST_LOG");
        command.env("BEARERD_WORKERS", "2").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let into = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let bound = || {
            let lines = log.lock().unwrap();
            let line = lines.iter().find(|line| line.contains("listening proxy="))?;
            let after = |key: &str| line.split(key).nth(1)?.split(' ').next()?.parse().ok();
            Some((after("proxy=")?, after("admin=")?))
        };
        eventually("listening", || bound().is_some() || child_ended(&log));
        let (proxy, admin) = bound().unwrap_or_else(|| panic!("{:?}", log.lock().unwrap()));
        Sidecar { proxy, admin, dir, child, log }
    }
}

fn child_ended(log: &Mutex<Vec<String>>) -> bool {
    log.lock().unwrap().iter().any(|line| line.contains("error"))
}

impl Sidecar {
    pub fn launch() -> Launch {
        let dir = Dir::new();
        dir.write("secret", "client-secret");
        Launch { dir, wrapper: Vec::new() }
    }

    pub fn start(config: &str) -> Self {
        Self::launch().start(config)
    }

    /// One token from the URL, one route to the upstream.
    pub fn simple(token_url: &str, upstream: &Upstream) -> Self {
        Self::start(&simple(token_url, upstream, ""))
    }

    pub fn before(issuer: &Issuer, upstream: &Upstream) -> Self {
        Self::simple(&issuer.url(), upstream)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.proxy).unwrap()
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path).unwrap()
    }

    pub fn load(&self, rate: u32) -> Load {
        Load::on(self.proxy, "/load", rate)
    }

    pub fn admin(&self, path: &str) -> Answer {
        Client::connect(self.admin).unwrap().get(path).unwrap()
    }

    pub fn is_ready(&self) -> bool {
        self.admin("/readyz").status == 200
    }

    /// The generation of the token `api`.
    pub fn generation(&self) -> u64 {
        let status: serde_json::Value =
            serde_json::from_slice(&self.admin("/status").body).unwrap();
        let tokens = status["tokens"].as_array().unwrap();
        let api = tokens.iter().find(|token| token["name"] == "api").expect("a token `api`");
        api["generation"].as_u64().unwrap()
    }

    pub fn await_ready(&self) {
        eventually("readiness", || self.is_ready());
    }

    /// The sum of all series whose line begins so.
    pub fn metric(&self, series: &str) -> f64 {
        let body = self.admin("/metrics").body;
        let text = String::from_utf8(body).unwrap();
        text.lines()
            .filter(|line| line.starts_with(series))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Failed attempts with this reason.
    pub fn failures(&self, reason: &str) -> f64 {
        let text = String::from_utf8(self.admin("/metrics").body).unwrap();
        let label = format!("reason=\"{reason}\"");
        text.lines()
            .filter(|line| line.starts_with("bearerd_token_refresh_total"))
            .filter(|line| line.contains("\"failure\"") && line.contains(&label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// How it ended, within `longest`.
    pub fn ended(&mut self, longest: Duration) -> ExitStatus {
        let start = bearerd::vocab::Moment::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let waited = bearerd::vocab::Moment::now().since(start);
            assert!(waited < longest, "still running after {longest:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it wrote to standard error; for what must not be there.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- its log ---\n{}", self.log());
        }
    }
}

/// A configuration with one token and one route; `more` are further settings of the token.
pub fn simple(token_url: &str, upstream: &Upstream, more: &str) -> String {
    format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{token_url}\", client_id: me, \
         client_secret: {{file: DIR/secret}}{more}}}}}}}\n\
         routes: [{{upstream: \"{}\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        upstream.url()
    )
}
