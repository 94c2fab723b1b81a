use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use bearerd::proxy::route::{Routes, Settings, Surroundings};
use bearerd::proxy::{Proxy, State};
use bearerd::server::{Counters, Limits, Listener, workers};
use bearerd::shutdown::Shutdown;
use bearerd::telemetry::metrics::Metrics;
use bearerd::token::handle::Handle;

use super::{Client, PATIENCE, Upstream};

/// How a sidecar is to be.
pub struct Setup {
    /// The `routes` as YAML; `UPSTREAM` stands for the upstream's URL.
    pub routes: String,
    pub limits: Limits,
    pub hosts: Vec<String>,
    pub workers: usize,
    pub tokens: Vec<Handle>,
    pub token_wait: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            routes: "- {upstream: UPSTREAM, inject: {Authorization: Bearer secret-credential}}"
                .to_owned(),
            limits: Limits::default(),
            hosts: Vec::new(),
            workers: 1,
            tokens: Vec::new(),
            token_wait: Duration::from_secs(2),
        }
    }
}

/// A proxy listener in this process; it ends with the value.
pub struct Sidecar {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    threads: Vec<JoinHandle<()>>,
}

impl Sidecar {
    /// A sidecar with one route that injects `Authorization: Bearer secret-credential`.
    pub fn before(upstream: &Upstream) -> Self {
        Self::start(upstream, Setup::default())
    }

    /// A sidecar with these routes.
    pub fn with_routes(upstream: &Upstream, routes: &str) -> Self {
        Self::start(upstream, Setup { routes: routes.to_owned(), ..Setup::default() })
    }

    pub fn start(upstream: &Upstream, setup: Setup) -> Self {
        let yaml = setup.routes.replace("UPSTREAM", &upstream.url());
        let settings: Vec<Settings> = serde_yaml::from_str(&yaml).expect("routes");
        let metrics = Arc::new(Metrics::new().unwrap());
        let shutdown = Shutdown::new();
        let surroundings = Surroundings {
            limits: &setup.limits,
            metrics: &metrics,
            shutdown: &shutdown,
            via: true,
        };
        let find = |name: &_| setup.tokens.iter().find(|token| token.name() == name).cloned();
        let routes = Routes::new(&settings, find, surroundings).expect("routes");
        let hosts = setup.hosts.iter().map(String::as_str);
        let state = State::new(routes, hosts, setup.token_wait);
        let proxy = Arc::new(Proxy::new(Arc::new(ArcSwap::from_pointee(state)), &metrics));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).expect("a free port");
        let address = listener.local_addr();
        let counters = Counters::new(&metrics);
        let team = workers(setup.workers, setup.limits, Some(counters), shutdown.clone());
        let threads = team
            .into_iter()
            .map(|worker| {
                let listener = listener.try_clone().unwrap();
                let proxy = Arc::clone(&proxy);
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(worker.serve(vec![listener], proxy)).unwrap();
                })
            })
            .collect();
        Self { address, metrics, shutdown, threads }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The value of a series, as it is written in the metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has a value.
    pub fn await_metric(&self, series: &str, wanted: f64) {
        super::eventually(
            || (self.metric(series) - wanted).abs() < 0.5,
            || format!("{series} is {} and not {wanted}", self.metric(series)),
        );
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shutdown.close();
        let deadline = std::time::SystemTime::now() + PATIENCE;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && std::time::SystemTime::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                thread.join().expect("the worker did not panic");
            } else if !std::thread::panicking() {
                panic!("the worker does not end");
            }
        }
    }
}
