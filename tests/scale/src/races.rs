//! The upstream closes connections just when they are used again, ten thousand times: no POST is
//! sent twice, no GET fails (P23, P24).

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::http::Wire;
use crate::program::{Program, origin};

/// Each with an upstream of its own: on a shared one they would keep each other's connections warm.
const CLIENTS: usize = 8;

/// How long an upstream waits for the next request.
const PATIENCE: Duration = Duration::from_millis(8);

/// What an upstream saw.
#[derive(Default)]
struct Seen {
    posts: HashSet<String>,
    twice: bool,
    closed: u64,
    last: Option<Instant>,
}

/// Looks once, `PATIENCE` after an answer, whether there is a next request, and if not closes.
fn impatient() -> (SocketAddr, Arc<Mutex<Seen>>) {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let own = Arc::clone(&seen);
    let address = origin(move |stream| {
        let mut wire = Wire::new(stream);
        loop {
            let head = wire.head()?;
            let (method, path) = head.target();
            if method == "POST" {
                let mut seen = own.lock().unwrap();
                seen.twice |= !seen.posts.insert(path.to_owned());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
            wire.body(&head, |_| {})?;
            wire.send(answer.as_bytes())?;
            std::thread::sleep(PATIENCE);
            wire.stream.set_nonblocking(true)?;
            let next = wire.stream.peek(&mut [0]);
            if next.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                let mut seen = own.lock().unwrap();
                drop(wire);
                seen.closed += 1;
                seen.last = Some(Instant::now());
                return Ok(());
            }
            wire.stream.set_nonblocking(false)?;
        }
    });
    (address, seen)
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    closed: AtomicU64,
    /// Requests that were sent within half a millisecond of the closing.
    close: AtomicU64,
    refused: AtomicU64,
}

/// GET and POST by turns until there were so many closed connections.
fn client(program: &Program, own: usize, races: u64, tally: &Tally, seen: &Mutex<Seen>) {
    let mut random = fastrand::Rng::with_seed(own as u64);
    let mut wire = Wire::new(program.connect());
    // Follows the moment at which the upstream closes: earlier after it has, later after it has not.
    let mut delay = PATIENCE;
    let mut before = 0;
    for round in 0..races {
        if tally.closed.load(Ordering::Relaxed) >= races {
            return;
        }
        std::thread::sleep(delay + Duration::from_micros(random.u64(..200)));
        let post = round % 2 == 1;
        let path = format!("/{own}/{round}");
        let request = if post {
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
        } else {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        };
        let sent = Instant::now();
        wire.send(request.as_bytes()).unwrap();
        let head = wire.head().unwrap();
        let text = wire.text(&head).unwrap();
        tally.requests.fetch_add(1, Ordering::Relaxed);
        if head.status() == 200 {
            assert_eq!(text, path.as_bytes());
        } else {
            assert!(post, "a GET failed: {}", head.start);
            tally.refused.fetch_add(1, Ordering::Relaxed);
        }
        let (closed, last) = {
            let seen = seen.lock().unwrap();
            (seen.closed, seen.last)
        };
        if closed == before {
            delay += Duration::from_micros(50);
            continue;
        }
        before = closed;
        delay = delay.saturating_sub(Duration::from_micros(50));
        tally.closed.fetch_add(1, Ordering::Relaxed);
        let apart = last.map(|last| last.max(sent) - last.min(sent));
        if apart.is_some_and(|apart| apart < Duration::from_micros(500)) {
            tally.close.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub fn run(binary: &str) {
    let races = crate::count("SCALE_RACES", 10_000);
    let upstreams: Vec<_> = (0..CLIENTS).map(|_| impatient()).collect();
    let origins: Vec<SocketAddr> = upstreams.iter().map(|(address, _)| *address).collect();
    let mut program = Program::before_each(binary, &origins);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for (own, (_, seen)) in upstreams.iter().enumerate() {
            let (program, tally) = (&program, &tally);
            scope.spawn(move || client(program, own, races, tally, seen));
        }
    });
    program.assert_alive();
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "races: {} requests, {} met a connection that was closed, {} of them within 0.5 ms: no GET failed, {} POSTs answered 502",
        get(&tally.requests),
        get(&tally.closed),
        get(&tally.close),
        get(&tally.refused)
    );
    let twice = upstreams.iter().any(|(_, seen)| seen.lock().unwrap().twice);
    assert!(!twice, "a POST was sent twice");
    assert!(get(&tally.closed) >= races, "too few races");
    assert!(get(&tally.close) > races / 10, "too few of them close");
}
