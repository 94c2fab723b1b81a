//! What the upstream must not see of the client, and the client not of the upstream (P1–P4, P14;
//! S15–S18, S27, S40, S41).

use crate::support::{Sidecar, Upstream};

const ROUTES: &str = "
routes:
- upstream: UPSTREAM
  inject: {Authorization: Bearer secret-credential, Organization: acme}
  strip:
    headers: [X-Api-Key]
    header_prefixes: [X-Internal-]
    query: [access_token, key]
    cookies: [session]
";

#[test]
fn nothing_that_a_client_sends_changes_the_credential() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(&upstream, ROUTES);
    let mut client = sidecar.client();
    let attempts: &[&[&str]] = &[
        &["Authorization: Bearer theirs", "Authorization: Basic theirs", "Organization: evil"],
        &["Connection: authorization", "Authorization: Bearer theirs"],
        &["Connection:", "Connection: close, AUTHORIZATION,\torganization"],
        &["Connection: keep-alive, host, content-length, via, x-forwarded-for"],
        &["authorization_: x", "organization_: x", "ORGANIZATION: x"],
        &["TE: trailers", "Connection: TE, authorization"],
        &["X_Api_Key: theirs", "x-api-key: theirs", "x_internal-a: theirs", "X-Internal-B: theirs"],
        &["Proxy-Authorization: Basic theirs", "Proxy: theirs", "Cookie: a=1; session=theirs; b=2"],
    ];
    for lines in attempts {
        let mut client = sidecar.client();
        client.request(&[&["GET / HTTP/1.1", "Host: localhost"], *lines].concat());
        assert_eq!(client.answer().status(), 200);
    }
    for request in upstream.requests() {
        assert_eq!(request.head.all("authorization"), ["Bearer secret-credential"]);
        assert_eq!(request.head.all("organization"), ["acme"]);
        assert_eq!(request.head.all("host"), [upstream.address.to_string()]);
        assert_eq!(request.head.all("x-forwarded-for"), ["127.0.0.1"]);
        assert!(!String::from_utf8_lossy(&request.raw).contains("theirs"));
    }
    assert_eq!(upstream.requests().last().unwrap().head.one("cookie"), "a=1; b=2");
    let answer = client.get("/x?a=1&access_token=theirs&&b=%20");
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.requests().last().unwrap().head.start, "GET /x?a=1&&b=%20 HTTP/1.1");
    let answer = client.get("/x?%zz=1&key=theirs");
    assert_eq!((answer.status(), answer.refusal().as_str()), (400, "query"));
    let stripped = |place: &str| {
        sidecar.metric(&format!(
            "bearerd_client_credentials_stripped_total{{header=\"{place}\",route=\"route-1\"}}"
        ))
    };
    assert!((stripped("authorization") - 2.0).abs() < 0.5);
    assert!((stripped("x-api-key") - 2.0).abs() < 0.5);
    assert!((stripped("x-internal-*") - 2.0).abs() < 0.5);
    assert!((stripped("cookie") - 1.0).abs() < 0.5);
    assert!((stripped("query") - 1.0).abs() < 0.5);
}

#[test]
fn fields_between_neighbours_end_here_both_ways() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nConnection: keep-alive\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nAlt-Svc: h3=\":443\"\r\nProxy-Authenticate: Basic\r\n\
         Upgrade: h2c\r\nX-End: 1\r\ncontent-length: 2\r\n\r\nok",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&[
        "GET / HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade, HTTP2-Settings, X-Hop",
        "Connection: keep-alive",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: gzip",
        "X-End: 1",
    ]);
    let answer = client.answer();
    let request = upstream.request();
    for head in [&request.head, &answer.head] {
        for name in [
            "connection",
            "x-hop",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "te",
            "alt-svc",
            "proxy-authenticate",
        ] {
            assert!(!head.has(name), "{name} in {head:?}");
        }
        assert!(head.has("x-end"));
    }
}

#[test]
fn trailers_are_relayed_but_bear_no_credentials() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Echo, Set-Cookie, Content-Length, grpc-status\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=1\r\n\
         X-Echo: got secret-credential\r\nContent-Length: 5\r\ngrpc-status: 0\r\n\r\n",
    );
    let sidecar = Sidecar::start(&upstream, ROUTES);
    let mut client = sidecar.client();
    client.request(&[
        "POST / HTTP/1.1",
        "Host: localhost",
        "TE: trailers",
        "Connection: TE",
        "Trailer: X-Sum, Authorization, X_Api_Key, Organization",
        "Transfer-Encoding: chunked",
    ]);
    client.send("2\r\nhi\r\n0\r\nX-Sum: 2\r\nAuthorization: theirs\r\nX_Api_Key: theirs\r\n");
    let answer = client.send("Organization: theirs\r\nX-Unannounced: 1\r\n\r\n").answer();
    let names = |trailers: &[(String, Vec<u8>)]| -> Vec<String> {
        trailers.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&answer.trailers), ["x-sum", "grpc-status"]);
    let request = upstream.request();
    assert_eq!(names(&request.trailers), ["x-sum"]);
    assert_eq!(request.head.one("te"), "trailers");
    // Who does not ask for trailers gets none.
    let answer = client.get("/");
    assert!(answer.trailers.is_empty());
    assert_eq!(answer.text(), "ok");
}

