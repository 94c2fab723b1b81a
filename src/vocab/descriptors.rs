//! The last file descriptors of the process, kept back so that a flood of connections can stop
//! neither the renewal of tokens nor the probes.

use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// Kept back at most; what a few token requests need at one time, name resolution included.
const MOST: u64 = 32;

/// Whether `descriptor` is one of the last ones that the process may have. The kernel always gives
/// the lowest free number, so a high one means that the lower ones are all in use.
#[must_use]
pub fn is_reserved(descriptor: &impl AsRawFd) -> bool {
    static FIRST: OnceLock<u64> = OnceLock::new();
    let first = *FIRST.get_or_init(|| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        first_reserved(limit.unwrap_or(u64::MAX))
    });
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number >= first)
}

/// The number from which on descriptors are kept back.
const fn first_reserved(limit: u64) -> u64 {
    let quarter = limit / 4;
    limit - if quarter < MOST { quarter } else { MOST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_back_and_no_more_than_32() {
        assert_eq!(first_reserved(64), 48);
        assert_eq!(first_reserved(1024), 992);
        assert_eq!(first_reserved(u64::MAX), u64::MAX - 32);
    }
}
