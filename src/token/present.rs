//! From tokens to header fields: the only place that builds a credential's header value.

mod settings;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use tokio::sync::watch;

pub use self::settings::{FieldSettings, FieldWithMode, Inject, Mode};
use super::handle::{Handle, Rejected};
use super::template::{Scope, Template};
use crate::vocab::{Moment, TokenName};

/// Most requests of one route that wait for a token.
pub const MOST_WAITERS: usize = 1000;

/// The header fields that one route injects, ready to be copied into a request.
#[derive(Debug)]
pub struct Presented {
    /// Name, value, and whether a client's own value is kept. Values with a token are sensitive.
    pub fields: Vec<(HeaderName, HeaderValue, Mode)>,
    /// Up to when all tokens in it may be injected.
    pub usable_until: Option<Moment>,
    /// By index of [`Presentation::tokens`], the generations it was built from.
    pub generations: Vec<u64>,
    /// Of each sensitive field, by its index, where the last word begins.
    secrets: Vec<(usize, usize)>,
}

impl Presented {
    /// These fields, which may be injected up to `usable_until`.
    #[must_use]
    pub fn new(
        fields: Vec<(HeaderName, HeaderValue, Mode)>,
        usable_until: Option<Moment>,
        generations: Vec<u64>,
    ) -> Self {
        let last_word = |value: &HeaderValue| {
            value.as_bytes().iter().rposition(|b| *b == b' ').map_or(0, |space| space + 1)
        };
        let sensitive = fields.iter().enumerate().filter(|(_, (_, value, _))| value.is_sensitive());
        let secrets = sensitive.map(|(index, (_, value, _))| (index, last_word(value))).collect();
        Self { fields, usable_until, generations, secrets }
    }

    /// Of each sensitive field what follows the scheme.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        let of = |(index, start): &(usize, usize)| {
            self.fields.get(*index).and_then(|(_, value, _)| value.as_bytes().get(*start..))
        };
        self.secrets.iter().filter_map(of)
    }

    /// Whether it may be injected now.
    #[must_use]
    pub fn is_usable(&self, now: Moment) -> bool {
        self.usable_until.is_none_or(|until| now < until)
    }

    /// Whether a client's own field of this name is replaced.
    #[must_use]
    pub fn replaces(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|(field, _, mode)| *mode == Mode::Set && field == name)
    }
}

/// What waiting for a route's fields came to.
#[derive(Debug)]
pub enum Waited {
    /// They are usable.
    Ready(Arc<Presented>),
    /// They were not in time, or too many requests wait already.
    InVain,
    /// A reload has replaced a token that they name: they never will be.
    Replaced,
}

/// Keeps one route's [`Presented`] up to date. Reading it takes no lock and copies nothing.
#[derive(Debug)]
pub struct Presentation {
    fields: Vec<(HeaderName, Template, Mode)>,
    tokens: Vec<Handle>,
    presented: ArcSwapOption<Presented>,
    changed: watch::Sender<u64>,
    writer: Mutex<u64>,
    waiters: AtomicUsize,
}

impl Presentation {
    /// Prepares a route's fields. `find` gives the handles of the tokens that they name, all of
    /// which exist by the configuration's check.
    #[must_use]
    pub fn new(inject: &Inject, find: impl Fn(&TokenName) -> Option<Handle>) -> Arc<Self> {
        let names: BTreeSet<&TokenName> =
            inject.values().flat_map(|field| field.template().tokens().map(|(n, _)| n)).collect();
        let presentation = Arc::new(Self {
            fields: inject
                .iter()
                .map(|(name, field)| {
                    (name.as_header().clone(), field.template().clone(), field.mode())
                })
                .collect(),
            tokens: names.into_iter().filter_map(find).collect(),
            presented: ArcSwapOption::empty(),
            changed: watch::Sender::new(0),
            writer: Mutex::new(0),
            waiters: AtomicUsize::new(0),
        });
        for token in &presentation.tokens {
            token.add_dependent(&presentation);
        }
        presentation.refresh();
        presentation
    }

    /// The tokens that the fields name, in a fixed order.
    #[must_use]
    pub fn tokens(&self) -> &[Handle] {
        &self.tokens
    }

    /// The names of the fields that are injected.
    pub fn names(&self) -> impl Iterator<Item = (&HeaderName, Mode)> {
        self.fields.iter().map(|(name, _, mode)| (name, *mode))
    }

    /// The fields as they now are, usable or not.
    #[must_use]
    pub fn load(&self) -> Guard<Option<Arc<Presented>>> {
        self.presented.load()
    }

    /// Waits until the fields are usable, `longest` at most.
    pub async fn wait(&self, longest: Duration) -> Waited {
        for token in self.tokens.iter().filter(|token| token.usable().is_none()) {
            token.nudge();
        }
        let usable = |presented: &Presented| presented.is_usable(Moment::now());
        let is_replaced = || self.tokens.iter().any(Handle::is_retired);
        match self.wait_for(longest, usable, || !is_replaced()).await {
            Some(presented) => Waited::Ready(presented),
            None if is_replaced() => Waited::Replaced,
            None => Waited::InVain,
        }
    }

