//! Bodies in motion (P9, P12, P13, P19, P21, P22, P32; S14).

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::{PATIENCE, Sidecar, Upstream, eventually, read};

/// Bytes that differ from place to place.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn large_bodies_arrive_byte_for_byte_both_ways() {
    let upstream = Upstream::run(|conversation| {
        loop {
            let request = conversation.request()?;
            if request.head.start.contains("chunked") {
                conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                for chunk in request.body.chunks(7919) {
                    conversation.send(
                        [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat(),
                    )?;
                }
                conversation.send("0\r\n\r\n")?;
            } else {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
                conversation.send(head)?;
                conversation.send(&request.body)?;
            }
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for size in [0, 1, 8191, 8192, 65_536, 300_000, 5_000_000] {
        let body = pattern(size);
        let length = format!("Content-Length: {size}");
        client.request(&["POST /length HTTP/1.1", "Host: localhost", &length]).send(&body);
        assert!(client.answer().body == body, "{size}");
        client.request(&[
            "POST /chunked HTTP/1.1",
            "Host: localhost",
            "Transfer-Encoding: chunked",
        ]);
        for chunk in body.chunks(10_007) {
            client.send([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert!(client.answer().body == body, "chunked {size}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_slow_reader_gets_everything_although_the_connection_closes() {
    let body = Arc::new(pattern(8_000_000));
    let sent = Arc::clone(&body);
    let upstream = Upstream::run(move |conversation| {
        conversation.request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", sent.len()))?;
        conversation.send(&*sent)
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost", "Connection: close"]);
    let mut got = Vec::new();
    let mut chunk = vec![0_u8; 256 * 1024];
    while let count @ 1.. = read(&mut client.stream, &mut chunk).unwrap() {
        got.extend_from_slice(&chunk[..count]);
        std::thread::sleep(Duration::from_millis(2));
    }
    let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(got[head..] == body[..], "{} of {}", got.len() - head, body.len());
}

#[test]
fn each_event_is_passed_on_at_once() {
    // The next event is sent when the one before has arrived: whoever held one back would wait for
    // ever.
    let (arrived, next) = std::sync::mpsc::channel::<()>();
    let next = std::sync::Mutex::new(next);
    let upstream = Upstream::run(move |conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        for i in 0..20 {
            conversation.send(format!("data: {i}\n\n"))?;
            next.lock().unwrap().recv_timeout(PATIENCE).expect("the event has arrived");
        }
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    assert_eq!(client.head().one("transfer-encoding"), "chunked");
    let mut seen = String::new();
    for i in 0..20 {
        while !seen.contains(&format!("data: {i}\n\n")) {
            let bytes = client.some();
            assert!(!bytes.is_empty(), "the stream ended before event {i}");
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(!seen.contains(&format!("data: {}", i + 1)), "{seen}");
        arrived.send(()).unwrap();
    }
}

#[test]
fn a_cut_answer_never_looks_whole() {
    let cuts: [(&str, &str); 4] = [
        ("GET / HTTP/1.1", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        ),
        ("GET / HTTP/1.1", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nonly this"),
        (
            "GET / HTTP/1.0",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        ),
    ];
    for (line, answer) in cuts {
        let upstream = Upstream::run(move |conversation| {
            conversation.request()?;
            conversation.send(answer)
        });
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        client.request(&[line, "Host: localhost"]);
        match client.until_closed() {
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            Ok(bytes) => {
                assert!(line.ends_with("1.1"), "HTTP/1.0 cannot tell this from a whole answer");
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.ends_with("0\r\n\r\n"), "{text}");
                assert!(!text.contains("content-length: 9\r\n"));
            }
        }
        let series = "bearerd_requests_total{code=\"200\",method=\"GET\",route=\"route-1\"}";
        sidecar.await_metric(series, 1.0);
    }
}

#[test]
fn an_early_answer_is_passed_on_and_the_upload_ends() {
    let upstream = Upstream::run(|conversation| {
        conversation.head()?;
        let mut some = vec![0_u8; 64 * 1024];
        conversation.stream.read_exact(&mut some)?;
        conversation.send("HTTP/1.1 413 Too Large\r\ncontent-length: 7\r\n\r\nenough!")?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::before(&upstream);
    for _ in 0..3 {
        let mut client = sidecar.client();
        client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 1073741824"]);
        let began = SystemTime::now();
        let sent = Arc::new(AtomicU64::new(0));
        let (mut stream, count) = (client.stream.try_clone().unwrap(), Arc::clone(&sent));
        let uploader = std::thread::spawn(move || {
            let chunk = vec![7_u8; 64 * 1024];
            while stream.write_all(&chunk).is_ok() {
                count.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
        });
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (413, "enough!".to_owned()));
        assert!(began.elapsed().unwrap() < Duration::from_secs(1));
        uploader.join().unwrap();
        assert!(sent.load(Ordering::SeqCst) < 64 * 1024 * 1024);
    }
    assert_eq!(upstream.connections(), 3);
}

/// An upstream that answers at once with so many bytes, while it reads as many.
fn both_at_once(size: usize) -> Upstream {
    Upstream::run(move |conversation| {
        loop {
            let head = conversation.head()?;
            if !head.start.starts_with("POST") {
                conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
                continue;
            }
            let mut down = conversation.stream.try_clone()?;
            let answer = std::thread::spawn(move || {
                let head = if head.start.contains("/chunked") {
                    format!("transfer-encoding: chunked\r\n\r\n{size:x}\r\n")
                } else {
                    format!("content-length: {size}\r\n\r\n")
                };
                down.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes())?;
                down.write_all(&pattern(size))?;
                if head.contains("chunked") { down.write_all(b"\r\n0\r\n\r\n") } else { Ok(()) }
            });
            assert!(conversation.take(size)? == pattern(size));
            answer.join().unwrap()?;
        }
    })
}

#[test]
fn a_client_that_reads_nothing_before_it_has_sent_everything_is_served_p19() {
    // More than all systems and programs on the way hold.
    const SIZE: usize = 24 * 1024 * 1024;
    for target in ["/length", "/chunked"] {
        let upstream = both_at_once(SIZE);
        let sidecar = Sidecar::limited(&upstream, "write_idle: 2s");
        let mut client = sidecar.client();
        let length = format!("Content-Length: {SIZE}");
        client.request(&[&format!("POST {target} HTTP/1.1"), "Host: localhost", &length]);
        for piece in pattern(SIZE).chunks(SIZE / 16) {
            // Longer in all than it may take nothing; what it sends says that it is there.
            std::thread::sleep(Duration::from_millis(200));
            client.send(piece);
        }
        let answer = client.answer();
        assert_eq!(answer.status(), 200);
        assert!(answer.body == pattern(SIZE));
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(upstream.connections(), 1, "{target}");
        let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
        sidecar.await_metric(active, 0.0);
    }
}

#[test]
fn an_answer_that_breaks_off_beside_its_upload_never_looks_whole_p12_p19() {
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nno size",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
    ] {
        let upstream = Upstream::run(move |conversation| {
            conversation.head()?;
            conversation.send(answer)
        });
        let sidecar = Sidecar::before(&upstream);
        let mut client = sidecar.client();
        client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 100"]);
        client.send("x").head();
        let rest = client.until_closed_or(b"0\r\n\r\n");
        assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 100, "{answer}: {rest:?}");
    }
    // The client's body breaks off, behind the beginning of the answer.
    let upstream = Upstream::run(|conversation| {
        conversation.head()?;
        conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")?;
        conversation.request().map(drop)
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]);
    client.send("1\r\nx\r\n").head();
    client.send("no size\r\n");
    assert!(!client.until_closed_or(b"0\r\n\r\n").ends_with(b"0\r\n\r\n"));
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(active, 0.0);
    assert!(upstream.requests().is_empty(), "half a request looked whole");
}

#[test]
fn a_refusal_while_the_body_is_still_coming_reaches_the_client() {
    let upstream = Upstream::gone();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 3000000"]);
    let mut stream = client.stream.try_clone().unwrap();
    let uploader = std::thread::spawn(move || drop(stream.write_all(&vec![0; 3_000_000])));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
    assert_eq!(answer.head.one("connection"), "close");
    uploader.join().unwrap();
}

#[test]
fn a_client_that_leaves_ends_the_work_upstream() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let upstream = Upstream::run(move |conversation| {
        let request = conversation.request()?;
        if request.head.start.contains("/stream") {
            conversation.send("HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")?;
        } else if request.head.start.contains("/download") {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
            while conversation.send([0_u8; 65536]).is_ok() {}
        }
        conversation.until_closed()?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    for (index, path) in ["/wait", "/stream", "/download"].into_iter().enumerate() {
        let mut client = sidecar.client();
        client.request(&[&format!("GET {path} HTTP/1.1"), "Host: localhost"]);
        if path == "/wait" {
            eventually(|| upstream.requests().len() == index + 1, || "no request".to_owned());
        } else {
            client.head();
        }
        let began = SystemTime::now();
        drop(client);
        eventually(|| ended.load(Ordering::SeqCst) == index + 1, || format!("{path} goes on"));
        assert!(began.elapsed().unwrap() < Duration::from_secs(1), "{path}");
    }
    let series = "bearerd_requests_total{code=\"other\",method=\"GET\",route=\"route-1\"}";
    sidecar.await_metric(series, 1.0);
    sidecar.await_metric("bearerd_requests_in_flight{route=\"route-1\"}", 0.0);
    sidecar.await_metric("bearerd_upstream_connections{route=\"route-1\",state=\"active\"}", 0.0);
}

#[test]
fn a_client_that_leaves_within_its_upload_ends_it_upstream() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let upstream = Upstream::run(move |conversation| {
        let outcome = conversation.request();
        assert!(outcome.is_err(), "a cut body arrived as a whole one");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let sidecar = Sidecar::before(&upstream);
    for (index, framing) in
        ["Content-Length: 10", "Transfer-Encoding: chunked"].into_iter().enumerate()
    {
        let mut client = sidecar.client();
        client.request(&["POST / HTTP/1.1", "Host: localhost", framing]);
        client.send(if index == 0 { "hello" } else { "5\r\nhello\r\n" });
        eventually(|| upstream.connections() == index + 1, || "no request".to_owned());
        drop(client);
        eventually(|| ended.load(Ordering::SeqCst) == index + 1, || "it goes on".to_owned());
    }
}

#[test]
fn a_thousand_informational_answers_are_dropped() {
    let upstream = Upstream::run(|conversation| {
        loop {
            conversation.request()?;
            for _ in 0..1000 {
                conversation.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")?;
            }
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()));
        assert!(!answer.head.has("link"));
    }
}
