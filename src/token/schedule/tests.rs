use super::super::failure::Reason;
use super::*;

const fn at(secs: u64) -> Moment {
    Moment::from_origin(Duration::from_secs(1_000_000 + secs))
}

fn schedule() -> Schedule {
    Schedule::new(Renew::default())
}

fn transient() -> Failure {
    Failure::new(Reason::ServerError, "500")
}

fn secs(from: Moment, to: Moment) -> f64 {
    to.since(from).as_secs_f64()
}

#[test]
fn renewal_is_drawn_from_70_to_80_percent() {
    for (dice, expected) in [(0.0, 420.0), (0.5, 450.0), (0.999_999, 480.0)] {
        let mut s = schedule();
        let span = s.span(at(0), Some(Duration::from_secs(600)));
        let next = s.succeeded(span, Change::New, at(0), dice).unwrap();
        assert!((secs(at(0), next) - expected).abs() < 0.01, "{dice}");
    }
}

#[test]
fn a_token_is_not_injected_in_its_last_five_seconds_or_tenth() {
    let s = schedule();
    for (lifetime, usable) in [(600, 595), (20, 18), (50, 45), (1, 1)] {
        let span = s.span(at(0), Some(Duration::from_secs(lifetime)));
        let until = s.usable_until(span).unwrap();
        assert!(until <= at(usable) && until < at(lifetime), "{lifetime}");
    }
}

#[test]
fn a_slow_issuer_is_asked_earlier() {
    // F56: lifetime 60 s, answers take 9 s: begin no later than 55 - 18 = 37 s.
    let mut s = schedule();
    let span = s.span(at(0), Some(Duration::from_secs(60)));
    let next = s.succeeded(span, Change::New, at(9), 0.9).unwrap();
    assert!(next <= at(37));
}

#[test]
fn pauses_double_from_one_second_with_jitter() {
    // F8: gaps 0.5-1, 1-2, 2-4 s.
    for dice in [0.0, 0.99] {
        let mut s = schedule();
        let mut now = at(0);
        for (low, high) in [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)] {
            let next = s.failed(&transient(), None, now, dice);
            assert!((low..=high).contains(&secs(now, next)));
            now = next;
        }
    }
}

#[test]
fn pauses_are_capped_at_15_s_without_and_60_s_with_a_token() {
    let mut s = schedule();
    let mut now = at(0);
    for _ in 0..20 {
        now = s.failed(&transient(), None, now, 0.99);
    }
    let next = s.failed(&transient(), None, now, 0.0);
    assert!((7.5..=15.0).contains(&secs(now, next)));
    let next = s.failed(&transient(), Some(Some(now + Duration::from_secs(9000))), now, 0.99);
    assert!((30.0..=60.0).contains(&secs(now, next)));
}

#[test]
fn tries_get_denser_as_the_guard_comes_nearer() {
    let mut s = schedule();
    for _ in 0..5 {
        s.failed(&transient(), None, at(0), 0.5);
    }
    let next = s.failed(&transient(), Some(Some(at(8))), at(0), 0.99);
    assert!(secs(at(0), next) <= 2.0);
    let next = s.failed(&transient(), Some(Some(at(1))), at(0), 0.0);
    assert!((secs(at(0), next) - 0.5).abs() < 0.001, "and never denser than the floor");
}

#[test]
fn retry_after_overrides_and_is_clamped() {
    for (asked, low, high) in [(7, 7.0, 8.0), (99_999, 300.0, 301.0), (0, 1.0, 2.0)] {
        let mut failure = transient();
        failure.retry_after = Some(Duration::from_secs(asked));
        let next = schedule().failed(&failure, Some(Some(at(3))), at(0), 0.99);
        assert!((low..=high).contains(&secs(at(0), next)), "{asked}");
    }
}

#[test]
fn a_fault_of_the_credential_is_tried_at_most_twelve_times_in_ten_minutes() {
    let mut s = schedule();
    let (mut now, mut tries) = (at(0), 1);
    loop {
        now = s.failed(&Failure::new(Reason::InvalidGrant, ""), None, now, 0.0);
        if now > at(600) {
            break;
        }
        tries += 1;
    }
    assert!(tries <= 12, "{tries}");
}

#[test]
fn the_same_token_again_does_not_spin() {
    // F28: the issuer hands out one token until it expires.
    for (lifetime, most) in [(20, 4), (3600, 9)] {
        for dice in [0.0, 0.99] {
            let mut s = schedule();
            let span = s.span(at(0), Some(Duration::from_secs(lifetime)));
            let mut now = s.succeeded(span, Change::New, at(0), dice).unwrap();
            let mut posts = 0;
            while now < at(lifetime) {
                posts += 1;
                let span = s.span(now, Some(now.until(at(lifetime))));
                now = s.succeeded(span, Change::SameValue, now, dice).unwrap();
            }
            assert!(posts <= most, "{lifetime}: {posts}");
        }
    }
}

#[test]
fn short_lifetimes_never_spin_and_long_ones_end_within_a_day() {
    // F29, F30.
    for millis in [1, 100, 1000, 2000, 5000] {
        let mut s = schedule();
        let span = s.span(at(0), Some(Duration::from_millis(millis)));
        let next = s.succeeded(span, Change::New, at(0), 0.0).unwrap();
        assert!(next >= at(0) + FLOOR, "{millis}");
    }
    let mut s = schedule();
    let span = s.span(at(0), Some(Duration::from_secs(10 * 365 * 86_400)));
    assert!(s.succeeded(span, Change::New, at(0), 0.99).unwrap() < at(86_400));
    assert_eq!(s.succeeded(s.span(at(0), None), Change::New, at(0), 0.0), None);
}
