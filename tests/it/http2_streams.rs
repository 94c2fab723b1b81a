//! How streams of HTTP/2 end, and how many there may be: uploads that outlast their answer, peers
//! that are dead, one stream too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};

use crate::http2_losses::{FRAMED, OK, framed, until};
use crate::http2_upstream::before;
use crate::support::http2::{
    DATA, Frame, Framed, GOAWAY, HEADERS, Multiplexed, PING, RST_STREAM, SETTINGS, block, frame,
    run, whole,
};
use crate::support::{Client, Conversation, Http2, PATIENCE, Sidecar, Upstream, eventually};

const NO_ERROR: &[u8] = &[0; 4];
const REFUSED_STREAM: &[u8] = &[0, 0, 0, 7];

/// `END_STREAM` of DATA and HEADERS, `ACK` of PING.
const LAST: u8 = 1;

/// After so long silent peers are asked whether they are there, by some tests' settings.
const SILENCE: Duration = Duration::from_millis(1500);

/// A head without the end of its stream.
fn post(stream: u32, authority: &str) -> Vec<u8> {
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":authority", authority), (":path", "/")];
    frame(HEADERS, 4, stream, &block(&fields))
}

fn get(stream: u32) -> Vec<u8> {
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/")];
    frame(HEADERS, 5, stream, &block(&fields))
}

/// Everything that comes up to the reply to a PING that is sent now.
fn so_far(client: &mut Framed) -> Vec<Frame> {
    client.write(&frame(PING, 0, 0, b"so far? "));
    let mut frames = Vec::new();
    loop {
        let frame = client.next().expect("a reply");
        if frame.kind == PING && frame.flags == LAST && frame.payload == b"so far? " {
            return frames;
        }
        frames.push(frame);
    }
}

/// An upstream that answers a head at once, and does not read on.
fn hasty() -> Upstream {
    Upstream::run(|conversation| {
        conversation.head()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        conversation.until_closed()
    })
}

#[test]
fn an_upload_may_go_on_for_a_while_after_its_answer_p19_p20() {
    let upstream = hasty();
    let sidecar = Sidecar::before(&upstream);
    // The upstream's answer, and one of ours.
    for authority in ["localhost", "evil.example"] {
        let mut client = Framed::connect(sidecar.address);
        client.write(&[post(1, authority), frame(DATA, 0, 1, &[b'x'; 1000])].concat());
        while client.until(DATA).flags & LAST == 0 {}
        for _ in 0..3 {
            for _ in 0..3 {
                client.write(&frame(DATA, 0, 1, &[b'x'; 16 * 1024]));
            }
            let between = so_far(&mut client);
            assert!(between.iter().all(|frame| frame.kind != RST_STREAM), "{between:?}");
        }
        client.write(&frame(DATA, LAST, 1, b"end"));
        client.write(&get(3));
        loop {
            let frame = client.next().expect("an answer");
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            if frame.kind == DATA && frame.flags & LAST != 0 {
                assert_eq!(frame.stream, 3);
                break;
            }
        }
    }
}

/// curl 7 ends its stream as soon as it sees the head of a refusal, however much it said would
/// come, and that is an error which ends the exchange.
#[test]
fn an_early_answer_that_came_whole_is_passed_on_whole_p20() {
    for answer in [
        "HTTP/1.1 413 Too Large\r\ncontent-length: 6\r\n\r\nenough",
        "HTTP/1.1 413 Too Large\r\ntransfer-encoding: chunked\r\n\r\n6\r\nenough\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::run(move |conversation| {
            conversation.head()?;
            conversation.send(answer)?;
            conversation.until_closed()
        });
        let sidecar = Sidecar::before(&upstream);
        for _ in 0..100 {
            let mut client = Framed::connect(sidecar.address);
            let fields = [
                (":method", "PUT"),
                (":scheme", "http"),
                (":authority", "localhost"),
                (":path", "/"),
                ("content-length", "100000"),
            ];
            client.write(&frame(HEADERS, 4, 1, &block(&fields)));
            let burst = loop {
                let burst = client.burst();
                if burst.iter().any(|frame| frame.kind == HEADERS) {
                    break burst;
                }
            };
            let data = || burst.iter().filter(|frame| frame.kind == DATA);
            let body: Vec<_> = data().flat_map(|frame| &frame.payload).copied().collect();
            assert_eq!(body, b"enough", "{burst:?}");
            assert!(data().any(|frame| frame.flags == LAST), "{burst:?}");
        }
    }
}

