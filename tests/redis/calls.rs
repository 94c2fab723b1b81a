//! How many calls sharing saves.

use bearerd::token::handle::Rejected;

use crate::fleet::{FLEET, Fleet, shared};
use crate::server::Redis;
use crate::support::{Issuer, Reply, Sidecar, Upstream, eventually, secs, within};

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_hundred_replicas_make_two_posts_a_lifetime_at_most_and_adopt_within_a_second() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(10.0));
    let fleet = Fleet::start(FLEET, &shared(&issuer, &redis, ""));
    for number in 0..5 {
        issuer.await_posts(number + 1);
        let newest = || format!("token-{}", issuer.count() - 1);
        let took = within(secs(1.0), "the others", || fleet.using(&newest()) == FLEET);
        eprintln!("POST {number}: in use by all {FLEET} after {took:?}");
    }
    let posts = issuer.count();
    eprintln!("{posts} POSTs in five lifetimes, {:?} s apart", issuer.gaps());
    assert!((5..=10).contains(&posts), "{posts} POSTs in five lifetimes");
    assert_eq!(fleet.events("alone"), 0.0);
    assert_eq!(fleet.events("unreadable"), 0.0);
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_revoked_token_is_renewed_once_for_all() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let fleet = Fleet::start(FLEET, &shared(&issuer, &redis, ""));
    fleet.await_all("token-0");
    for handle in &fleet.handles {
        let used = handle.current().unwrap().generation;
        assert_eq!(handle.reject(used), Rejected::Renewing);
    }
    fleet.await_all("token-1");
    assert_eq!(issuer.count(), 2, "one POST for the first value, one for the second");
    // Who hears of it late asks nobody.
    for handle in &fleet.handles {
        assert_eq!(handle.reject(1), Rejected::Stale);
    }
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_token_that_is_there_costs_a_late_comer_no_post() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let config = shared(&issuer, &redis, "");
    let first = Fleet::start(1, &config);
    first.await_all("token-0");
    let expires = first.handles[0].current().unwrap().expires.unwrap();
    drop(first);
    crate::support::pass(1.0);
    let began = bearerd::vocab::Moment::now();
    let second = Fleet::start(3, &config);
    second.await_all("token-0");
    let took = bearerd::vocab::Moment::now().since(began);
    assert_eq!(issuer.count(), 1);
    assert_eq!(second.handles[0].report().last_means, "store");
    // Its age came with it, in whole milliseconds and counted from before the question: what the
    // answer took makes it older, never younger.
    let taken_over = second.handles[0].current().unwrap().expires.unwrap();
    assert!(
        taken_over <= expires + secs(0.002) && expires < taken_over + secs(0.5) + took,
        "{taken_over:?} instead of {expires:?}, after {took:?}"
    );
}

/// The first one dies while the issuer thinks; the lease that it held ends by itself.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn the_death_of_the_one_that_asks_costs_a_moment() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let issuer = Issuer::run(|post| match post.number {
        0 => Reply::Stall(secs(60.0)),
        n => Reply::token(&format!("token-{n}"), 600.0),
    });
    let config = shared(&issuer, &redis, "").replace("http://127.0.0.1:1", &upstream.url());
    let first = Sidecar::start(&config);
    issuer.await_posts(1);
    let second = Sidecar::start(&config);
    crate::support::pass(1.0);
    assert_eq!(issuer.count(), 1, "the first one is at work");
    // SIGKILL.
    drop(first);
    let took = within(secs(3.5), "another one's turn", || issuer.count() == 2);
    eprintln!("taken over {took:?} after the death");
    eventually("readiness", || second.is_ready());
}

/// The same configuration, and yet another client.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn tokens_of_different_definitions_or_credentials_are_never_shared() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let config = shared(&issuer, &redis, "");
    let first = Fleet::start(1, &config);
    first.await_all("token-0");
    let other_scope =
        Fleet::start(1, &config.replace("client_id: me", "client_id: me, scopes: [a]"));
    other_scope.await_all("token-1");
    let other_user = Fleet::start(1, &config.replace("client_id: me", "client_id: you"));
    other_user.await_all("token-2");
    // The file's content changes under the same name.
    redis.dir.write("secret", "another secret");
    let other_content = Fleet::start(1, &config);
    other_content.await_all("token-3");
    assert_eq!(redis.entries().len(), 4);
}

/// What the upstream sees of a replica that is told to stop: nothing is withdrawn, and the issuer
/// hears nothing.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn the_end_of_one_replica_leaves_the_token_to_the_others() {
    let (redis, upstream, issuer) = (Redis::start(), Upstream::ok(), Issuer::giving(600.0));
    let revoke = ", revoke: {url: revoke, on_shutdown: false, after_replacement: 1h}";
    let config = shared(&issuer, &redis, revoke).replace("http://127.0.0.1:1", &upstream.url());
    let mut sidecars = [Sidecar::start(&config), Sidecar::start(&config)];
    for sidecar in &sidecars {
        sidecar.await_ready();
    }
    sidecars[0].signal("TERM");
    assert!(sidecars[0].ended(secs(6.0)).success());
    assert_eq!(issuer.count(), 1, "nothing was withdrawn");
    assert_eq!(sidecars[1].get("/").status, 200);
}
