//! What becomes of requests whose streams or connections of HTTP/2 end before their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;

use crate::http2_upstream::{before, post};
use crate::support::http2::{
    DATA, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, block, frame,
};
use crate::support::{Conversation, Exchange, Http2, Leave, Sidecar, Upstream};

/// Refuses the first request of every connection but for the first `after` connections.
async fn refuse(mut exchange: Exchange, refused: Arc<AtomicUsize>) {
    if exchange.connection == 0 {
        refused.fetch_add(1, Ordering::SeqCst);
        // Some of the body has come by then.
        if let Some(Ok(chunk)) = exchange.request.body_mut().data().await {
            drop(chunk);
        }
        exchange.respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let body = exchange.body().await;
    exchange.answer(Response::new(()), body);
}

#[test]
fn a_refused_stream_goes_over_a_new_connection_whatever_its_method_p38() {
    for (body, expected) in [("", ""), ("some body", "some body")] {
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let upstream = Http2::run(move |exchange| refuse(exchange, Arc::clone(&count)));
        let sidecar = before(&upstream);
        let answer = post(&mut sidecar.client(), "/", body);
        assert_eq!((answer.status(), answer.text().as_str()), (200, expected));
        assert_eq!(refused.load(Ordering::SeqCst), 1);
        assert_eq!((upstream.requests().len(), upstream.connections()), (2, 2));
        let credentials = upstream.requests()[1].headers.get_all("authorization").iter().count();
        assert_eq!(credentials, 1);
    }
}

#[test]
fn a_stream_that_is_refused_twice_is_given_up_p38() {
    let upstream = Http2::run(|mut exchange| async move {
        exchange.respond.send_reset(Reason::REFUSED_STREAM);
    });
    let sidecar = before(&upstream);
    let answer = post(&mut sidecar.client(), "/", "x");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-reset"));
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn another_reset_repeats_no_post_p23() {
    let upstream = Http2::run(|mut exchange| async move {
        exchange.respond.send_reset(Reason::INTERNAL_ERROR);
    });
    let sidecar = before(&upstream);
    let answer = post(&mut sidecar.client(), "/", "x");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-reset"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn no_request_is_lost_to_a_goaway_p38() {
    let upstream = Http2::run(move |mut exchange| async move {
        let id = exchange.request.headers()["x-id"].clone();
        if exchange.number == 4 {
            exchange.leave(Leave::Gracefully);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        exchange.answer(Response::new(()), Bytes::copy_from_slice(id.as_bytes()));
    });
    let sidecar = before(&upstream);
    let mut client = sidecar.client();
    for i in 0..100 {
        let id = format!("X-Id: {i}");
        client.request(&["POST / HTTP/1.1", "Host: localhost", &id, "Content-Length: 0"]);
        assert_eq!(client.answer().text(), i.to_string());
    }
    assert!(upstream.connections() > 10, "{}", upstream.connections());
    assert_eq!(upstream.requests().len(), 100);
}

/// Speaks HTTP/2 frame by frame, up to the first frame of this kind, of which it returns the
/// stream.
pub(crate) fn until(conversation: &mut Conversation, wanted: u8) -> std::io::Result<u32> {
    loop {
        let head = conversation.take(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = conversation.take(length)?;
        match head[3] {
            SETTINGS if head[4] & 1 == 0 => conversation.send(frame(SETTINGS, 1, 0, &[]))?,
            PING if head[4] & 1 == 0 => conversation.send(frame(PING, 1, 0, &payload))?,
            kind if kind == wanted => {
                return Ok(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
            _ => {}
        }
    }
}

/// A server that writes frames as `script` says.
pub(crate) fn framed(
    script: impl Fn(&mut Conversation, usize) -> std::io::Result<()> + Send + Sync + 'static,
) -> Upstream {
    let connections = AtomicUsize::new(0);
    Upstream::run(move |conversation| {
        let index = connections.fetch_add(1, Ordering::SeqCst);
        conversation.take(PREFACE.len())?;
        conversation.send(frame(SETTINGS, 0, 0, &[]))?;
        script(conversation, index)
    })
}

/// The HPACK index of `:status: 200`.
pub(crate) const OK: &[u8] = &[0x88];

pub(crate) const FRAMED: &str = "routes: [{upstream: {url: UPSTREAM, protocol: http2}}]";

#[test]
fn a_goaway_below_a_stream_has_its_request_repeated_whatever_the_method_p38() {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heads);
    let upstream = framed(move |conversation, index| {
        let stream = until(conversation, HEADERS)?;
        count.fetch_add(1, Ordering::SeqCst);
        if index == 0 {
            // The last stream that was looked at is 0: none. The reason is no error.
            conversation.send(frame(GOAWAY, 0, 0, &[0; 8]))?;
        } else {
            conversation.send(frame(HEADERS, 5, stream, OK))?;
        }
        until(conversation, HEADERS).map(drop)
    });
    let sidecar = Sidecar::start(&upstream, FRAMED);
    assert_eq!(post(&mut sidecar.client(), "/", "body").status(), 200);
    assert_eq!((heads.load(Ordering::SeqCst), upstream.connections()), (2, 2));
}

#[test]
fn an_early_answer_that_ends_the_upload_is_a_success_p20() {
    let upstream = framed(|conversation, _| {
        let stream = until(conversation, DATA)?;
        let answer = [
            frame(HEADERS, 4, stream, OK),
            frame(DATA, 1, stream, b"enough"),
            frame(RST_STREAM, 0, stream, &[0; 4]),
        ];
        conversation.send(answer.concat())?;
        until(conversation, HEADERS).map(drop)
    });
    let sidecar = Sidecar::start(&upstream, FRAMED);
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 100000000"]);
    let answer = client.send(vec![b'x'; 64 * 1024]).answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "enough"));
}

#[test]
fn a_connection_that_vanishes_repeats_what_is_safe_once_p23() {
    let upstream = Http2::run(|mut exchange| async move {
        if exchange.request.uri().path() == "/cut" && exchange.number > 0 {
            exchange.leave(Leave::Rudely);
            std::future::pending::<()>().await;
        }
        exchange.answer(Response::new(()), "ok");
    });
    let sidecar = before(&upstream);
    let mut client = sidecar.client();
    assert_eq!(client.get("/warm").status(), 200);
    assert_eq!(client.get("/cut").status(), 200);
    assert_eq!(upstream.requests().len(), 3);
    let answer = post(&mut client, "/cut", "x");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-reset"));
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn a_stream_that_is_reset_within_its_answer_never_ends_cleanly_p12() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let upstream = Http2::run(move |mut exchange| async move {
            let mut stream = exchange.respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            stream.send_reset(reason);
        });
        let sidecar = before(&upstream);
        let mut client = sidecar.client();
        client.request(&["GET / HTTP/1.1", "Host: localhost"]);
        assert_eq!(client.head().one("transfer-encoding"), "chunked");
        let rest = client.until_closed().unwrap_or_default();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{reason:?}: {rest:?}");
    }
}

#[test]
fn what_came_before_a_stream_broke_off_is_passed_on_p12() {
    let upstream = framed(|conversation, _| {
        let stream = until(conversation, HEADERS)?;
        let answer = [
            frame(HEADERS, 4, stream, OK),
            frame(DATA, 0, stream, b"half"),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]),
        ];
        conversation.send(answer.concat())?;
        until(conversation, HEADERS).map(drop)
    });
    let sidecar = Sidecar::start(&upstream, FRAMED);
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    assert_eq!(client.head().start, "HTTP/1.1 200 OK");
    assert_eq!(client.until_closed().unwrap_or_default(), b"4\r\nhalf\r\n");
}

#[test]
fn a_value_between_blanks_makes_an_answer_malformed_p36() {
    let padded = block(&[("x-a", " b")]);
    let upstream = framed(move |conversation, index| {
        let stream = until(conversation, HEADERS)?;
        let frames = match index {
            0 => vec![frame(HEADERS, 5, stream, &[OK, &padded].concat())],
            _ => vec![
                frame(HEADERS, 4, stream, OK),
                frame(DATA, 0, stream, b"ok"),
                frame(HEADERS, 5, stream, &padded),
            ],
        };
        conversation.send(frames.concat())
    });
    let sidecar = Sidecar::start(&upstream, FRAMED);
    let answer = sidecar.client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-invalid"));
    // Among the trailers, too late for another status.
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    assert_eq!(client.head().start, "HTTP/1.1 200 OK");
    assert_eq!(client.until_closed().unwrap_or_default(), b"2\r\nok\r\n");
}
