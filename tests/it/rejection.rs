//! An upstream that rejects the credential: renewal, one replay, and no more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::{Conversation, Sidecar, Upstream};

/// Issues `token-number-1`, `token-number-2` and so on.
fn issuer() -> (Upstream, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let issuer = Upstream::run(move |conversation| {
        loop {
            conversation.request()?;
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!("{{\"t\":\"token-number-{number}\",\"n\":\"{number}\"}}");
            conversation.send(json("200 OK", &body))?;
        }
    });
    (issuer, issued)
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn yaml(issuer: &Upstream, rejected: &str) -> String {
    let url = issuer.url();
    format!(
        "tokens: {{api: {{http: {{acquire: {{url: {url}/}}, value: /t{rejected}}}}}}}
token_wait: 3s
routes: [{{upstream: UPSTREAM, inject: {{Authorization: 'Bearer ${{api}}'}}}}]"
    )
}

/// An upstream that takes only tokens with a number of at least `good`.
fn picky(
    good: usize,
    rejection: impl Fn(&mut Conversation) -> std::io::Result<()> + Send + Sync + 'static,
) -> Upstream {
    Upstream::run(move |conversation| {
        loop {
            let request = conversation.request()?;
            let token = request.head.one("authorization");
            let number: usize = token.rsplit('-').next().unwrap().parse().unwrap();
            if number < good {
                rejection(conversation)?;
            } else {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                conversation.send(json("200 OK", &format!("\"{token} {body}\"")))?;
            }
        }
    })
}

fn refuse(conversation: &mut Conversation) -> std::io::Result<()> {
    conversation.send(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 4\r\n\r\nnope",
    )
}

fn replays(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric(&format!("bearerd_replays_total{{result=\"{result}\",route=\"route-1\"}}"))
}

#[test]
fn a_rejected_request_is_repeated_once_with_a_new_token() {
    let (issuer, issued) = issuer();
    let upstream = picky(2, refuse);
    let sidecar = Sidecar::start(&upstream, &yaml(&issuer, ""));
    let mut client = sidecar.client();
    assert_eq!(client.get("/").text(), "\"Bearer token-number-2 \"");
    assert_eq!((issued.load(Ordering::SeqCst), upstream.requests().len()), (2, 2));
    assert_eq!(client.get("/").status(), 200);
    assert_eq!((issued.load(Ordering::SeqCst), upstream.requests().len()), (2, 3));
    assert!((replays(&sidecar, "accepted") - 1.0).abs() < 0.5);
    let series = "bearerd_upstream_unauthorized_total{code=\"401\",route=\"route-1\"}";
    assert!((sidecar.metric(series) - 1.0).abs() < 0.5);
}

#[test]
fn a_small_body_is_sent_again_and_a_large_one_is_not() {
    for (size, chunked, repeated) in [
        (5, false, true),
        (5, true, true),
        (65_536, false, true),
        (65_537, false, false),
        (70_000, true, false),
    ] {
        let (issuer, issued) = issuer();
        let upstream = picky(2, refuse);
        let sidecar = Sidecar::start(&upstream, &yaml(&issuer, ""));
        let mut client = sidecar.client();
        let body = "x".repeat(size);
        if chunked {
            client.request(&["POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]);
            client.send(format!("{size:x}\r\n{body}\r\n0\r\n\r\n"));
        } else {
            let length = format!("Content-Length: {size}");
            client.request(&["POST / HTTP/1.1", "Host: localhost", &length]).send(&body);
        }
        let answer = client.answer();
        if repeated {
            assert_eq!(answer.text(), format!("\"Bearer token-number-2 {body}\""), "{size}");
        } else {
            assert_eq!((answer.status(), answer.text()), (401, "nope".to_owned()), "{size}");
            assert!(!answer.head.has("www-authenticate"));
            // The renewal runs all the same: the next request goes through.
            crate::support::eventually(
                || issued.load(Ordering::SeqCst) == 2,
                || "no renewal".to_owned(),
            );
            crate::support::eventually(
                || sidecar.client().get("/").status() == 200,
                || "401".to_owned(),
            );
        }
    }
}

#[test]
fn a_new_token_that_is_rejected_too_ends_it() {
    let (issuer, issued) = issuer();
    let upstream = picky(1000, refuse);
    let sidecar = Sidecar::start(&upstream, &yaml(&issuer, ""));
    let mut client = sidecar.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), 401);
    }
    assert_eq!(issued.load(Ordering::SeqCst), 2, "the issuer is asked once for all of them");
    assert_eq!(upstream.requests().len(), 21);
    assert!((replays(&sidecar, "rejected") - 1.0).abs() < 0.5);
}

