//! Refresh tokens that serve once: no two programs ever send the same one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::fleet::Fleet;
use crate::server::Redis;
use crate::support::{Issuer, Reply, pass, secs, within};

/// An issuer that ends everything when a refresh token comes a second time.
fn strict(lifetime: f64, delay: f64) -> Issuer {
    let spent = Arc::new(Mutex::new(BTreeSet::new()));
    Issuer::run(move |post| {
        if let Some(token) = post.form.get("refresh_token")
            && !spent.lock().unwrap().insert(token.clone())
        {
            return Reply::error(400, "invalid_grant");
        }
        let number = post.number;
        Reply::pair(&format!("token-{number}"), &format!("refresh-{number}"), lifetime)
            .after(secs(delay))
    })
}

fn config(issuer: &Issuer, redis: &Redis, grant: &str) -> String {
    redis.dir.write("password", "hunter2");
    redis.dir.write("seed", "seed");
    format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{}\", client_id: me, {}, {}}}}}}}\n\
         routes: [{{upstream: \"http://127.0.0.1:1\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        issuer.url(),
        grant.replace("DIR", &redis.dir.path().to_string_lossy()),
        redis.state()
    )
}

const PASSWORD: &str = "grant: password, username: bob, password: {file: DIR/password}";
const SEEDED: &str = "grant: refresh_token, refresh_token: {file: DIR/seed}";

/// The refresh tokens that were sent, in order.
fn sent(issuer: &Issuer) -> Vec<String> {
    let posts = issuer.posts();
    posts.iter().filter_map(|post| post.form.get("refresh_token").cloned()).collect()
}

fn assert_none_twice(issuer: &Issuer) {
    let sent = sent(issuer);
    let once: BTreeSet<&String> = sent.iter().collect();
    assert_eq!(once.len(), sent.len(), "{sent:?}");
}

/// Each comes back to the store in its own time, within fifteen seconds.
fn await_one_value(fleet: &Fleet, issuer: &Issuer) {
    within(secs(30.0), "one value for all", || {
        fleet.using(&format!("token-{}", issuer.count() - 1)) == fleet.handles.len()
    });
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn forty_replicas_refresh_one_session() {
    let (redis, issuer) = (Redis::start(), strict(5.0, 0.2));
    let fleet = Fleet::start(40, &config(&issuer, &redis, PASSWORD));
    issuer.await_posts(5);
    pass(0.5);
    assert_none_twice(&issuer);
    let logins = issuer.count() - sent(&issuer).len();
    assert_eq!(logins, 1, "one session for all");
    assert_eq!(fleet.metric("bearerd_token_refresh_total{reason=\"invalid_grant\""), 0.0);
}

/// Alone, each one logs in rather than use what another one may have used.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn without_the_store_nobody_sends_a_shared_refresh_token() {
    let (redis, issuer) = (Redis::start(), strict(5.0, 0.0));
    let fleet = Fleet::start(10, &config(&issuer, &redis, PASSWORD));
    fleet.await_all("token-0");
    issuer.await_posts(2);
    pass(0.5);
    redis.kill();
    pass(9.0);
    assert_none_twice(&issuer);
    assert!(fleet.values().iter().all(Option::is_some), "{:?}", fleet.values());
    redis.up();
    await_one_value(&fleet, &issuer);
    assert_none_twice(&issuer);
}

/// There is no other grant: while the store is away the last value serves to its end, and then
/// nobody risks the session.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn the_only_refresh_token_waits_for_the_store() {
    let (redis, issuer) = (Redis::start(), strict(5.0, 0.0));
    // What it saved comes back with it.
    redis.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    redis.ask(&["CONFIG", "SET", "appendfsync", "always"]);
    let fleet = Fleet::start(10, &config(&issuer, &redis, SEEDED));
    fleet.await_all("token-0");
    issuer.await_posts(2);
    pass(0.5);
    redis.signal("STOP");
    let posts = issuer.count();
    pass(8.0);
    assert!(issuer.count() <= posts + 1, "at most one was under way");
    redis.signal("CONT");
    issuer.await_posts(posts + 2);
    await_one_value(&fleet, &issuer);
    pass(6.0);
    assert_none_twice(&issuer);
}