    /// Waits until the token at `index` of [`Self::tokens`] has another value than in `old`;
    /// `None` if its renewal ends without one, or after `longest`.
    pub async fn renewed(
        &self,
        old: &Presented,
        index: usize,
        longest: Duration,
    ) -> Option<Arc<Presented>> {
        let token = self.tokens.get(index)?;
        let newer = |presented: &Presented| {
            presented.generations.get(index) > old.generations.get(index)
                && presented.is_usable(Moment::now())
        };
        let hopeful = || token.is_renewing() && !token.is_retired();
        let presented = self.wait_for(longest, newer, hopeful).await?;
        let same = presented.fields.iter().zip(&old.fields).all(|(new, old)| new.1 == old.1);
        (!same).then_some(presented)
    }

    async fn wait_for(
        &self,
        longest: Duration,
        fits: impl Fn(&Presented) -> bool,
        hopeful: impl Fn() -> bool,
    ) -> Option<Arc<Presented>> {
        let _place = Place::take(self)?;
        let mut changes = self.changed.subscribe();
        let mut ends: Vec<_> = self.tokens.iter().map(Handle::follow).collect();
        let waiting = async {
            loop {
                if let Some(presented) = self.presented.load_full().filter(|p| fits(p)) {
                    return Some(presented);
                }
                if !hopeful() {
                    return None;
                }
                any_change(&mut changes, &mut ends).await;
            }
        };
        tokio::time::timeout(longest, waiting).await.ok().flatten()
    }

    /// Says that the upstream rejected the token at `index` of `presented`.
    #[must_use]
    pub fn reject(&self, presented: &Presented, index: usize) -> Rejected {
        match (self.tokens.get(index), presented.generations.get(index)) {
            (Some(token), Some(generation)) => token.reject(*generation),
            _ => Rejected::Ignored,
        }
    }

    /// Builds the fields anew from the tokens' current values. Called by whoever published one.
    pub(super) fn refresh(&self) {
        let mut version = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(presented) = self.build() else { return };
        self.presented.store(Some(Arc::new(presented)));
        *version += 1;
        self.changed.send_replace(*version);
    }

    fn build(&self) -> Option<Presented> {
        let currents: Option<Vec<_>> = self.tokens.iter().map(Handle::current).collect();
        let currents = currents?;
        let scope = Scope {
            tokens: self
                .tokens
                .iter()
                .zip(&currents)
                .map(|(token, current)| (token.name().clone(), Arc::clone(&current.grant)))
                .collect(),
            own: None,
        };
        let mut fields = Vec::with_capacity(self.fields.len());
        for (name, template, mode) in &self.fields {
            let rendered = match template.render(&scope) {
                Ok(rendered) => rendered,
                Err(error) => {
                    tracing::error!(header = %name, %error, "cannot build an injected header");
                    return None;
                }
            };
            // Blanks around it are no part of a value (RFC 9110 section 5.5), and malformed in HTTP/2.
            let text = rendered.expose().trim_matches([' ', '\t']);
            let Ok(mut value) = HeaderValue::from_str(text) else {
                tracing::error!(header = %name, "a token's value does not fit a header");
                return None;
            };
            // An `Authorization` made from the environment is a credential as well.
            value.set_sensitive(template.is_secret() || *name == AUTHORIZATION);
            fields.push((name.clone(), value, *mode));
        }
        let usable_until = currents.iter().filter_map(|current| current.usable_until).min();
        let generations = currents.iter().map(|current| current.generation).collect();
        Some(Presented::new(fields, usable_until, generations))
    }
}

/// One of the places for waiting requests; given back on drop.
struct Place<'p>(&'p Presentation);

impl<'p> Place<'p> {
    fn take(presentation: &'p Presentation) -> Option<Self> {
        if presentation.waiters.fetch_add(1, Ordering::Relaxed) >= MOST_WAITERS {
            presentation.waiters.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        for token in &presentation.tokens {
            token.metrics().waiters.inc();
        }
        Some(Self(presentation))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
        for token in &self.0.tokens {
            token.metrics().waiters.dec();
        }
    }
}

/// Returns when the fields were built anew or one of the tokens' attempts ended.
async fn any_change(changes: &mut watch::Receiver<u64>, ends: &mut [watch::Receiver<u64>]) {
    let mut waits: Vec<_> = ends.iter_mut().map(|end| Box::pin(end.changed())).collect();
    let mut change = std::pin::pin!(changes.changed());
    std::future::poll_fn(|cx| {
        use std::future::Future;
        if change.as_mut().poll(cx).is_ready() {
            return std::task::Poll::Ready(());
        }
        if waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
}
