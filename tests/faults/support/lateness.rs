//! How late this machine lets threads run, so that a loaded one fails no upper bound that the
//! program keeps.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bearerd::vocab::Moment;

const NAP: Duration = Duration::from_millis(5);

static WORST: AtomicU64 = AtomicU64::new(0);

/// Begins to measure, once a process.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let began = Moment::now();
                std::thread::sleep(NAP);
                let late = Moment::now().since(began).saturating_sub(NAP);
                WORST.fetch_max(u64::try_from(late.as_micros()).unwrap(), Ordering::Relaxed);
            }
        });
    });
}

/// Seconds by which three threads that wait for each other can be late (the program, its peer,
/// the test). What the peer notes late makes the time to its next note look shorter.
pub fn lateness() -> f64 {
    3.0 * Duration::from_micros(WORST.load(Ordering::Relaxed)).as_secs_f64()
}

/// Seconds that are added to upper bounds.
pub fn tolerance() -> f64 {
    0.25 + lateness()
}
