//! The codec against scripts.

#[path = "../../../../tests/hostile/answers/corpus/mod.rs"]
mod corpus;
mod differential;
mod script;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use script::{End, Script};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::connection::{Connection, Settings};
use super::head::Most;
use super::request::Outgoing;
use crate::proxy::download::Cut;
use crate::proxy::headers::Sink;
use crate::proxy::replay::Upload;
use crate::telemetry::tally;

fn connection<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> Connection<T> {
    let most = Most { size: 64 * 1024, fields: 100 };
    let active = tally::levels("active", "connections", &[]).unwrap();
    let active = active.with_label_values::<&str>(&[]);
    Connection::new(io, Arc::new(Settings { most, active }))
}

fn request(method: &Method, upload: Upload) -> Request<Upload> {
    let request = Request::builder().method(method).uri("/a?b").header("host", "upstream");
    request.body(upload).unwrap()
}

/// The same as the codec takes it.
fn outgoing(request: Request<Upload>) -> Outgoing {
    let (head, upload) = request.into_parts();
    Outgoing::with(&head.method, &head.uri, upload, |_, lines| {
        head.headers.iter().for_each(|(name, value)| lines.put(name, value));
    })
}

/// The chunks as a body of known length.
fn upload(chunks: &[&'static [u8]]) -> Upload {
    Upload::kept(chunks.iter().map(|chunk| Bytes::from_static(chunk)).collect())
}

fn ready<T>(outcome: Poll<T>) -> T {
    match outcome {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("it waits"),
    }
}

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The next frame; a failure is told only when it is asked for again.
fn frame<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T>,
) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
    let cx = &mut Context::from_waker(Waker::noop());
    match connection.poll_frame(cx) {
        Poll::Pending => connection.poll_frame(cx),
        ready => ready,
    }
}

fn data(connection: &mut Connection<Script>) -> Bytes {
    let mut all = Vec::new();
    while let Some(frame) = ready(frame(connection)) {
        all.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    all.into()
}

/// An upstream that says these pieces and then waits.
fn saying(pieces: &[&'static str]) -> Script {
    Script::new(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())), End::Open)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_request_is_written_as_it_is() {
    let script = saying(&[OK]);
    let heard = Arc::clone(&script.heard);
    let mut connection = connection(script);
    let mut get = request(&Method::GET, Upload::empty());
    *get.uri_mut() = "http://elsewhere/?q".parse().unwrap();
    get.headers_mut().append("x-a", HeaderValue::from_bytes(b"\xff 1").unwrap());
    get.headers_mut().append("x-a", "2".parse().unwrap());
    ready(poll(connection.send(outgoing(get)))).unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        b"GET /?q HTTP/1.1\r\nhost: upstream\r\nx-a: \xff 1\r\nx-a: 2\r\n\r\n"
    );
    assert_eq!(data(&mut connection), "ok");
    assert!(connection.is_done() && connection.is_silent());
}

#[test]
fn a_body_follows_its_head_however_little_is_taken_at_a_time() {
    const LARGE: &[u8] = &[b'x'; 5000];
    for takes in [1, 7, 100, 4000, usize::MAX] {
        let mut script = saying(&[OK]);
        script.takes = takes;
        let heard = Arc::clone(&script.heard);
        let mut connection = connection(script);
        let post = request(&Method::POST, upload(&[b"small", LARGE, b"", b"end"]));
        ready(poll(connection.send(outgoing(post)))).unwrap();
        let head = b"POST /a?b HTTP/1.1\r\nhost: upstream\r\ncontent-length: 5008\r\n\r\n";
        assert!(*heard.lock().unwrap() == [&head[..], b"small", LARGE, b"end"].concat());
        assert_eq!(data(&mut connection), "ok");
        assert!(connection.is_done());
    }
}

#[test]
fn an_upstream_that_takes_no_more_may_still_answer_and_is_not_asked_again() {
    let mut script = saying(&[OK]);
    script.breaks_after = 70;
    let mut connection = connection(script);
    let post = request(&Method::POST, upload(&[&[b'x'; 5000]]));
    assert_eq!(ready(poll(connection.send(outgoing(post)))).unwrap().status(), 200);
    assert_eq!(data(&mut connection), "ok");
    assert!(!connection.is_done());
    let mut script = Script::new([], End::Closed);
    script.breaks_after = 70;
    let mut connection = self::connection(script);
    let post = request(&Method::POST, upload(&[&[b'x'; 5000]]));
    assert!(matches!(ready(poll(connection.send(outgoing(post)))), Err(Cut::Ended)));
    assert!(!connection.has_heard());
}

