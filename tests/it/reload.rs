//! Requests that wait for a token while a reload replaces it: the program itself, told to read its
//! configuration anew.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::{Client, PATIENCE, Process, Upstream, eventually, file};

const IN_FLIGHT: &str = "bearerd_requests_in_flight";

/// A configuration with a token from `source` and a route `name` that injects it.
fn configuration(source: &str, name: &str, upstream: &Upstream) -> String {
    format!(
        "token_wait: 60s
tokens: {{api: {source}}}
routes: [{{name: {name}, upstream: '{}', match: {{path: /api/}}, inject: {{Authorization: 'Bearer ${{api}}'}}}}]",
        upstream.url(),
    )
}

/// A program of which a request waits for a token that never comes, and the request's client.
fn stuck(upstream: &Upstream) -> (Process, PathBuf, Client) {
    let source =
        format!("{{http: {{acquire: {{url: '{}/'}}, value: /t}}}}", Upstream::gone().url());
    let config = file("reload.yaml", &configuration(&source, "old", upstream));
    let process = Process::start(&config, &[]);
    let mut client = process.client();
    client.request(&[
        "OPTIONS /api/x HTTP/1.1",
        "Host: localhost",
        "Max-Forwards: 1",
        "Authorization: Bearer mine",
        "Connection: x-gone",
        "X-Gone: 1",
    ]);
    let waiters = || process.metric("bearerd_token_waiters") > 0.5;
    eventually(waiters, || process.log());
    (process, config, client)
}

fn change(process: &Process, config: &Path, yaml: &str) {
    std::fs::write(config, yaml).unwrap();
    process.hang_up();
}

#[test]
fn a_request_that_waits_for_a_replaced_token_gets_the_one_in_its_place() {
    let (former, present) = (Upstream::ok(), Upstream::ok());
    let (process, config, mut client) = stuck(&former);
    let secret = file("secret", "the-new-one");
    let source = format!("{{value: {{from: {{file: '{}'}}, every: 10s}}}}", secret.display());
    change(&process, &config, &configuration(&source, "new", &present));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{}", process.log());
    // It goes where the new configuration sends it, by the new one's rules, as it once came.
    assert_eq!(former.connections(), 0);
    let seen = present.request().head;
    assert_eq!(seen.start, "OPTIONS /api/x HTTP/1.1");
    assert_eq!(seen.one("authorization"), "Bearer the-new-one");
    assert_eq!(seen.one("max-forwards"), "0");
    assert!(!seen.has("x-gone"), "{seen:?}");
    eventually(|| process.metric(IN_FLIGHT).abs() < 0.5, || "a request is left over".to_owned());
    let answered = "bearerd_requests_total{code=\"200\",method=\"OPTIONS\",route=\"new\"}";
    assert!((process.metric(answered) - 1.0).abs() < 0.5);
}

#[test]
fn a_request_whose_token_or_route_is_gone_is_answered_at_once() {
    for (routes, expected) in [
        ("[{name: new, upstream: UPSTREAM, match: {path: /api/}}]", (200, "")),
        ("[{name: new, upstream: UPSTREAM, match: {path: /other/}}]", (404, "no-route")),
    ] {
        let upstream = Upstream::ok();
        let (process, config, mut client) = stuck(&upstream);
        let began = SystemTime::now();
        let routes = routes.replace("UPSTREAM", &format!("'{}'", upstream.url()));
        change(&process, &config, &format!("routes: {routes}"));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), expected, "{}", process.log());
        assert!(began.elapsed().unwrap() < PATIENCE + Duration::from_secs(5));
        assert!(upstream.requests().iter().all(|request| !request.head.has("authorization")));
        eventually(|| process.metric(IN_FLIGHT).abs() < 0.5, || "one is left over".to_owned());
    }
}
