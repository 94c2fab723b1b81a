//! What the process gives up at its start, so that less can leak from it and less is held.

/// No core dumps, and no other process of the same user may look into this one's memory (S26):
/// both hold every token.
#[cfg(target_os = "linux")]
pub(super) fn no_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(hidden) {
        tracing::warn!(%error, "cannot turn core dumps off; they would hold tokens");
    }
}

/// No core dumps: they hold every token (S26).
#[cfg(not(target_os = "linux"))]
pub(super) fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "cannot turn core dumps off; they would hold tokens");
    }
}

/// No huge pages: each would make two megabytes of memory resident for the sake of a few bytes,
/// more than all tokens and connections of a sidecar need.
#[cfg(target_os = "linux")]
pub(super) fn no_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "cannot turn huge pages off; more memory is used");
    }
}

/// Huge pages are Linux's.
#[cfg(not(target_os = "linux"))]
pub(super) fn no_huge_pages() {}