#[test]
fn a_request_of_which_nothing_was_taken_is_given_back_whole_p23() {
    const LARGE: &[u8] = &[b'x'; 5000];
    let all: [&[&'static [u8]]; 4] = [&[], &[b"small"], &[LARGE], &[b"small", b"", LARGE, b"end"]];
    for chunks in all {
        let mut script = Script::new([], End::Closed);
        script.breaks_after = 0;
        let mut connection = connection(script);
        let post = request(&Method::POST, upload(chunks));
        assert!(matches!(ready(poll(connection.send(outgoing(post)))), Err(Cut::Ended)));
        let mut again = connection.take_back().expect("all of it");
        let mut body = Vec::new();
        while let Some(frame) = ready(poll(again.frame())) {
            body.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert!(body == chunks.concat());
        assert!(connection.take_back().is_none(), "there is one");
    }
    // One byte may be as much as all of them.
    let mut script = Script::new([], End::Closed);
    script.breaks_after = 1;
    let mut connection = connection(script);
    let sent = ready(poll(connection.send(outgoing(request(&Method::POST, upload(&[b"x"]))))));
    assert!(matches!(sent, Err(Cut::Ended)) && connection.take_back().is_none());
}

#[test]
fn a_connection_lasts_only_if_nothing_speaks_against_it() {
    for (answer, lasts) in [
        (OK, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokk", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, CLOSE\r\n\r\nok", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nH", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\n\r\n",
            false,
        ),
    ] {
        let mut connection = connection(saying(&[answer]));
        ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty()))))).unwrap();
        assert_eq!(data(&mut connection), "ok");
        assert_eq!(connection.is_done(), lasts, "{answer}");
    }
    // What announces a body where there is none may send one.
    for (answer, lasts) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", true),
    ] {
        let mut connection = connection(saying(&[answer]));
        ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty()))))).unwrap();
        assert_eq!(data(&mut connection), "");
        assert_eq!(connection.is_done(), lasts, "{answer}");
    }
    // What nobody has asked for comes later, or the end does.
    for (pieces, end) in [(&[OK, "HTTP"][..], End::Open), (&[OK], End::Closed)] {
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes()));
        let mut connection = connection(Script::new(pieces, end));
        ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty()))))).unwrap();
        assert_eq!(data(&mut connection), "ok");
        assert!(connection.is_done() && !connection.is_silent());
    }
}

#[test]
fn an_exchange_that_is_left_alone_is_the_connections_last() {
    let mut connection = connection(saying(&[]));
    assert!(poll(connection.send(outgoing(request(&Method::GET, Upload::empty())))).is_pending());
    assert!(!connection.is_done());
    let mut connection =
        self::connection(saying(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\no"]));
    ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty()))))).unwrap();
    assert_eq!(connection.left(), Some(9));
    assert!(ready(frame(&mut connection)).is_some() && frame(&mut connection).is_pending());
    assert!(!connection.is_done() && !connection.is_over());
}

#[test]
fn what_follows_a_switch_belongs_to_the_tunnel() {
    let mut connection = connection(saying(&["HTTP/1.1 101 Go\r\nupgrade: x\r\n\r\nraw"]));
    let response = ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty())))));
    assert_eq!(response.unwrap().status(), 101);
    assert!(connection.is_over() && !connection.is_done());
    let mut raw = [0; 3];
    ready(poll(connection.read_exact(&mut raw))).unwrap();
    assert_eq!(&raw, b"raw");
}

#[test]
fn what_an_upstream_may_make_us_hold_is_bounded() {
    let refused = |answer: String| {
        let mut connection = connection(Script::new([Bytes::from(answer)], End::Open));
        let sent = ready(poll(connection.send(outgoing(request(&Method::GET, Upload::empty())))));
        match sent {
            Err(fault) => fault.to_string(),
            Ok(_) => loop {
                match ready(frame(&mut connection)) {
                    Some(Err(fault)) => break fault.to_string(),
                    Some(Ok(_)) => {}
                    None => panic!("taken"),
                }
            },
        }
    };
    let chunked =
        |body: String| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    let long = "x".repeat(70_000);
    assert_eq!(refused(format!("HTTP/1.1 200 {long}")), "it has too large a head");
    assert_eq!(refused(format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n")), "it has too large a head");
    let fields = "x: y\r\n".repeat(101);
    assert_eq!(refused(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), "it has too many fields");
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_001);
    assert_eq!(refused(endless), "it does not come to the point");
    let extensions = format!("1;{}\r\nx\r\n", "y".repeat(1000)).repeat(17);
    assert_eq!(refused(chunked(extensions)), "it has too long chunk extensions");
    assert_eq!(refused(chunked(format!("0\r\nx: {long}"))), "it has too large trailers");
    assert_eq!(
        refused(chunked("0\r\nx: y\n\r\n".into())),
        "it has a trailer that ends in a lone line feed"
    );
    let digits = "00000000000000001\r\nx\r\n0\r\n\r\n".to_owned();
    assert_eq!(refused(chunked(digits)), "it has too many digits in a chunk's size");
}
