//! The listener's certificate, as it is now: a renewed one is used for every connection after it
//! was noticed, a broken one never.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::StartError;
use crate::net::certificate::Settings;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// How often the files' content is looked at.
const POLL: Duration = Duration::from_secs(5);

/// What clients are shown, and where it comes from.
pub(super) struct Certificates {
    settings: Settings,
    current: Arc<ArcSwap<ServerConfig>>,
    seen: u64,
}

impl Certificates {
    /// Reads the files.
    pub(super) fn new(settings: &Settings) -> Result<Self, StartError> {
        let seen = settings.fingerprint();
        let config = settings.load().map_err(|(_, why)| StartError::Certificate(why.what))?;
        let current = Arc::new(ArcSwap::new(config));
        Ok(Self { settings: settings.clone(), current, seen })
    }

    /// What the listener reads.
    pub(super) fn current(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.current)
    }

    /// Follows the files until closing.
    pub(super) async fn follow(mut self, metrics: Arc<Metrics>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.closing() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            let now = self.settings.fingerprint();
            if now != self.seen {
                self.seen = now;
                self.replace(&metrics);
            }
        }
    }

    fn replace(&self, metrics: &Metrics) {
        let loaded = self.settings.load();
        metrics.secret_reloaded(loaded.is_ok());
        match loaded {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(file = self.settings.cert_file.as_str(), "certificate reloaded");
            }
            Err((_, mistake)) => {
                tracing::error!(why = mistake.what, "certificate not reloaded, the old one stays");
            }
        }
    }
}
