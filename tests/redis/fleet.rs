use std::sync::mpsc;
use std::thread::JoinHandle;

use bearerd::config::{Overrides, parse};
use bearerd::shutdown::Shutdown;
use bearerd::telemetry::metrics::Metrics;
use bearerd::token::Tokens;
use bearerd::token::handle::Handle;
use bearerd::vocab::TokenName;

use crate::server::Redis;
use crate::support::{Issuer, eventually};

/// As many as no fleet of sidecars should trample its issuer with.
pub const FLEET: usize = 100;

/// The configuration of a token `api` that is shared; `more` are further settings of it.
pub fn shared(issuer: &Issuer, redis: &Redis, more: &str) -> String {
    redis.dir.write("secret", "client-secret");
    format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{}\", client_id: me, \
         client_secret: {{file: {}/secret}}, {}{more}}}}}}}\n\
         routes: [{{upstream: \"http://127.0.0.1:1\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        issuer.url(),
        redis.dir.path().display(),
        redis.state()
    )
}

/// Many programs' tokens `api` in one process: what a program does about its token is all in its
/// task, and a hundred processes would measure this machine.
pub struct Fleet {
    pub handles: Vec<Handle>,
    metrics: Vec<Metrics>,
    end: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// So many replicas of one configuration, started together.
    pub fn start(count: usize, config: &str) -> Self {
        let config = config.to_owned();
        let end = Shutdown::new();
        let (into, from) = mpsc::channel();
        let tasks = end.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let name = TokenName::parse("api").unwrap();
                let all: Vec<(Tokens, Metrics)> = (0..count)
                    .map(|_| {
                        let loaded = parse(&config, Overrides::default())
                            .unwrap_or_else(|problems| panic!("{:?}", problems.sorted()));
                        let metrics = Metrics::new().unwrap();
                        let tokens =
                            Tokens::new(loaded.plans, &Tokens::default(), &metrics, &tasks.child());
                        (tokens, metrics)
                    })
                    .collect();
                for (tokens, _) in &all {
                    tokens.start();
                }
                let handles = all.iter().map(|(tokens, _)| tokens.handle(&name).unwrap()).collect();
                let metrics: Vec<Metrics> = all.into_iter().map(|(_, metrics)| metrics).collect();
                into.send((handles, metrics)).unwrap();
                tasks.closing().await;
                tasks.finished(std::time::Duration::from_secs(2)).await;
            });
        });
        let (handles, metrics): (Vec<Handle>, Vec<Metrics>) = from.recv().unwrap();
        Self { handles, metrics, end, thread: Some(thread) }
    }

    /// How many replicas use this value.
    pub fn using(&self, value: &str) -> usize {
        self.values().iter().filter(|used| used.as_deref() == Some(value)).count()
    }

    /// Waits until all use this value.
    pub fn await_all(&self, value: &str) {
        let count = self.handles.len();
        eventually(&format!("{value} for all"), || self.using(value) == count);
    }

    /// The values in use.
    pub fn values(&self) -> Vec<Option<String>> {
        let value = |handle: &Handle| {
            handle.usable().map(|current| current.grant.value.expose().to_owned())
        };
        self.handles.iter().map(value).collect()
    }

    /// The sum of all series whose line begins so.
    pub fn metric(&self, series: &str) -> f64 {
        let lines = self.metrics.iter().map(Metrics::render).collect::<Vec<_>>().join("\n");
        let lines = lines.lines().filter(|line| line.starts_with(series));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// What became of sharing, by event.
    pub fn events(&self, event: &str) -> f64 {
        self.metric(&format!("bearerd_token_store_events_total{{event=\"{event}\""))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end.close();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
