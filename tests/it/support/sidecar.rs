use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use bearerd::config::{self, Overrides};
use bearerd::proxy::route::{Routes, Surroundings};
use bearerd::proxy::{Proxy, State};
use bearerd::server::{Counters, HostName, Listener, workers};
use bearerd::shutdown::Shutdown;
use bearerd::telemetry::metrics::Metrics;
use bearerd::token::Tokens;
use bearerd::vocab::Period;

use super::{Client, PATIENCE, Upstream};

/// The routes of most tests.
const ROUTES: &str =
    "routes: [{upstream: UPSTREAM, inject: {Authorization: Bearer secret-credential}}]";

/// A proxy listener in this process, with its tokens; it ends with the value.
pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
    threads: Vec<JoinHandle<()>>,
}

impl Sidecar {
    /// A sidecar with one route that injects `Authorization: Bearer secret-credential`.
    pub(crate) fn before(upstream: &Upstream) -> Self {
        Self::start(upstream, "")
    }

    /// A sidecar with these `limits`, and the usual route.
    pub(crate) fn limited(upstream: &Upstream, limits: &str) -> Self {
        Self::start(upstream, &format!("limits: {{{limits}}}\n"))
    }

    /// A sidecar with a configuration, in which `UPSTREAM` stands for the upstream's URL. Without
    /// `routes` it has the usual one.
    pub(crate) fn start(upstream: &Upstream, yaml: &str) -> Self {
        Self::asking(upstream, yaml, None)
    }

    /// The same, which asks silent peers over HTTP/2 sooner whether they are there.
    pub(crate) fn asking(upstream: &Upstream, yaml: &str, silence: Option<Duration>) -> Self {
        let mut yaml = yaml.to_owned();
        if !yaml.contains("routes:") {
            yaml.push_str(ROUTES);
        }
        let yaml = yaml.replace("UPSTREAM", &upstream.url());
        let loaded = config::parse(&yaml, Overrides::default())
            .unwrap_or_else(|problems| panic!("{:?}", problems.sorted()));
        let mut config = loaded.config;
        if let Some(silence) = silence {
            config.limits.silence = Period(silence);
        }
        let metrics = Arc::new(Metrics::new().unwrap());
        let shutdown = Shutdown::new();
        let tokens = Tokens::new(loaded.plans, &Tokens::default(), &metrics, &shutdown);
        let surroundings = Surroundings {
            limits: &config.limits,
            metrics: &metrics,
            shutdown: &shutdown,
            via: config.via,
            caller: None,
            trusted: &config.trusted_proxies,
        };
        let routes =
            Routes::new(&config.routes, |name| tokens.handle(name), surroundings).expect("routes");
        let hosts = config.hosts.iter().map(HostName::as_str);
        let state = State::new(routes, hosts, config.token_wait.0);
        let proxy =
            Arc::new(Proxy::new(Arc::new(ArcSwap::from_pointee(state)), &metrics, Arc::default()));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).expect("a free port");
        let address = listener.address().inet().unwrap();
        let counters = Counters::new(&metrics);
        let count = config.workers.map_or(1, |workers| usize::from(workers.value));
        let team = workers(count, config.limits.clone(), Some(counters), shutdown.clone());
        let mut threads: Vec<_> = team
            .into_iter()
            .map(|worker| {
                let listener = listener.try_clone().unwrap();
                let proxy = Arc::clone(&proxy);
                thread(async move { worker.serve(vec![listener], proxy).await.unwrap() })
            })
            .collect();
        let ends = shutdown.clone();
        threads.push(thread(async move {
            tokens.start();
            ends.closing().await;
        }));
        Self { address, metrics, shutdown, threads }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The value of a series, as it is written in the metrics; 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has a value.
    pub(crate) fn await_metric(&self, series: &str, wanted: f64) {
        super::eventually(
            || (self.metric(series) - wanted).abs() < 0.5,
            || format!("{series} is {} and not {wanted}", self.metric(series)),
        );
    }
}

/// Runs a future on a thread and runtime of its own.
fn thread(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future);
    })
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shutdown.close();
        let deadline = std::time::SystemTime::now() + PATIENCE;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && std::time::SystemTime::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(thread.is_finished() || std::thread::panicking(), "a thread does not end");
            if thread.is_finished() && thread.join().is_err() && !std::thread::panicking() {
                panic!("a worker panicked");
            }
        }
    }
}
