//! Who is let in, and under which form (S2–S4, S9, S10, S19, S27, S38; P5, P6, P30, P34, P40).

use crate::support::{Sidecar, Upstream};

/// Refuses a request before anything reaches the upstream; returns status and slug.
fn refused(sidecar: &Sidecar, lines: &[&str]) -> (u16, String) {
    let answer = sidecar.client().request(lines).answer();
    assert_eq!(answer.head.one("cache-control"), "no-store");
    assert_eq!(answer.head.one("content-security-policy"), "default-src 'none'");
    assert_eq!(answer.head.one("content-type"), "application/problem+json");
    assert_eq!(answer.head.one("x-content-type-options"), "nosniff");
    assert!(answer.head.has("date"));
    assert!(!answer.head.has("access-control-allow-origin"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["type"], format!("urn:bearerd:problem:{}", answer.refusal()));
    (answer.status(), answer.refusal())
}

#[test]
fn refusals_reach_no_upstream() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let cases: &[(&[&str], u16, &str)] = &[
        (&["GET / HTTP/1.1"], 400, "bad-host"),
        (&["GET / HTTP/1.1", "Host: localhost", "Host: localhost"], 400, "bad-host"),
        (&["GET / HTTP/1.1", "Host: localhost", "Host: evil.example"], 400, "bad-host"),
        (&["GET / HTTP/1.1", "Host: "], 400, "bad-host"),
        (&["GET / HTTP/1.1", "Host: a b"], 400, "bad-host"),
        (&["GET / HTTP/1.1", "Host: evil.example"], 403, "host"),
        (&["POST / HTTP/1.1", "Host: localhost.evil.example"], 403, "host"),
        (&["GET / HTTP/1.1", "Host: 0.0.0.0"], 403, "host"),
        (&["GET / HTTP/1.0", "Host: evil.example"], 403, "host"),
        (&["GET http://evil.example/ HTTP/1.1", "Host: localhost"], 400, "bad-host"),
        (&["GET http://evil.example/ HTTP/1.1", "Host: evil.example"], 403, "host"),
        (&["GET https://localhost/ HTTP/1.1", "Host: localhost"], 400, "target"),
        (&["GET ftp://localhost/ HTTP/1.1", "Host: localhost"], 400, "target"),
        (&["GET localhost:80 HTTP/1.1", "Host: localhost"], 400, "target"),
        (&["GET * HTTP/1.1", "Host: localhost"], 400, "target"),
        (&["CONNECT localhost:443 HTTP/1.1", "Host: localhost:443"], 405, "method"),
        (&["CONNECT / HTTP/1.1", "Host: localhost"], 405, "method"),
        (&["TRACE / HTTP/1.1", "Host: localhost"], 405, "method"),
        (&["GET / HTTP/1.1", "Host: localhost", "Origin: null"], 403, "origin"),
        (&["GET / HTTP/1.1", "Host: localhost", "Origin: http://evil.example"], 403, "origin"),
        (&["GET / HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: cross-site"], 403, "origin"),
        (&["GET / HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: same-site"], 403, "origin"),
        (&["GET /a\\b HTTP/1.1", "Host: localhost"], 400, "path"),
        (&["GET /a%00 HTTP/1.1", "Host: localhost"], 400, "path"),
        (&["GET /a%zz HTTP/1.1", "Host: localhost"], 400, "path"),
    ];
    for (lines, status, slug) in cases {
        assert_eq!(refused(&sidecar, lines), (*status, (*slug).to_owned()), "{lines:?}");
    }
    assert_eq!(upstream.connections(), 0);
    let answer = sidecar.client().request(&["TRACE / HTTP/1.1", "Host: localhost"]).answer();
    assert!(answer.head.one("allow").contains("GET"));
    let refusals = |slug| sidecar.metric(&format!("bearerd_rejected_total{{reason=\"{slug}\"}}"));
    assert!((refusals("host") - 5.0).abs() < 0.5);
}

#[test]
fn own_names_are_let_in() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(
        &upstream,
        "hosts: [proxy.internal]
routes:
- {upstream: UPSTREAM, match: {host: api.local}}
- {upstream: UPSTREAM}",
    );
    for host in
        ["localhost", "LocalHost.:99", "127.0.0.1", "[::1]:5", "Proxy.Internal", "API.local:1"]
    {
        let lines = ["GET / HTTP/1.1", &format!("Host: {host}"), "Sec-Fetch-Site: none"];
        assert_eq!(sidecar.client().request(&lines).answer().status(), 200, "{host}");
    }
    let own = ["GET / HTTP/1.1", "Host: localhost:8080", "Origin: http://localhost:8080"];
    assert_eq!(sidecar.client().request(&own).answer().status(), 200);
    assert_eq!(sidecar.client().request(&["GET / HTTP/1.0"]).answer().status(), 200);
}

