//! A million requests of every kind at full speed, some of whose answers are cut off: everybody
//! gets the own answer, and nothing cut off looks whole (P12, P42).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::http::{Head, Wire, chunk};
use crate::program::{Program, origin};

const CLIENTS: u64 = 48;

/// What an answer to `id` holds: so many bytes that only it can hold.
fn content(id: u64, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(id);
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        out.extend_from_slice(&random.u64(..).to_be_bytes());
    }
    out.truncate(size);
    out
}

fn number(head: &Head, name: &str) -> u64 {
    head.get(name).and_then(|value| value.parse().ok()).expect("a number")
}

/// Answers as the fields of the request say.
fn answer(wire: &mut Wire, head: &Head) -> std::io::Result<()> {
    let got = wire.text(head)?;
    let (id, size) = (number(head, "x-id"), number(head, "x-size") as usize);
    let upload = number(head, "x-upload") as usize;
    let body = content(id, size);
    if got != content(!id, upload) {
        return wire.send(b"HTTP/1.1 500 mixed up\r\ncontent-length: 0\r\n\r\n");
    }
    let (method, _) = head.target();
    let cut = number(head, "x-cut") == 1;
    let until = if cut { size / 2 } else { size };
    let stream = &mut wire.stream;
    let mut out = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\n").into_bytes();
    match (method, number(head, "x-kind")) {
        ("HEAD", _) => out.extend_from_slice(format!("content-length: {size}\r\n\r\n").as_bytes()),
        (_, 0) => {
            out.extend_from_slice(format!("content-length: {size}\r\n\r\n").as_bytes());
            out.extend_from_slice(&body[..until]);
        }
        (_, 1) => {
            stream.write_all(&[&out[..], b"transfer-encoding: chunked\r\n\r\n"].concat())?;
            for part in body[..until].chunks(5_000) {
                chunk(stream, part)?;
            }
            if cut {
                return Err(std::io::ErrorKind::Other.into());
            }
            return stream.write_all(b"0\r\n\r\n");
        }
        _ => {
            // A piece at a time.
            out.extend_from_slice(format!("content-length: {size}\r\n\r\n").as_bytes());
            stream.write_all(&out)?;
            for part in body[..until].chunks(3_000) {
                stream.write_all(part)?;
            }
            out.clear();
        }
    }
    stream.write_all(&out)?;
    if cut { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
}

/// Most are small.
fn some_size(random: &mut fastrand::Rng) -> usize {
    match random.u8(..100) {
        0..50 => random.usize(0..200),
        50..90 => random.usize(200..5_000),
        90..99 => random.usize(5_000..40_000),
        _ => random.usize(40_000..200_000),
    }
}

#[derive(Default)]
struct Tally {
    whole: AtomicU64,
    cut: AtomicU64,
    reset: AtomicU64,
}

fn client(program: &Program, own: u64, requests: u64, tally: &Tally) {
    let mut random = fastrand::Rng::with_seed(own);
    let mut wire = Wire::new(program.connect());
    for round in 0..requests {
        let id = own << 32 | round;
        let method = ["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"][random.usize(..7)];
        let has_body = matches!(method, "POST" | "PUT");
        let size = some_size(&mut random);
        let upload = if has_body { some_size(&mut random) } else { 0 };
        let cut = method != "HEAD" && size > 1 && random.u8(..) < 3;
        let chunked = has_body && random.bool();
        let mut request = format!(
            "{method} /{id} HTTP/1.1\r\nHost: localhost\r\nX-Id: {id}\r\nX-Size: {size}\r\nX-Upload: {upload}\r\n\
             X-Cut: {}\r\nX-Kind: {}\r\n",
            u8::from(cut),
            random.u8(..3)
        )
        .into_bytes();
        let body = content(!id, upload);
        if chunked {
            request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(7_000) {
                request.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                request.extend_from_slice(part);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        } else if has_body {
            request.extend_from_slice(format!("Content-Length: {upload}\r\n\r\n").as_bytes());
            request.extend_from_slice(&body);
        } else {
            request.extend_from_slice(b"\r\n");
        }
        wire.send(&request).expect("the program takes requests");
        let head = match wire.head() {
            Ok(head) => head,
            // The answer's head was lost with its cut body.
            Err(_) if cut => {
                tally.cut.fetch_add(1, Ordering::Relaxed);
                wire = Wire::new(program.connect());
                continue;
            }
            Err(error) => panic!("{id}: no answer: {error}"),
        };
        if head.status() != 200 {
            // Where the upstream cut the answer before, the connection may have been used again.
            assert_eq!(head.status(), 502, "{id} {method}: {}", head.start);
            assert!(cut || has_body, "{id} {method}: {}", head.start);
            wire.text(&head).expect("a whole refusal");
            tally.reset.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        assert_eq!(number(&head, "x-id"), id, "another's answer");
        if method == "HEAD" {
            assert_eq!(number(&head, "content-length"), size as u64);
            tally.whole.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        match wire.text(&head) {
            Ok(text) => {
                assert!(!cut, "{id}: a cut answer looks whole: {} of {size}", text.len());
                assert!(text == content(id, size), "{id}: other bytes");
                tally.whole.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(cut, "{id}: a whole answer was cut: {error}");
                tally.cut.fetch_add(1, Ordering::Relaxed);
                wire = Wire::new(program.connect());
            }
        }
    }
}

pub fn run(binary: &str) {
    let requests = crate::count("SCALE_REQUESTS", 1_000_000);
    let address = origin(|stream| {
        let mut wire = Wire::new(stream);
        loop {
            let head = wire.head()?;
            answer(&mut wire, &head)?;
        }
    });
    let program = Arc::new(Program::start(binary, address, "workers: 2\n"));
    let before = program.memory().0;
    let tally = Arc::new(Tally::default());
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|own| {
            let (program, tally) = (Arc::clone(&program), Arc::clone(&tally));
            std::thread::spawn(move || client(&program, own, requests / CLIENTS, &tally))
        })
        .collect();
    for one in clients {
        one.join().unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "mixed: {requests} requests in {took:.0} s ({:.0}/s): {} whole, {} cut and told so, {} answered 502; no mix-up; memory grew by {:.1} MiB",
        requests as f64 / took,
        get(&tally.whole),
        get(&tally.cut),
        get(&tally.reset),
        program.memory().1.saturating_sub(before) as f64 / 1024.0
    );
    assert!(get(&tally.cut) > requests / 500);
    assert!(get(&tally.reset) < requests / 1000);
}
