//! The doubles: an issuer that is a script, a relay that breaks connections, an upstream that
//! remembers credentials, clients, and the program itself.

mod client;
mod issuer;
mod lateness;
mod relay;
mod sidecar;
mod upstream;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bearerd::vocab::Moment;

pub use client::{Answer, Client, Load};
pub use issuer::{Issuer, Post, Reply};
pub use lateness::{lateness, tolerance};
pub use relay::{Fault, Relay};
pub use sidecar::{Launch, Sidecar, simple};
pub use upstream::{Upstream, reply};

/// No test waits longer for anything that should be there soon.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    within(PATIENCE, what, holds);
}

/// Waits until `holds` and says how long that took; fails after `longest`.
pub fn within(longest: Duration, what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Moment::now();
    while !holds() {
        let waited = Moment::now().since(start);
        assert!(waited < longest + secs(tolerance()), "{what}: not within {longest:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Moment::now().since(start)
}

/// Lets time pass; for rows that say what must not happen meanwhile.
pub fn pass(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// Lets time pass up to `seconds` after `start`.
pub fn until(start: Moment, seconds: f64) {
    let at = start + Duration::from_secs_f64(seconds);
    std::thread::sleep(Moment::now().until(at));
}

pub fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A directory of its own, gone with the value.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let path =
            std::env::temp_dir().join(format!("bearerd-faults-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file whole: temporary name, then rename.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, temporary) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        std::fs::write(&temporary, content).unwrap();
        std::fs::rename(&temporary, &path).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
