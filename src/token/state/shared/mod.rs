//! One token for many programs: one of them asks the issuer, the others take its value over.
//!
//! * Who wants to ask takes a lease that ends soon unless it is kept up, so that the death of its
//!   owner costs a moment. With it comes a fence, a number that only grows: a value is stored
//!   only over one with a lower fence, so nobody who was asleep overwrites what came after him.
//! * A refresh token that serves once is sent by the lease's owner alone, and the store is told
//!   before. Whoever finds it told so, without a newer value, takes the token for spent.
//! * How long a value holds is counted on the store's own clock: those of the programs differ.
//!
//! Every use of the store ends after half a second at the latest and may fail; the token's task
//! then goes on alone.

mod condition;
mod link;
mod names;
mod seal;
pub mod settings;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;

use self::condition::Condition;
use self::link::{Away, Link, dialer};
use self::names::Names;
use self::seal::Stored;
pub use self::settings::Settings;
use super::super::exchange::Means;
use super::super::exchange::value::KeptSecret;
use super::super::grant::{Grant, LONGEST};
use super::super::handle::Handle;
use super::super::identity::{Identity, hex};
use super::super::purse::Right;
use crate::net::dial::Dialer;
use crate::net::tls::TlsError;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::StoreMetrics;
use crate::vocab::Moment;

const CLAIM: &str = include_str!("claim.lua");
const PUT: &str = include_str!("put.lua");
const SPEND: &str = include_str!("spend.lua");
const EXTEND: &str = include_str!("extend.lua");
const RELEASE: &str = include_str!("release.lua");

/// A larger value is not ours.
const MOST_BYTES: usize = 256 * 1024;

/// How often the store is looked at although it has said nothing.
const LOOK: Duration = Duration::from_secs(15);

/// Nothing is kept for less, so that fences go on growing …
const SHORTEST_KEPT: Duration = LONGEST;

/// … nor, where nobody says how long a refresh token holds, for longer.
const LONGEST_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A store whose clock was set back tells nothing about a value's age.
const CLOCK_SLACK_MS: u64 = 1000;

/// Stands for the fence of a value that has never been in the store.
const OWN: u64 = 0;

/// Stands for the fence of a value that may be in the store or not.
const UNKNOWN: u64 = u64::MAX;

/// The longest that a lease outlives its owner …
const LONGEST_LEASE: Duration = Duration::from_secs(2);

/// … and the shortest, for values that do not live long themselves.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);

/// A store as configured.
#[derive(Debug, Clone)]
pub struct Plan {
    settings: Settings,
    dialer: Dialer,
}

impl Plan {
    /// # Errors
    /// TLS settings that cannot work.
    pub(super) fn new(settings: &Settings) -> Result<Self, TlsError> {
        Ok(Self { settings: settings.clone(), dialer: dialer(settings)? })
    }

    /// The secrets that it reads.
    pub fn secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        self.settings.secrets()
    }
}

/// A value that another program has stored.
#[derive(Debug)]
pub(in super::super) struct Entry {
    pub(in super::super) grant: Grant,
    /// By which request it came.
    pub(in super::super) means: Means,
    /// When its request was sent.
    pub(in super::super) sent: Moment,
    fence: u64,
}

/// What came of asking for the lease.
pub(in super::super) enum Claim {
    /// There is a value that this program has not seen yet.
    News(Entry),
    /// It is this program's turn.
    Ours,
    /// Another one's, for so long at least.
    Taken(Duration),
    /// The store cannot be used.
    Away,
}

/// The right to ask the issuer, for a while.
struct Lease {
    fence: u64,
    length: Duration,
    /// The fence of the value that is stored.
    over: u64,
    /// Whether that value's refresh token may have been sent.
    spent: bool,
}

/// What one look into the store shows.
enum Sight {
    /// A value that this program has not seen yet.
    News(Entry),
    /// Nothing new.
    Nothing,
    /// Something that cannot be opened.
    Unreadable,
    /// Nothing new, and the lease is ours.
    Ours,
    /// Nothing new, and the lease is another one's for so long.
    Taken(Duration),
}

/// One token's view of the store. The token's task is its only user.
pub(in super::super) struct Shared {
    settings: Settings,
    identity: Identity,
    condition: Arc<Condition>,
    link: Link,
    /// What all names begin with, and the channel's name.
    base: String,
    /// This program's name as an owner of leases.
    owner: String,
    names: Option<Names>,
    /// The fence of the stored value that was last looked at, used or not.
    seen: String,
    /// What was seen cannot be opened.
    useless: bool,
    /// The fence of the value in use; [`OWN`] if it has never been in the store, [`UNKNOWN`] if
    /// it may have been.
    known: u64,
    /// What could not be stored, under its fence.
    unsaved: Option<(u64, Stored)>,
    lease: Option<Lease>,
    /// A moment on both clocks: the store's in milliseconds, and when that was asked and told.
    clock: Option<(u64, Moment, Moment)>,
    looked: Moment,
}