#[test]
fn paths_are_judged_where_a_route_is_chosen_by_them() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(
        &upstream,
        "routes: [{upstream: UPSTREAM/base/, match: {path: /api}, strip_prefix: true}]",
    );
    let mut client = sidecar.client();
    for path in [
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/..;/admin",
        "/api%2f..%2fadmin",
        "/api//admin",
        "/api/%5c",
        "/api/%c0%ae%c0%ae/admin",
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.refusal().as_str()), (400, "path"), "{path}");
    }
    assert_eq!(client.get("/admin").refusal(), "no-route");
    assert_eq!(upstream.connections(), 0);
    assert_eq!(client.get("/api/x%20y?z=%2F").status(), 200);
    assert_eq!(client.get("/api").status(), 200);
    let starts: Vec<String> = upstream.requests().into_iter().map(|r| r.head.start).collect();
    assert_eq!(starts, ["GET /base/x%20y?z=%2F HTTP/1.1", "GET /base/ HTTP/1.1"]);
}

#[test]
fn heads_have_a_size_and_a_number_of_fields() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "head_size: 16KiB");
    let long = |size: usize| format!("X-Long: {}", "x".repeat(size));
    let lines = ["GET / HTTP/1.1", "Host: localhost"];
    let fits = long(15 * 1024);
    assert_eq!(sidecar.client().request(&[lines[0], lines[1], &fits]).answer().status(), 200);
    let large = long(17 * 1024);
    assert_eq!(refused(&sidecar, &[lines[0], lines[1], &large]), (431, "head-size".to_owned()));
    let fields: Vec<String> = (0..99).map(|i| format!("X-{i}: y")).collect();
    let mut many: Vec<&str> = fields.iter().map(String::as_str).collect();
    many.insert(0, lines[0]);
    many.push(lines[1]);
    assert_eq!(sidecar.client().request(&many).answer().status(), 200);
    many.push("X-Last: y");
    assert_eq!(refused(&sidecar, &many), (431, "head-size".to_owned()));
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_target_is_too_long_by_itself_or_for_a_head_p34() {
    let upstream = Upstream::ok();
    let target = |size: usize| format!("GET /{} HTTP/1.1", "x".repeat(size));
    let host = "Host: localhost";
    for (limits, size) in [("head_size: 16KiB", 20_000), ("head_size: 128KiB", 65_535)] {
        let sidecar = Sidecar::limited(&upstream, limits);
        let long = target(size);
        assert_eq!(refused(&sidecar, &[&long, host]), (414, "target-size".to_owned()), "{limits}");
        // Not only as the first request, and not because an earlier one had a long line.
        let mut client = sidecar.client();
        let fits = target(8_000);
        assert_eq!(client.request(&[&fits, host]).answer().status(), 200);
        let answer = client.request(&[&long, host]).answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (414, "target-size"));
        let mut client = sidecar.client();
        assert_eq!(client.request(&[&fits, host]).answer().status(), 200);
        let field = format!("X-Long: {}", "x".repeat(140_000));
        let answer = client.request(&["GET / HTTP/1.1", host, &field]).answer();
        assert_eq!((answer.status(), answer.refusal().as_str()), (431, "head-size"));
    }
}

#[test]
fn heads_that_are_not_http_get_an_answer_of_our_own() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    for lines in [
        &["GET / HTTP/1.1 ", "Host: localhost"][..],
        &["GET  / HTTP/1.1", "Host: localhost"],
        &["GET / HTTP/1.1", "Host: localhost", " folded"],
        &["GET / HTTP/1.1", "Host : localhost"],
        &["GET / HTTP/1.1", "Host: localhost", "X: a\0b"],
        &["GET / HTTP/1.1", "Host: localhost", "X: a\rb"],
        &["GET / HTTP/9.9", "Host: localhost"],
        &["G@T / HTTP/1.1", "Host: localhost"],
        &["nonsense"],
    ] {
        assert_eq!(refused(&sidecar, lines), (400, "head".to_owned()), "{lines:?}");
    }
    assert_eq!(upstream.connections(), 0);
}
