//! The rows of arithmetic at their full scale, against the pure rules and a clock that is told
//! (F1, F8–F12, F20, F28–F30, F34–F40, F55, F56).
//!
//! A [`Replica`] does what a token's task does with [`Schedule`], and nothing else.

use std::time::Duration;

use bearerd::token::failure::{Failure, Reason};
use bearerd::token::schedule::{Change, FLOOR, Renew, Schedule};
use bearerd::vocab::Moment;

const NOBODY: Duration = Duration::ZERO;

/// An issuer has so much rest between two attempts, come what may.
const REST: Duration = Duration::from_millis(500);

fn at(seconds: f64) -> Moment {
    Moment::from_origin(Duration::from_secs(1_000_000) + Duration::from_secs_f64(seconds))
}

fn seconds(moment: Moment) -> f64 {
    moment.since(at(0.0)).as_secs_f64()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a simulated issuer does at a moment: how long it takes, and what comes of it.
type Issuer<'i> = dyn FnMut(usize, Moment) -> (Duration, Result<(Duration, bool), Failure>) + 'i;

struct Replica {
    schedule: Schedule,
    usable_until: Option<Moment>,
    next: Moment,
    posts: Vec<f64>,
    obtained: Vec<f64>,
    /// Seconds without a usable token, after the first one.
    gap: f64,
}

impl Replica {
    fn new(start: f64) -> Self {
        Self {
            schedule: Schedule::new(Renew::default()),
            usable_until: None,
            next: at(start),
            posts: Vec::new(),
            obtained: Vec::new(),
            gap: 0.0,
        }
    }

    /// One attempt at its time.
    fn step(&mut self, issuer: &mut Issuer<'_>) {
        let sent = self.next;
        let (took, outcome) = issuer(self.posts.len(), sent);
        self.posts.push(seconds(sent));
        let now = sent + took;
        let dice = fastrand::f64();
        self.next = match outcome {
            Ok((lifetime, same)) => {
                let change = if same { Change::SameValue } else { Change::New };
                let span = self.schedule.span(sent, Some(lifetime));
                if let Some(until) = self.usable_until {
                    self.gap += until.until(now).as_secs_f64();
                }
                self.usable_until = self.schedule.usable_until(span);
                self.obtained.push(seconds(now));
                self.schedule.succeeded(span, change, now, dice).expect("it expires")
            }
            Err(failure) => {
                let usable = self.usable_until.filter(|until| now < *until).map(Some);
                self.schedule.failed(&failure, usable, now, dice)
            }
        };
        self.next = self.next.max(now + FLOOR);
        assert!(self.next >= now + REST, "{:?}", self.posts);
    }

    /// Attempts up to a time.
    fn run(&mut self, until: f64, issuer: &mut Issuer<'_>) -> &mut Self {
        while self.next < at(until) {
            self.step(issuer);
        }
        self
    }

    fn gaps(&self) -> Vec<f64> {
        self.posts.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

fn failure(reason: Reason) -> Failure {
    Failure::new(reason, "")
}

fn later(asked: u64) -> Failure {
    Failure { retry_after: Some(secs(asked)), ..failure(Reason::RateLimited) }
}

/// Every row is drawn often: the dice are real.
fn often(row: impl Fn()) {
    for _ in 0..200 {
        row();
    }
}

#[test]
fn twenty_second_tokens_for_two_minutes_take_seven_to_ten_posts_f1() {
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(120.0, &mut |_, _| (NOBODY, Ok((secs(20), false))));
        assert!((7..=10).contains(&replica.posts.len()), "{:?}", replica.posts);
        assert!(replica.gaps().iter().all(|gap| (14.0..=16.0).contains(gap)));
        assert!(replica.gap == 0.0);
    });
}

#[test]
fn three_server_errors_and_a_success_are_four_posts_f8() {
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(100.0, &mut |number, _| match number {
            0..3 => (NOBODY, Err(failure(Reason::ServerError))),
            _ => (NOBODY, Ok((secs(600), false))),
        });
        let gaps = replica.gaps();
        assert_eq!(replica.posts.len(), 4);
        for (gap, (low, high)) in gaps.iter().zip([(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]) {
            assert!((low..=high).contains(gap), "{gaps:?}");
        }
    });
}