#[test]
fn the_upstream_learns_of_the_client_from_us_and_of_us_from_via() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    sidecar
        .client()
        .request(&[
            "GET / HTTP/1.1",
            "Host: localhost:1",
            "X-Forwarded-For: 1.2.3.4",
            "Forwarded: for=1.2.3.4",
            "X-Real-IP: 1.2.3.4",
            "Via: 1.0 fred, 1.1 p.example",
        ])
        .answer();
    let head = upstream.request().head;
    assert_eq!(head.one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(head.one("x-forwarded-host"), "localhost:1");
    assert_eq!(head.one("x-forwarded-proto"), "http");
    assert!(!head.has("forwarded") && !head.has("x-real-ip"));
    let via = head.all("via");
    assert_eq!(via[0], "1.0 fred, 1.1 p.example");
    assert!(via[1].starts_with("1.1 bearerd-"));
}

#[test]
fn the_word_of_a_trusted_proxy_is_kept_and_added_to_p3() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(
        &upstream,
        "trusted_proxies: [127.0.0.0/8]\nroutes: [{upstream: UPSTREAM, forwarded: both}]",
    );
    let lines = [
        "GET / HTTP/1.1",
        "Host: localhost",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "X_Forwarded_For: 6.6.6.6",
        "Forwarded: for=192.0.2.1",
    ];
    sidecar.client().request(&lines).answer();
    let head = upstream.request().head;
    assert_eq!(head.one("x-forwarded-for"), "192.0.2.1, 127.0.0.1");
    assert_eq!(head.one("x-forwarded-proto"), "https");
    assert_eq!(head.one("x-forwarded-host"), "localhost");
    assert_eq!(head.all("forwarded"), ["for=192.0.2.1", "for=127.0.0.1;proto=http"]);
    assert!(!head.has("x_forwarded_for"));
}

#[test]
fn the_hosts_field_and_the_forwarding_fields_can_be_left_as_they_are() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(
        &upstream,
        "via: false\nroutes: [{upstream: UPSTREAM, host: keep, forwarded: false}]",
    );
    sidecar
        .client()
        .request(&["GET / HTTP/1.1", "Host: localhost:7", "X-Forwarded-For: x"])
        .answer();
    let head = upstream.request().head;
    assert_eq!(head.all("host"), ["localhost:7"]);
    assert!(!head.has("x-forwarded-for") && !head.has("x-forwarded-host") && !head.has("via"));
}

#[test]
fn a_request_without_a_host_to_keep_gets_the_upstreams_p4_p26() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(&upstream, "routes: [{upstream: UPSTREAM, host: keep}]");
    let answer = sidecar.client().request(&["GET / HTTP/1.0"]).answer();
    assert_eq!(answer.status(), 200);
    let head = upstream.request().head;
    assert_eq!(head.start, "GET / HTTP/1.1");
    assert_eq!(head.all("host"), [upstream.address.to_string()]);
}

#[test]
fn a_request_that_comes_back_is_a_loop() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.get("/");
    let via = format!("Via: {}", upstream.request().head.one("via"));
    let answer = client.request(&["GET / HTTP/1.1", "Host: localhost", &via]).answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (508, "loop"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_answer_that_reflects_the_credential_is_withheld() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            let echo = request.head.one("authorization");
            conversation
                .send(format!("HTTP/1.1 200 OK\r\nx-echo: {echo}\r\ncontent-length: 0\r\n\r\n"))?;
        }
    });
    let issuer = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 25\r\n\r\n{\"t\":\"a-token-of-length\"}\n",
    );
    let sidecar = Sidecar::start(
        &upstream,
        &format!(
            "tokens: {{api: {{http: {{acquire: {{url: {}/}}, value: /t}}}}}}
routes: [{{upstream: UPSTREAM, inject: {{Authorization: 'Bearer ${{api}}'}}}}]",
            issuer.url()
        ),
    );
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "leak"));
    assert!(!answer.text().contains("a-token-of-length"));
    assert_eq!(upstream.request().head.one("authorization"), "Bearer a-token-of-length");
}

#[test]
fn authentication_that_belongs_to_a_connection_is_not_shared() {
    let upstream = Upstream::answering(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM\r\ncontent-length: 0\r\n\r\n",
    );
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.status(), 401);
        assert!(!answer.head.has("www-authenticate"));
    }
    assert_eq!(upstream.connections(), 2);
}
