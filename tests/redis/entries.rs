//! What stands in the store is believed only if it was sealed for the token by its key.

use bearerd::token::handle::Rejected;

use crate::fleet::{Fleet, shared};
use crate::server::Redis;
use crate::support::{Issuer, eventually, pass};

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_value_that_was_touched_is_as_good_as_none() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let config = shared(&issuer, &redis, "");
    let first = Fleet::start(1, &config);
    first.await_all("token-0");
    let entry = redis.entries().remove(0);
    // Garbage, and a fence beyond all.
    redis.ask(&["HSET", &entry, "data", "hunter2", "fence", "999999999"]);
    let second = Fleet::start(2, &config);
    second.await_all("token-1");
    assert_eq!(issuer.count(), 2, "one POST in its place");
    assert!(second.events("unreadable") >= 1.0);
    assert_eq!(second.events("published"), 1.0);
    // What they stored is good again.
    let third = Fleet::start(1, &config);
    third.await_all("token-1");
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn one_tokens_value_does_not_serve_as_anothers() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let config = shared(&issuer, &redis, "");
    let other = config.replace("client_id: me", "client_id: you");
    let first = Fleet::start(1, &config);
    first.await_all("token-0");
    let mine = redis.entries().remove(0);
    Fleet::start(1, &other).await_all("token-1");
    let theirs = redis.entries().into_iter().find(|name| *name != mine).expect("a second entry");
    redis.ask(&["COPY", &mine, &theirs, "REPLACE"]);
    let victim = Fleet::start(1, &other);
    victim.await_all("token-2");
    assert!(victim.events("unreadable") >= 1.0);
}

/// The number of a value is not sealed; when it was asked for is.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_value_of_the_past_does_not_come_back() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let fleet = Fleet::start(1, &shared(&issuer, &redis, ""));
    fleet.await_all("token-0");
    let entry = redis.entries().remove(0);
    redis.ask(&["COPY", &entry, "past"]);
    // The past begins where no answer of the store's can be so late.
    pass(2.5);
    assert_eq!(fleet.handles[0].reject(1), Rejected::Renewing);
    fleet.await_all("token-1");
    eventually("the new value in the store", || fleet.events("published") == 2.0);
    redis.ask(&["COPY", "past", &entry, "REPLACE"]);
    redis.ask(&["HSET", &entry, "fence", "1000", "last", "1000"]);
    let channel = entry.rsplit_once(':').expect("a mark").0;
    assert_eq!(redis.ask(&["PUBLISH", channel, "news"]), "1");
    pass(1.0);
    assert_eq!((fleet.using("token-1"), fleet.events("adopted")), (1, 0.0));
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn another_key_finds_nothing_and_shares_nothing() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(4.0));
    let config = shared(&issuer, &redis, "");
    let first = Fleet::start(2, &config);
    first.await_all("token-0");
    redis.dir.write("other", "fedcba9876543210fedcba9876543210");
    let second = Fleet::start(2, &config.replace("/key}", "/other}"));
    second.await_all("token-1");
    assert_eq!(issuer.count(), 2);
    // The ones go on beside the others.
    issuer.await_posts(6);
    pass(0.2);
    assert_eq!(first.events("unreadable") + second.events("unreadable"), 0.0);
    assert_eq!(first.events("alone") + second.events("alone"), 0.0);
}

/// Rotation: each replica follows the file, and nobody goes without.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_new_key_is_taken_up_at_the_next_use() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(4.0));
    let fleet = Fleet::start(5, &shared(&issuer, &redis, ""));
    fleet.await_all("token-0");
    let before = redis.entries();
    redis.dir.write("key", "fedcba9876543210fedcba9876543210");
    issuer.await_posts(4);
    eventually("one value for all", || fleet.using(&format!("token-{}", issuer.count() - 1)) == 5);
    assert!(issuer.count() <= 5, "{} POSTs", issuer.count());
    let after = redis.entries();
    assert!(after.iter().any(|name| !before.contains(name)), "{after:?}");
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn a_store_that_loses_everything_costs_one_post_at_most() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(6.0));
    let fleet = Fleet::start(20, &shared(&issuer, &redis, ""));
    fleet.await_all("token-0");
    redis.ask(&["FLUSHALL"]);
    pass(1.0);
    assert_eq!(issuer.count(), 1, "the values in use are as good as before");
    for number in 1..4 {
        issuer.await_posts(number + 1);
        eventually("one value for all", || {
            fleet.using(&format!("token-{}", issuer.count() - 1)) == 20
        });
        redis.ask(&["FLUSHALL"]);
    }
    assert!(issuer.count() <= 5, "{} POSTs in four lifetimes", issuer.count());
}

/// Whoever reads the store learns nothing.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn nothing_in_the_store_can_be_read_without_the_key() {
    let (redis, issuer) = (Redis::start(), Issuer::giving(600.0));
    let fleet = Fleet::start(1, &shared(&issuer, &redis, ""));
    fleet.await_all("token-0");
    for name in redis.entries() {
        let all = format!("{name}\n{}", redis.ask(&["--raw", "HGETALL", &name]));
        for secret in ["token-0", "client-secret", "0123456789abcdef"] {
            assert!(!all.contains(secret), "{secret} in {name}");
        }
        let left: u64 = redis.ask(&["PTTL", &name]).parse().expect("it ends by itself");
        assert!(left <= 2 * 24 * 3_600_000);
    }
}