#[test]
fn retry_after_is_kept_and_clamped_while_a_token_is_valid_and_when_none_is_f9_f10_f11() {
    for (asked, low, high) in [(7, 7.0, 8.0), (5, 5.0, 6.5), (99_999, 300.0, 301.0), (0, 1.0, 2.0)]
    {
        for begins_with_a_token in [false, true] {
            often(|| {
                let mut replica = Replica::new(0.0);
                let first = usize::from(begins_with_a_token);
                replica.run(900.0, &mut |number, _| match number {
                    n if n == first => (NOBODY, Err(later(asked))),
                    _ => (NOBODY, Ok((secs(600), false))),
                });
                let gap = replica.gaps()[first];
                assert!((low..=high).contains(&gap), "{asked}: {gap}");
            });
        }
    }
    // F11: what is no time is a failure without one; its pause is the default.
    let mut replica = Replica::new(0.0);
    replica.step(&mut |_, _| (NOBODY, Err(failure(Reason::ServerError))));
    assert!((0.5..=1.0).contains(&seconds(replica.next)));
}

#[test]
fn a_refused_client_is_tried_twelve_times_in_ten_minutes_at_most_f12() {
    for reason in [
        Reason::InvalidClient,
        Reason::UnauthorizedClient,
        Reason::UnsupportedGrantType,
        Reason::InvalidScope,
        Reason::InvalidRequest,
        Reason::InvalidGrant,
    ] {
        often(|| {
            let mut replica = Replica::new(0.0);
            replica.run(600.0, &mut |_, _| (NOBODY, Err(failure(reason))));
            assert!((3..=12).contains(&replica.posts.len()), "{:?}", replica.posts);
            let gaps = replica.gaps();
            assert!(gaps.iter().all(|gap| (60.0..=330.0).contains(gap)), "{gaps:?}");
        });
    }
}

/// F20: a lifetime that nobody said is five minutes; what the answer says is read elsewhere.
#[test]
fn an_assumed_lifetime_is_renewed_like_any_other_f20() {
    let assumed = Duration::from(Renew::default().assume);
    assert_eq!(assumed, secs(300));
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(3000.0, &mut |_, _| (NOBODY, Ok((assumed, false))));
        assert!(replica.gaps().iter().all(|gap| (210.0..=240.0).contains(gap)));
    });
}

#[test]
fn the_same_token_until_it_expires_is_asked_for_a_few_times_f28() {
    for (lifetime, most) in [(20.0, 4), (3600.0, 9)] {
        often(|| {
            let mut replica = Replica::new(0.0);
            replica.run(lifetime, &mut |number, now| {
                let left = Duration::from_secs_f64(lifetime - seconds(now));
                (NOBODY, Ok((left, number > 0)))
            });
            let renewals = replica.posts.len() - 1;
            assert!((1..=most).contains(&renewals), "{lifetime}: {:?}", replica.posts);
        });
    }
}

#[test]
fn lifetimes_of_a_few_seconds_are_two_posts_a_second_at_most_f29() {
    for millis in [1, 50, 500, 1000, 2000, 5000] {
        let mut replica = Replica::new(0.0);
        let lifetime = Duration::from_millis(millis);
        replica.run(600.0, &mut |_, _| (NOBODY, Ok((lifetime, false))));
        assert!(replica.posts.len() <= 1200, "{millis}: {}", replica.posts.len());
        assert!(replica.gaps().iter().all(|gap| *gap >= 0.4999));
    }
}

#[test]
fn ten_years_and_more_are_renewed_within_a_day_f30() {
    for years in [10, 1_000, u64::MAX / 40_000_000] {
        let mut replica = Replica::new(0.0);
        let lifetime = Duration::from_secs(years * 31_536_000);
        replica.run(10.0 * 86_400.0, &mut |_, _| (NOBODY, Ok((lifetime, false))));
        assert!(replica.gaps().iter().all(|gap| *gap < 86_400.0 && *gap > 43_200.0));
    }
}

/// F55 for its ten minutes.
#[test]
fn a_refusal_of_every_second_post_never_leaves_it_without_a_token_f55() {
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(600.0, &mut |number, _| match number % 2 {
            0 => (NOBODY, Ok((secs(20), false))),
            _ => (NOBODY, Err(failure(Reason::RateLimited))),
        });
        assert!(replica.gap == 0.0, "{} s without", replica.gap);
    });
}

/// F56.
#[test]
fn answers_that_take_nine_seconds_are_asked_for_by_37_seconds_f56() {
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(3600.0, &mut |_, _| (secs(9), Ok((secs(60), false))));
        assert!(replica.gap == 0.0, "{} s without", replica.gap);
        assert!(replica.gaps().iter().all(|gap| *gap <= 37.001), "{:?}", replica.gaps());
    });
}

/// F34–F38 as far as they are arithmetic: a renewal that was forced early does not disturb the
/// plan, whether the issuer gives a new value or the same one.
#[test]
fn a_forced_renewal_is_followed_by_a_planned_one_f34_f35() {
    for same in [false, true] {
        often(|| {
            let mut replica = Replica::new(0.0);
            replica.step(&mut |_, _| (NOBODY, Ok((secs(600), false))));
            replica.next = at(3.0);
            replica.step(&mut |_, _| (NOBODY, Ok((secs(597 + 3 * u64::from(!same)), same))));
            let next = seconds(replica.next) - 3.0;
            assert!((60.0..=480.0).contains(&next), "{next}");
        });
    }
}

