//! What browsers are told: listed origins, preflights, refusals that a page can read.

use super::support::{Client, Sidecar, Upstream};

const LISTED: &str = "Origin: http://localhost:5173";

fn with_routes(upstream: &Upstream, routes: &str) -> Sidecar {
    Sidecar::start(upstream, &format!("routes: [{routes}]"))
}

fn sidecar(upstream: &Upstream) -> Sidecar {
    let routes = "{upstream: UPSTREAM, cors: {origins: ['http://localhost:5173']}, deny: [{path: /admin/}], inject: {Authorization: Bearer secret-credential}}";
    with_routes(upstream, routes)
}

fn ask(client: &mut Client, start: &str, lines: &[&str]) -> super::support::Answer {
    let start = format!("{start} HTTP/1.1");
    let mut all = vec![start.as_str(), "Host: localhost"];
    all.extend(lines);
    client.request(&all).answer()
}

#[test]
fn a_preflight_of_a_listed_origin_is_answered_here_s1_s6_p41() {
    let upstream = Upstream::ok();
    let sidecar = sidecar(&upstream);
    let answer = ask(
        &mut sidecar.client(),
        "OPTIONS /x",
        &[
            LISTED,
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Mode: cors",
            "Access-Control-Request-Method: PUT",
            "Access-Control-Request-Headers: content-type,x-a",
            "Access-Control-Request-Private-Network: true",
        ],
    );
    assert_eq!(answer.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://localhost:5173"),
        ("access-control-allow-headers", "content-type, x-a"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("access-control-max-age", "600"),
        ("access-control-allow-private-network", "true"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.head.one(name), value, "{name}");
    }
    assert!(!answer.head.has("access-control-allow-credentials"));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_preflight_needs_no_token_s1() {
    let routes = "{upstream: UPSTREAM, cors: {origins: ['http://localhost:5173']}}";
    let upstream = Upstream::gone();
    let sidecar = with_routes(&upstream, routes);
    let lines = [LISTED, "Access-Control-Request-Method: GET"];
    assert_eq!(ask(&mut sidecar.client(), "OPTIONS /", &lines).status(), 204);
    // Without a page that asks it is a request like any other.
    let lines = ["Access-Control-Request-Method: GET"];
    assert_eq!(ask(&mut sidecar.client(), "OPTIONS /", &lines).refusal(), "upstream-connect");
}

#[test]
fn a_listed_origin_reads_answers_and_the_upstream_has_no_say_s1_s41_s42() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\n\
         access-control-allow-credentials: true\r\nvary: Accept\r\ncontent-length: 2\r\n\r\nok",
    );
    let sidecar = sidecar(&upstream);
    let mut client = sidecar.client();
    let answer = ask(&mut client, "GET /", &[LISTED, "Sec-Fetch-Site: same-site"]);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.one("access-control-allow-origin"), "http://localhost:5173");
    assert_eq!(answer.head.all("vary"), ["Accept", "Origin"]);
    assert!(!answer.head.has("access-control-allow-credentials"));
    assert_eq!(answer.head.one("cross-origin-resource-policy"), "same-origin");
    let answer = ask(&mut client, "GET /", &[]);
    assert!(!answer.head.has("access-control-allow-origin"));
    assert_eq!(answer.head.all("vary"), ["Accept", "Origin"]);
    assert!(!answer.head.has("cross-origin-resource-policy"));
}

#[test]
fn a_listed_origin_reads_why_it_was_refused_and_no_other_does_p40() {
    let upstream = Upstream::gone();
    let sidecar = sidecar(&upstream);
    let mut client = sidecar.client();
    for (target, slug) in [("/admin/x", "denied"), ("/a%00", "path"), ("/", "upstream-connect")] {
        let answer = ask(&mut client, &format!("GET {target}"), &[LISTED]);
        assert_eq!(answer.refusal(), slug);
        assert_eq!(answer.head.one("access-control-allow-origin"), "http://localhost:5173");
        assert_eq!(answer.head.one("vary"), "Origin");
    }
    for origin in ["Origin: http://evil.example", "Origin: null", "Origin: http://localhost:5174"] {
        let answer = ask(&mut client, "GET /", &[origin]);
        assert_eq!(answer.refusal(), "origin");
        assert!(!answer.head.has("access-control-allow-origin"), "{origin}");
    }
    let navigation = [LISTED, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"];
    assert_eq!(ask(&mut client, "POST /", &navigation).refusal(), "origin");
}

#[test]
fn an_origin_that_another_route_lists_reads_nothing_of_this_one_s1_p40() {
    let upstream = Upstream::ok();
    let routes = "{upstream: UPSTREAM, cors: {origins: ['http://localhost:5173']}}, \
                  {upstream: UPSTREAM, match: {path: /other/}}";
    let sidecar = with_routes(&upstream, routes);
    let mut client = sidecar.client();
    let answer = ask(&mut client, "GET /other/", &[LISTED]);
    assert_eq!(answer.refusal(), "origin");
    assert!(!answer.head.has("access-control-allow-origin"));
    assert_eq!(upstream.connections(), 0);
    let answer = ask(&mut client, "GET /", &[LISTED]);
    assert_eq!(answer.head.one("access-control-allow-origin"), "http://localhost:5173");
}

#[test]
fn a_route_without_cors_grants_nothing_s1() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-length: 2\r\n\r\nok",
    );
    let sidecar = Sidecar::before(&upstream);
    let answer = ask(&mut sidecar.client(), "GET /", &["Sec-Fetch-Site: same-origin"]);
    assert_eq!(answer.status(), 200);
    assert!(!answer.head.has("access-control-allow-origin"));
    assert!(!answer.head.has("vary"));
    assert_eq!(answer.head.one("x-content-type-options"), "nosniff");
}

#[test]
fn navigation_can_be_refused_by_a_route_s3() {
    let upstream = Upstream::ok();
    let routes =
        "{upstream: UPSTREAM, match: {path: /api}, navigation: refuse}, {upstream: UPSTREAM}";
    let sidecar = with_routes(&upstream, routes);
    let mut client = sidecar.client();
    let typed = ["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    assert_eq!(ask(&mut client, "GET /page", &typed).status(), 200);
    assert_eq!(ask(&mut client, "GET /api", &typed).refusal(), "origin");
    assert_eq!(ask(&mut client, "GET /api", &["Sec-Fetch-Site: same-origin"]).status(), 200);
}

#[test]
fn named_fields_of_answers_are_removed_s41() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nserver: x\r\nx-powered-by: y\r\nalt-svc: h3=\":443\"\r\n\
         date: z\r\ncontent-length: 2\r\n\r\nok",
    );
    let routes = "{upstream: UPSTREAM, strip: {answer: [Server, X-Powered-By]}}";
    let answer = with_routes(&upstream, routes).client().get("/");
    assert!(!answer.head.has("server") && !answer.head.has("x-powered-by"));
    assert!(!answer.head.has("alt-svc"));
    assert_eq!(answer.head.one("date"), "z");
}
