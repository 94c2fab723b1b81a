//! The two clocks: [`Moment`] decides, [`Wall`] is only shown.

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point on a clock that nobody sets and that goes on while the machine is suspended.
///
/// `std::time::Instant` stands still in suspend on Linux, so a laptop would wake up with a token
/// that looks fresh and is not. This is the only file that reads such a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        // Linux: CLOCK_BOOTTIME. macOS: CLOCK_MONOTONIC counts suspend there.
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let spec = rustix::time::clock_gettime(id);
        Self(Duration::new(
            u64::try_from(spec.tv_sec).unwrap_or(0),
            u32::try_from(spec.tv_nsec).unwrap_or(0),
        ))
    }

    /// A moment `since_boot` after an arbitrary origin; for simulated time.
    #[must_use]
    pub const fn from_origin(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Time from `earlier` to this, zero if it is the other way round.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time from this to `later`, zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }

    /// The same moment as seconds of Unix time, as the wall clock now stands; for people and
    /// metrics only.
    #[must_use]
    pub fn to_wall(self) -> Wall {
        let now = Self::now();
        let wall = Wall::now();
        if self >= now {
            Wall(wall.0 + self.since(now).as_secs_f64())
        } else {
            Wall(wall.0 - now.since(self).as_secs_f64())
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// Unix time in seconds. It can jump, so nothing expires by it; it dates what leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Wall(pub f64);

impl Wall {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_secs_f64())
    }

    /// Whole seconds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "seconds of Unix time fit an i64")]
    pub const fn secs(self) -> i64 {
        self.0 as i64
    }

    /// RFC 3339, to the second, in UTC.
    #[must_use]
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.secs())
            .map_or_else(|_| "never".to_owned(), |t| t.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_underflow() {
        let now = Moment::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(later.since(now), Duration::from_secs(5));
        assert_eq!(now.since(later), Duration::ZERO);
        assert_eq!(
            Moment::from_origin(Duration::ZERO) - Duration::from_secs(1),
            Moment::from_origin(Duration::ZERO)
        );
    }
}