impl Shared {
    pub(in super::super) fn new(
        plan: Plan,
        identity: Identity,
        handle: Handle,
        metrics: StoreMetrics,
        tasks: &Shutdown,
    ) -> Self {
        let Plan { settings, dialer } = plan;
        let (prefix, definition) = (settings.prefix.as_str(), identity.definition());
        // The braces keep all names of a token in one slot of a cluster.
        let base = format!("{prefix}:{{{}:{definition}}}", handle.name());
        let place = settings.url.value.to_string();
        let condition = Arc::new(Condition::new(handle, place, metrics));
        let link = Link::open(&settings, dialer, base.clone(), Arc::clone(&condition), tasks);
        Self {
            settings,
            identity,
            condition,
            link,
            base,
            owner: hex(&fastrand::u128(..).to_be_bytes()),
            names: None,
            seen: String::new(),
            useless: false,
            known: OWN,
            unsaved: None,
            lease: None,
            clock: None,
            looked: Moment::now(),
        }
    }

    /// Returns when it is worth looking into the store.
    pub(in super::super) async fn news(&self) {
        let rest = Moment::now().until(self.looked + LOOK);
        drop(tokio::time::timeout(rest, self.condition.news.notified()).await);
    }

    /// A value that this program has not seen yet. It asks for no lease.
    pub(in super::super) async fn look(&mut self) -> Option<Entry> {
        self.rename();
        if let Some((fence, stored)) = self.unsaved.take() {
            self.store(fence, stored).await;
        }
        match self.see("", Duration::ZERO, false).await {
            Ok(Sight::News(entry)) => Some(entry),
            _ => None,
        }
    }

    /// Asks for the lease, for a value that lives for `lifetime`.
    pub(in super::super) async fn claim(&mut self, lifetime: Option<Duration>) -> Claim {
        self.link.known().await;
        self.lease = None;
        self.rename();
        let length =
            lifetime.map_or(LONGEST_LEASE, |life| (life / 20).clamp(SHORTEST_LEASE, LONGEST_LEASE));
        let owner = self.owner.clone();
        let mut sight = self.see(&owner, length, self.useless).await;
        if matches!(sight, Ok(Sight::Unreadable)) {
            sight = self.see(&owner, length, true).await;
        }
        match sight {
            Ok(Sight::News(entry)) => Claim::News(entry),
            Ok(Sight::Ours) => Claim::Ours,
            Ok(Sight::Taken(left)) => Claim::Taken(left),
            Ok(Sight::Nothing | Sight::Unreadable) => Claim::Taken(Duration::ZERO),
            Err(_) => Claim::Away,
        }
    }

    /// Follows the secrets that names are made of.
    fn rename(&mut self) {
        let key = self.settings.key.read();
        let names = key.and_then(|key| Names::new(&self.base, &self.identity, &key));
        let Ok(names) = names else {
            // Without its credentials the token has a louder failure than this one.
            self.names = None;
            return;
        };
        let same = self.names.as_ref().is_some_and(|before| before.mark == names.mark);
        if !same {
            self.condition.rename(&names.mark);
            self.seen.clear();
            if self.known != OWN {
                self.known = UNKNOWN;
            }
            self.unsaved = None;
        }
        self.names = Some(names);
    }

    async fn see(&mut self, owner: &str, lease: Duration, drop: bool) -> Result<Sight, Away> {
        self.looked = Moment::now();
        let Some(names) = &self.names else { return Err(Away::Unsent) };
        let mut command = script(CLAIM, &[&names.entry, &names.lease, &names.probe]);
        command.arg(owner).arg(millis(lease)).arg(&self.seen).arg(MOST_BYTES);
        command.arg(if drop { "drop" } else { "" });
        let asked = Moment::now();
        let answer: (u64, String, Vec<u8>, u8, u64, i64) = self.link.ask(&command).await?;
        let (now, fence, value, spent, own, left) = answer;
        let told = Moment::now();
        self.clock = Some((now, asked, told));
        if own > 0 {
            let over = fence.parse().unwrap_or_default();
            self.lease = Some(Lease { fence: own, length: lease, over, spent: spent == 1 });
            return Ok(Sight::Ours);
        }
        if fence == "0" || fence == self.seen {
            let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
            return Ok(if owner.is_empty() { Sight::Nothing } else { Sight::Taken(left) });
        }
        let opened = names.keys.open(&names.entry, &value);
        let number = fence.parse::<u64>().ok();
        let entry = opened.zip(number).and_then(|(stored, fence)| entry(stored, fence, now, asked));
        (self.seen, self.useless) = (fence, entry.is_none());
        Ok(entry.map_or_else(
            || {
                self.condition.unreadable();
                Sight::Unreadable
            },
            Sight::News,
        ))
    }

    /// Says that the stored value is the one in use.
    pub(in super::super) const fn adopted(&mut self, entry: &Entry) {
        self.known = entry.fence;
    }

