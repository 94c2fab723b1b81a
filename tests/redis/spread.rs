//! How a hundred programs spread that share nothing, or nothing any more (F39, F40): real ones,
//! where `tests/faults/full_scale.rs` has simulated ones. Takes ten minutes, so `tests/redis/run`
//! leaves it out: `cargo test --test redis -- --ignored spread --nocapture`.

use crate::fleet::{FLEET, Fleet, shared};
use crate::server::Redis;
use crate::support::{Issuer, Relay, eventually, pass, secs, until, within};

fn config(url: &str, redis: &Redis) -> String {
    redis.dir.write("secret", "client-secret");
    let secret = redis.dir.path().join("secret");
    format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{url}\", client_id: me, \
         client_secret: {{file: {}}}}}}}}}\n\
         routes: [{{upstream: \"http://127.0.0.1:1\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        secret.display()
    )
}

/// Seconds after the first POST.
fn times(issuer: &Issuer) -> Vec<f64> {
    let posts = issuer.posts();
    posts.iter().map(|post| post.at.since(posts[0].at).as_secs_f64()).collect()
}

/// The most that fall in one second, wherever it begins.
fn peak(times: &[f64]) -> usize {
    let within = |from: f64| times.iter().filter(|t| (from..from + 1.0).contains(*t)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

fn spread(times: &[f64]) -> f64 {
    let (first, last) =
        (times.iter().copied().reduce(f64::min), times.iter().copied().reduce(f64::max));
    last.unwrap_or_default() - first.unwrap_or_default()
}

#[test]
#[ignore = "takes ten minutes"]
fn a_hundred_replicas_that_start_together_drift_apart_f39() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(300.0));
    let _fleet = Fleet::start(FLEET, &config(&issuer.url(), &redis));
    for cycle in 1..=2 {
        within(secs(260.0), "a cycle", || issuer.count() >= (cycle + 1) * FLEET);
        let all = times(&issuer);
        let renewals = &all[cycle * FLEET..];
        let (spread, peak) = (spread(renewals), peak(&all[FLEET..]));
        eprintln!("F39 cycle {cycle}: spread {spread:.1} s, peak {peak} a second");
        assert!(spread >= 0.08 * 300.0, "{spread} s");
        assert!(peak <= 15, "{peak} in a second");
    }
}

#[test]
#[ignore = "takes ten minutes"]
fn a_hundred_replicas_do_not_trample_an_issuer_that_comes_back_f40() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(30.0));
    let relay = Relay::before(issuer.address);
    let fleet = Fleet::start(FLEET, &config(&relay.url(), &redis));
    eventually("a token for each", || issuer.count() == FLEET);
    relay.down();
    pass(90.0);
    assert!(fleet.values().iter().all(Option::is_none));
    let before = issuer.count();
    relay.up();
    let took =
        within(secs(16.0), "a token for each", || fleet.values().iter().all(Option::is_some));
    pass(2.0);
    let peak = peak(&times(&issuer)[before..]);
    eprintln!("F40: all served after {took:?}, peak {peak} a second");
    assert!(peak <= 30, "{peak} in a second");
}

/// What sharing must not make worse: all values end at one moment, and the store is gone.
#[test]
#[ignore = "takes ten minutes"]
fn a_hundred_replicas_whose_values_end_together_without_store_and_issuer() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(60.0));
    let relay = Relay::before(issuer.address);
    let fleet =
        Fleet::start(FLEET, &shared(&issuer, &redis, "").replace(&issuer.url(), &relay.url()));
    fleet.await_all("token-0");
    let start = issuer.posts()[0].at;
    until(start, 40.0);
    redis.kill();
    relay.down();
    until(start, 53.0);
    relay.up();
    within(secs(16.0), "a token for each", || issuer.count() > FLEET);
    pass(2.0);
    let values = fleet.values();
    assert!(values.iter().all(Option::is_some), "nobody went without");
    let peak = peak(&times(&issuer)[1..]);
    eprintln!("one expiry, the issuer back 2 s before the guard: peak {peak} a second");
}