#[test]
fn many_rejections_at_once_make_one_renewal() {
    let (issuer, issued) = issuer();
    let upstream = picky(2, |conversation| {
        std::thread::sleep(Duration::from_millis(20));
        refuse(conversation)
    });
    let sidecar = Arc::new(Sidecar::start(&upstream, &yaml(&issuer, "")));
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let sidecar = Arc::clone(&sidecar);
            std::thread::spawn(move || sidecar.client().get("/").status())
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    assert_eq!(upstream.requests().len(), 40);
}

#[test]
fn only_what_the_rules_call_a_rejection_is_one() {
    let rejected = ", rejected: [{status: [403], body: empty}, {status: [401], pointer: /message, equals: Unauthorized}]";
    for (answer, is_rejection) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned(), true),
        ("HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), true),
        (json("403 Forbidden", "not yours"), false),
        (json("401 Unauthorized", "{\"message\":\"Unauthorized\"}"), true),
        (json("401 Unauthorized", "{\"message\":\"other\"}"), false),
        (
            json(
                "401 Unauthorized",
                &format!("{{\"message\":\"Unauthorized\",\"x\":\"{}\"}}", "y".repeat(70_000)),
            ),
            false,
        ),
        (json("404 Not Found", "{\"message\":\"Unauthorized\"}"), false),
    ] {
        let (issuer, issued) = issuer();
        let expected = answer.clone();
        let upstream = picky(2, move |conversation| conversation.send(&answer));
        let sidecar = Sidecar::start(&upstream, &yaml(&issuer, rejected));
        let got = sidecar.client().get("/");
        if is_rejection {
            assert_eq!((got.status(), issued.load(Ordering::SeqCst)), (200, 2), "{expected:.80}");
        } else {
            let body = expected.split("\r\n\r\n").nth(1).unwrap();
            assert!(got.text() == body, "the answer that was looked into passes whole");
            assert_eq!(issued.load(Ordering::SeqCst), 1, "{expected:.80}");
        }
    }
}

#[test]
fn without_a_token_nothing_is_sent() {
    let issuer = Upstream::gone();
    let upstream = Upstream::ok();
    let yaml = yaml(&issuer, "").replace("token_wait: 3s", "token_wait: 200ms");
    let sidecar = Sidecar::start(&upstream, &yaml);
    let began = SystemTime::now();
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (503, "no-token"));
    assert!(answer.head.has("retry-after"));
    assert!(began.elapsed().unwrap() < Duration::from_secs(3));
    assert_eq!(upstream.connections(), 0);
    let series = "bearerd_injections_total{result=\"no_token\",route=\"route-1\"}";
    assert!((sidecar.metric(series) - 1.0).abs() < 0.5);
}

#[test]
fn a_request_waits_for_the_first_token() {
    let issuer = Upstream::run(|conversation| {
        conversation.request()?;
        std::thread::sleep(Duration::from_millis(100));
        conversation.send(json("200 OK", "{\"t\":\"token-number-1\"}"))
    });
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(&upstream, &yaml(&issuer, ""));
    assert_eq!(sidecar.client().get("/").status(), 200);
    assert_eq!(upstream.request().head.one("authorization"), "Bearer token-number-1");
    let series = "bearerd_injections_total{result=\"waited\",route=\"route-1\"}";
    assert!((sidecar.metric(series) - 1.0).abs() < 0.5);
}