#[test]
fn an_upload_that_does_not_end_after_its_answer_is_ended_p19_p20() {
    let upstream = hasty();
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    client.write(&[post(1, "localhost"), frame(DATA, 0, 1, &[b'x'; 1000])].concat());
    while client.until(DATA).flags & LAST == 0 {}
    let answered = SystemTime::now();
    let reset = client.until(RST_STREAM);
    assert_eq!((reset.stream, reset.payload.as_slice()), (1, NO_ERROR));
    let took = answered.elapsed().unwrap();
    assert!(took > Duration::from_millis(300), "{took:?}");
    // One that sends as much as it may: a mebibyte, and what it had room for.
    let client = Multiplexed::connect(sidecar.address);
    let sent = run(async {
        let request = Request::post("http://localhost/").body(()).unwrap();
        let (answer, mut sending) = client.begin(request, false).await;
        sending.send_data(Bytes::from_static(b"x"), false).unwrap();
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().text(), "ok");
        let mut sent = 0;
        loop {
            sending.reserve_capacity(16 * 1024);
            match std::future::poll_fn(|cx| sending.poll_capacity(cx)).await {
                Some(Ok(room)) => {
                    sending.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
                    sent += room;
                }
                Some(Err(error)) => {
                    assert_eq!(error.reason(), Some(Reason::NO_ERROR), "{error}");
                    return sent;
                }
                None => return sent,
            }
        }
    });
    assert!((512 * 1024..1536 * 1024).contains(&sent), "{sent}");
    sidecar.await_metric("bearerd_requests_in_flight{route=\"route-1\"}", 0.0);
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn a_client_that_answers_no_ping_is_taken_for_dead() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent")?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::asking(&upstream, "", Some(SILENCE));
    let mut living = Framed::connect(sidecar.address);
    let mut dead = Framed::connect(sidecar.address);
    for client in [&mut living, &mut dead] {
        client.write(&get(1));
        client.until(DATA);
    }
    let mut answered = 0;
    while answered < 3 {
        let ping = living.until(PING);
        if ping.flags & LAST == 0 {
            living.write(&frame(PING, LAST, 0, &ping.payload));
            answered += 1;
        }
    }
    // By then the other one was asked, and has gone without an answer for more than long enough.
    let mut asked = false;
    while let Some(frame) = dead.next() {
        asked |= frame.kind == PING;
        if frame.kind == GOAWAY {
            break;
        }
    }
    assert!(asked, "it ended without being asked");
    sidecar.await_metric("bearerd_connections", 1.0);
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(active, 1.0);
}

/// Waits for the next PING and answers it.
fn answer_ping(conversation: &mut Conversation) -> std::io::Result<()> {
    loop {
        let head = conversation.take(9)?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = conversation.take(length)?;
        if head[3] == PING && head[4] & LAST == 0 {
            return conversation.send(frame(PING, LAST, 0, &payload));
        }
    }
}

#[test]
fn an_upstream_that_answers_no_ping_is_taken_for_dead() {
    for replies in [true, false] {
        let upstream = framed(move |conversation, _| {
            let stream = until(conversation, HEADERS)?;
            conversation
                .send([frame(HEADERS, 4, stream, OK), frame(DATA, 0, stream, b"event")].concat())?;
            if !replies {
                // It reads, and says nothing.
                return conversation.until_closed();
            }
            answer_ping(conversation)?;
            // Had the answer been missed, that would be the end.
            std::thread::sleep(SILENCE * 2 / 3);
            conversation.send(frame(DATA, LAST, stream, b"more"))?;
            until(conversation, HEADERS).map(drop)
        });
        let sidecar = Sidecar::asking(&upstream, FRAMED, Some(SILENCE));
        let mut client = sidecar.client();
        client.request(&["GET / HTTP/1.1", "Host: localhost"]).head();
        let began = SystemTime::now();
        let rest = client.until_closed_or(b"0\r\n\r\n");
        let is_whole = rest.ends_with(b"more\r\n0\r\n\r\n");
        assert_eq!(is_whole, replies, "{}", String::from_utf8_lossy(&rest));
        let took = began.elapsed().unwrap();
        assert!(replies || took >= SILENCE, "{took:?}");
        let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
        sidecar.await_metric(active, 0.0);
    }
}

#[test]
fn the_101st_stream_of_a_client_is_refused_alone() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&waiting);
    let upstream = Upstream::run(move |conversation| {
        loop {
            conversation.request()?;
            count.fetch_add(1, Ordering::SeqCst);
            while count.load(Ordering::SeqCst) < 100 {
                std::thread::sleep(Duration::from_millis(5));
            }
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = Framed::connect(sidecar.address);
    let settings = client.until(SETTINGS).payload;
    // MAX_CONCURRENT_STREAMS.
    assert!(settings.chunks(6).any(|pair| pair == [0, 3, 0, 0, 0, 100]), "{settings:?}");
    let ids = |range: std::ops::Range<u32>| range.map(|number| number * 2 + 1);
    ids(0..99).for_each(|id| client.write(&get(id)));
    eventually(|| waiting.load(Ordering::SeqCst) == 99, || "they do not arrive".to_owned());
    // The hundredth, with its body still open, and one too many.
    client.write(&[post(199, "localhost"), get(201)].concat());
    let reset = client.until(RST_STREAM);
    assert_eq!((reset.stream, reset.payload.as_slice()), (201, REFUSED_STREAM));
    client.write(&frame(DATA, LAST, 199, b"x"));
    let mut answered = 0;
    while answered < 100 {
        let frame = client.next().expect("an answer");
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
        answered += usize::from(frame.kind == DATA && frame.flags & LAST != 0);
    }
    client.write(&get(203));
    assert_eq!(client.until(HEADERS).stream, 203);
    assert_eq!(upstream.requests().len(), 101);
}

#[test]
fn the_101st_stream_to_an_upstream_needs_another_connection() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&waiting);
    let upstream = Http2::run(move |mut exchange| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            while count.load(Ordering::SeqCst) < 101 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            exchange.answer(Response::new(()), "all");
        }
    });
    let sidecar = before(&upstream);
    let mut clients: Vec<Client> = (0..101).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    }
    for client in &mut clients {
        client.stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        assert_eq!(client.answer().text(), "all");
    }
    assert_eq!(upstream.connections(), 2);
}
