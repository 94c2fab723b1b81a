//! How messages begin and end (P5–P12, P15–P17, P25, P26).

use crate::support::{Sidecar, Upstream};

#[test]
fn a_get_goes_through_with_the_credential() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.client().get("/a/%7E?x=1&&y");
    assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()));
    let request = upstream.request();
    assert_eq!(request.head.start, "GET /a/%7E?x=1&&y HTTP/1.1");
    assert_eq!(request.head.one("authorization"), "Bearer secret-credential");
    assert_eq!(request.head.one("host"), upstream.address.to_string());
    assert!(!request.head.has("content-length") && !request.head.has("transfer-encoding"));
}

#[test]
fn a_post_goes_through_with_its_body() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["POST /p HTTP/1.1", "Host: localhost", "Content-Length: 5"]).send("hello");
    assert_eq!(client.answer().status(), 200);
    client.request(&["POST /p HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]);
    client.send("3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    let requests = upstream.requests();
    assert_eq!(requests[0].body, b"hello");
    assert_eq!(requests[0].head.one("content-length"), "5");
    assert_eq!(requests[1].body, b"abcde");
    assert_eq!(requests[1].head.one("transfer-encoding"), "chunked");
    assert_eq!(upstream.connections(), 1);
}