/// The most that fall in one second, wherever it begins.
fn peak(times: &[f64]) -> usize {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let within = |from: f64| times.iter().filter(|t| (from..from + 1.0).contains(*t)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

const FLEET: usize = 100;

fn fleet() -> Vec<Replica> {
    (0..FLEET).map(|_| Replica::new(fastrand::f64() * 0.1)).collect()
}

/// F39.
#[test]
fn a_hundred_replicas_that_start_together_drift_apart_f39() {
    for _ in 0..20 {
        let mut fleet = fleet();
        for replica in &mut fleet {
            replica.run(5.0 * 300.0, &mut |_, _| (NOBODY, Ok((secs(300), false))));
        }
        let second: Vec<f64> = fleet.iter().map(|replica| replica.posts[1]).collect();
        let spread = second.iter().fold(0.0, |a: f64, b| a.max(*b))
            - second.iter().fold(f64::MAX, |a, b| a.min(*b));
        assert!(spread >= 0.08 * 300.0, "{spread} s");
        let later: Vec<f64> =
            fleet.iter().flat_map(|replica| replica.posts[1..].iter().copied()).collect();
        assert!(peak(&later) <= 15, "{} in a second", peak(&later));
    }
}

/// F40: the issuer goes away for all and comes back, at any time after their tokens are over.
#[test]
fn a_hundred_replicas_do_not_trample_an_issuer_that_comes_back_f40() {
    for back in [1000.0, 1003.3, 1010.0, 1100.0, 4000.0] {
        let mut fleet = fleet();
        for replica in &mut fleet {
            replica.run(back + 200.0, &mut |_, now| match seconds(now) {
                t if t < 600.0 || t >= back => (NOBODY, Ok((secs(300), false))),
                _ => (NOBODY, Err(failure(Reason::Connect))),
            });
        }
        let posts: Vec<f64> = fleet
            .iter()
            .flat_map(|replica| replica.posts.iter().copied())
            .filter(|t| (back..back + 30.0).contains(t))
            .collect();
        assert!(peak(&posts) <= 30, "{back}: {} in a second", peak(&posts));
        for replica in &fleet {
            let served = replica.obtained.iter().find(|t| **t >= back).expect("it recovered");
            assert!(*served <= back + 16.0, "{served}");
        }
    }
}

/// F7 for its ten minutes.
#[test]
fn ten_minutes_without_issuer_and_token_are_forty_to_ninety_tries_f7() {
    often(|| {
        let mut replica = Replica::new(0.0);
        replica.run(600.0, &mut |_, _| (NOBODY, Err(failure(Reason::Connect))));
        assert!((40..=90).contains(&replica.posts.len()), "{}", replica.posts.len());
        assert!(replica.gaps()[5..].iter().all(|gap| (7.5..=15.0).contains(gap)));
    });
}

/// F4 and F5 at their scale.
#[test]
fn an_outage_of_seven_seconds_is_bridged_and_one_of_fifty_recovered_from_f4_f5() {
    often(|| {
        let mut replica = Replica::new(0.0);
        let down = |from: f64, to: f64| {
            move |_: usize, now: Moment| match seconds(now) {
                t if t >= from && t < to => (NOBODY, Err(failure(Reason::Connect))),
                _ => (NOBODY, Ok((secs(20), false))),
            }
        };
        replica.run(40.0, &mut down(10.0, 17.0));
        assert!(replica.gap == 0.0);
        assert!(replica.obtained[1] <= 18.0, "{:?}", replica.obtained);
        let mut replica = Replica::new(0.0);
        replica.run(120.0, &mut down(10.0, 60.0));
        assert!(replica.obtained[1] <= 76.0, "{:?}", replica.obtained);
    });
}

/// F32 and F33: however far the clock jumps, the next attempt is due at once and only once.
#[test]
fn a_jump_of_the_clock_makes_one_attempt_f32_f33() {
    let mut replica = Replica::new(0.0);
    replica.step(&mut |_, _| (NOBODY, Ok((secs(600), false))));
    let resumed = at(3600.0);
    assert!(replica.next < resumed, "due");
    assert!(replica.usable_until.is_some_and(|until| until < resumed), "not usable");
    replica.next = resumed;
    replica.step(&mut |_, _| (NOBODY, Ok((secs(600), false))));
    assert!(replica.next > resumed + secs(419), "and the next one is planned as ever");
}
