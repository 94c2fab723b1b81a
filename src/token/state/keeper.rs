//! Keeps a token's state: knows what is in the store, writes what is new, and goes on trying.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Kept, StateError, StateFile};
use crate::telemetry::metrics::TokenMetrics;
use crate::vocab::{Moment, Secret, TokenName};

/// Longest time that a write may hold up the use of a new token. A network file system can hang.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pauses after failures to write: from this, doubling …
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// … to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One token's keeper.
#[derive(Debug)]
pub(in super::super) struct Keeper {
    store: StateFile,
    token: TokenName,
    /// What the store held when it was last looked at or written.
    known: Option<Kept>,
    /// What could not be written yet.
    unsaved: Option<Kept>,
    /// A write that is under way. There is never a second one: it could be overtaken by the first.
    writing: Option<(Kept, JoinHandle<Result<(), StateError>>)>,
    next_try: Moment,
    pause: Duration,
    /// A fault is told once, not at every try.
    complained: bool,
}

impl Keeper {
    pub(in super::super) fn new(store: StateFile, token: TokenName) -> Self {
        store.tidy();
        Self {
            store,
            token,
            known: None,
            unsaved: None,
            writing: None,
            next_try: Moment::now(),
            pause: FIRST_PAUSE,
            complained: false,
        }
    }

    /// A refresh token in the store that differs from what was last known to be there: from
    /// before the start, or of another program that shares the store. What descends from another
    /// configured token than `seed` is passed over.
    pub(in super::super) async fn news(&mut self, seed: Option<&str>) -> Option<Secret> {
        let store = self.store.clone();
        let reading = tokio::task::spawn_blocking(move || store.load());
        let why = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(Ok(kept))) => return self.adopt(kept?, seed),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not read within {PATIENCE:?}"),
        };
        if !std::mem::replace(&mut self.complained, true) {
            tracing::error!(token = %self.token, %why, "the token's state cannot be used");
        }
        None
    }

    fn adopt(&mut self, kept: Kept, seed: Option<&str>) -> Option<Secret> {
        let fits = kept.seed.as_deref() == seed;
        if !fits || self.known.as_ref() == Some(&kept) {
            return None;
        }
        // What is in memory is older than what another program could write.
        self.unsaved = None;
        let refresh_token = kept.refresh_token.clone();
        self.known = Some(kept);
        Some(refresh_token)
    }

    /// Writes a refresh token that just came, before it is used.
    pub(in super::super) async fn keep(&mut self, kept: Kept, metrics: &TokenMetrics) {
        if self.known.as_ref() == Some(&kept) && self.unsaved.is_none() {
            return;
        }
        self.unsaved = Some(kept);
        self.write(metrics).await;
    }

    /// When to try again to write; `None` if all is written.
    pub(in super::super) fn due(&self) -> Option<Moment> {
        self.unsaved.as_ref().map(|_| self.next_try)
    }

    /// Tries again to write, if it is time.
    pub(in super::super) async fn catch_up(&mut self, now: Moment, metrics: &TokenMetrics) {
        if self.due().is_some_and(|due| due <= now) {
            self.write(metrics).await;
        }
    }

    async fn write(&mut self, metrics: &TokenMetrics) {
        let failure = match tokio::time::timeout(PATIENCE, self.write_all()).await {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(format!("not written within {PATIENCE:?}")),
        };
        match failure {
            None => {
                self.pause = FIRST_PAUSE;
                if std::mem::take(&mut self.complained) {
                    tracing::info!(token = %self.token, "the token's state is written again");
                }
            }
            Some(why) => {
                self.next_try = Moment::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::error!(
                        token = %self.token, %why,
                        "the newest refresh token is only in memory; a restart now would lose it"
                    );
                }
            }
        }
        metrics.state_unsaved.set(i64::from(self.unsaved.is_some()));
    }

    async fn write_all(&mut self) -> Result<(), String> {
        while let Some(kept) = &self.unsaved {
            let (content, writing) = self.writing.get_or_insert_with(|| {
                let (store, content) = (self.store.clone(), kept.clone());
                // On a thread of its own: the tokens' thread must not wait for a disk.
                (kept.clone(), tokio::task::spawn_blocking(move || store.save(&content)))
            });
            let outcome = writing.await;
            let written = content.clone();
            self.writing = None;
            outcome.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            if self.unsaved.as_ref() == Some(&written) {
                self.unsaved = None;
            }
            self.known = Some(written);
        }
        Ok(())
    }
}
