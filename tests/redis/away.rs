//! Redis, the issuer or both are away, under load: no request fails before the token's guard.

use crate::fleet::shared;
use crate::server::Redis;
use crate::support::{Issuer, Load, Relay, Sidecar, Upstream, eventually, pass, secs, within};

const LIFETIME: f64 = 10.0;

/// Three programs under two hundred requests a second in all.
struct Scene {
    redis: Redis,
    issuer: Issuer,
    relay: Relay,
    upstream: Upstream,
    sidecars: Vec<Sidecar>,
    load: Vec<Load>,
}

impl Scene {
    fn start() -> Self {
        let (redis, issuer, upstream) = (Redis::start(), Issuer::giving(LIFETIME), Upstream::ok());
        let relay = Relay::before(issuer.address);
        let config = shared(&issuer, &redis, "")
            .replace("http://127.0.0.1:1\"", &format!("{}\"", upstream.url()))
            .replace(&issuer.url(), &relay.url());
        let sidecars: Vec<Sidecar> = (0..3).map(|_| Sidecar::start(&config)).collect();
        for sidecar in &sidecars {
            sidecar.await_ready();
        }
        assert_eq!(issuer.count(), 1);
        let load = sidecars.iter().map(|sidecar| sidecar.load(67)).collect();
        Self { redis, issuer, relay, upstream, sidecars, load }
    }

    fn up(&self) -> f64 {
        self.sidecars.iter().map(|sidecar| sidecar.metric("bearerd_token_store_up")).sum()
    }

    /// Ends the load; nothing may have failed, and nothing was sent past its guard.
    fn end(self) -> usize {
        for load in self.load {
            load.end_without_errors();
        }
        self.upstream.assert_none_expired(&self.issuer, LIFETIME * 0.9);
        self.issuer.count()
    }
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn redis_killed_and_started_again_empty() {
    let scene = Scene::start();
    scene.redis.kill();
    pass(1.5 * LIFETIME);
    assert_eq!(scene.up(), 0.0);
    scene.redis.up();
    within(secs(16.0), "the store", || scene.up() == 3.0);
    let before = scene.issuer.count();
    pass(1.5 * LIFETIME);
    let shared = scene.issuer.count() - before;
    assert!(shared <= 4, "{shared} POSTs in one and a half lifetimes with the store");
    scene.end();
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn redis_stopped_and_continued() {
    let scene = Scene::start();
    scene.redis.signal("STOP");
    pass(1.5 * LIFETIME);
    assert_eq!(scene.up(), 0.0);
    scene.redis.signal("CONT");
    within(secs(16.0), "the store", || scene.up() == 3.0);
    pass(LIFETIME);
    scene.end();
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn the_issuer_away_up_to_the_guard() {
    let scene = Scene::start();
    let start = scene.issuer.posts()[0].at;
    crate::support::until(start, 5.0);
    scene.relay.down();
    crate::support::until(start, 8.4);
    scene.relay.up();
    scene.issuer.await_posts(2);
    pass(0.5);
    scene.end();
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn both_away_up_to_the_guard() {
    let scene = Scene::start();
    let start = scene.issuer.posts()[0].at;
    crate::support::until(start, 5.0);
    scene.relay.down();
    scene.redis.kill();
    crate::support::until(start, 8.4);
    scene.relay.up();
    scene.issuer.await_posts(4);
    scene.redis.up();
    within(secs(16.0), "the store", || scene.up() == 3.0);
    scene.end();
}

/// It answers, but takes no writes.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn redis_out_of_memory_or_read_only() {
    for (break_it, mend_it) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""]),
    ] {
        let words = |words: [&'static str; 4]| {
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>()
        };
        let scene = Scene::start();
        scene.redis.ask(&words(break_it));
        scene.issuer.await_posts(4);
        eventually("an alarm", || scene.up() == 0.0);
        scene.redis.ask(&words(mend_it));
        within(secs(32.0), "the store", || scene.up() == 3.0);
        scene.end();
    }
}

/// A start without Redis is a start.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn redis_away_at_the_start() {
    let (redis, issuer, upstream) = (Redis::start(), Issuer::giving(600.0), Upstream::ok());
    let config = shared(&issuer, &redis, "")
        .replace("http://127.0.0.1:1\"", &format!("{}\"", upstream.url()));
    redis.kill();
    let sidecar = Sidecar::start(&config);
    let took = within(secs(1.5), "readiness", || sidecar.is_ready());
    eprintln!("ready {took:?} after the start");
    assert_eq!(sidecar.get("/").status, 200);
    pass(3.0);
    let log = sidecar.log();
    assert_eq!(log.matches("going on alone").count(), 1, "told once: {log}");
}