    /// Whether an entry is younger than the value in use.
    pub(in super::super) const fn is_newer(&self, entry: &Entry) -> bool {
        self.known != OWN && entry.fence > self.known
    }

    /// Whether the refresh token in use may be sent.
    pub(in super::super) const fn right(&self) -> Right {
        match &self.lease {
            _ if self.known == OWN => Right::Own,
            None => Right::Nobodys,
            Some(lease) if lease.over == self.known && !lease.spent => Right::Own,
            Some(_) => Right::Doubtful,
        }
    }

    /// Tells the store that the refresh token in use is about to be sent; false if it must not.
    pub(in super::super) async fn spend(&mut self) -> bool {
        if self.known == OWN {
            return true;
        }
        let (Some(names), Some(_)) = (&self.names, &self.lease) else { return false };
        let mut command = script(SPEND, &[&names.entry, &names.lease]);
        command.arg(&self.owner).arg(self.known);
        matches!(self.link.ask::<u8>(&command).await, Ok(1))
    }

    /// Keeps the lease for as long as it is polled.
    pub(in super::super) async fn keep_lease(&self) -> Infallible {
        let (Some(names), Some(lease)) = (&self.names, &self.lease) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(lease.length / 4).await;
            let mut command = script(EXTEND, &[&names.lease]);
            command.arg(&self.owner).arg(millis(lease.length));
            // Who cannot keep it up loses it; the fence sees to the rest.
            self.link.ask::<u8>(&command).await.ok();
        }
    }

    /// Hands a value that was just obtained to the others.
    pub(in super::super) async fn put(&mut self, grant: &Grant, means: Means, sent: Moment) {
        self.known = OWN;
        let Some((store, asked, told)) = self.clock else { return };
        // Rather older than younger.
        let sent_ms = store
            .saturating_add(millis(told.until(sent)))
            .saturating_sub(millis(sent.until(asked)));
        let fence = self.lease.as_ref().map_or(0, |lease| lease.fence);
        self.store(fence, Stored { grant: grant.clone(), means, sent_ms }).await;
    }

    async fn store(&mut self, fence: u64, stored: Stored) {
        let Some(names) = &self.names else { return };
        let Some(sealed) = names.keys.seal(&names.entry, &stored) else { return };
        if sealed.len() > MOST_BYTES {
            return;
        }
        let mut command = script(PUT, &[&names.entry, &names.lease]);
        command.arg(&self.owner).arg(fence).arg(sealed).arg(millis(kept_for(&stored.grant)));
        command.arg(&self.base).arg(&names.mark);
        let metrics = &self.condition.metrics;
        match self.link.ask::<(u8, u64)>(&command).await {
            Ok((1, fence)) => {
                metrics.published.inc();
                (self.seen, self.known) = (fence.to_string(), fence);
                if let Some(lease) = &mut self.lease {
                    (lease.over, lease.spent) = (fence, false);
                }
            }
            Ok(_) => metrics.overtaken.inc(),
            Err(away) => {
                if let Away::Unknown = away {
                    self.known = if fence == 0 { UNKNOWN } else { fence };
                }
                // Without the lease's fence it could take the place of what came later.
                self.unsaved = (fence > 0).then_some((fence, stored));
            }
        }
    }

    /// Gives the lease back; for `pause` nobody else should ask. `unspent` says that the refresh
    /// token was not used after all.
    pub(in super::super) async fn release(&mut self, pause: Duration, unspent: bool) {
        let (Some(names), Some(_)) = (&self.names, self.lease.take()) else { return };
        let mut command = script(RELEASE, &[&names.entry, &names.lease]);
        command.arg(&self.owner).arg(millis(pause));
        command.arg(if unspent { "unspent" } else { "" });
        // If it cannot be given back it ends by itself.
        self.link.ask::<u8>(&command).await.ok();
    }

    /// Its counters.
    pub(in super::super) fn metrics(&self) -> &StoreMetrics {
        &self.condition.metrics
    }
}

/// `None` for a value that comes from the future: nobody can tell how old it is.
fn entry(stored: Stored, fence: u64, now_ms: u64, now: Moment) -> Option<Entry> {
    let Stored { grant, means, sent_ms } = stored;
    let age = now_ms.saturating_sub(sent_ms);
    let plausible = fence > 0 && sent_ms <= now_ms.saturating_add(CLOCK_SLACK_MS);
    plausible.then(|| Entry { grant, means, sent: now - Duration::from_millis(age), fence })
}

/// How long a value is kept: as long as its refresh token may be of use.
fn kept_for(grant: &Grant) -> Duration {
    let refresh = grant.refresh_token.as_ref().map(|_| grant.refresh_lifetime);
    let useful = match refresh {
        Some(lifetime) => lifetime.unwrap_or(LONGEST_KEPT),
        None => grant.lifetime.unwrap_or(LONGEST_KEPT),
    };
    useful.clamp(SHORTEST_KEPT, LONGEST_KEPT)
}

fn script(text: &str, names: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(names.len()).arg(names);
    command
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
