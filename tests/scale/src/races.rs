//! The upstream closes connections just when they are used again: no POST is sent twice, no GET
//! fails (P23, P24).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::Wire;
use crate::program::{Program, origin};

/// More would keep the connections of the others warm.
const CLIENTS: u64 = 1;

pub fn run(binary: &str) {
    let races = crate::count("SCALE_RACES", 10_000);
    let posts: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let closed = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (seen, count) = (Arc::clone(&posts), Arc::clone(&closed));
    let address = origin(move |stream| {
        let mut wire = Wire::new(stream);
        loop {
            let head = match wire.head() {
                Ok(head) => head,
                Err(error) => {
                    // Silent for about ten milliseconds: it goes, whatever comes at that moment.
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) {
                        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    return Err(error);
                }
            };
            let (method, path) = head.target();
            if method == "POST" {
                *seen.lock().unwrap().entry(path.to_owned()).or_default() += 1;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
            wire.body(&head, |_| {})?;
            wire.send(answer.as_bytes())?;
            // Of a connection that was used it is impatient.
            wire.stream.set_read_timeout(Some(Duration::from_millis(8)))?;
        }
    });
    let mut program = Program::start(binary, address, "");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|own| {
            let stream = program.connect();
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(own);
                let mut wire = Wire::new(stream);
                let mut refused = 0_u32;
                for round in 0..races / CLIENTS {
                    // About as long as the upstream is patient.
                    std::thread::sleep(Duration::from_micros(random.u64(7_000..13_000)));
                    let post = round % 2 == 1;
                    let path = format!("/{own}/{round}");
                    let request = if post {
                        format!(
                            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
                        )
                    } else {
                        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    };
                    wire.send(request.as_bytes()).unwrap();
                    let head = wire.head().unwrap();
                    let text = wire.text(&head).unwrap();
                    if head.status() == 200 {
                        assert_eq!(text, path.as_bytes());
                    } else {
                        assert!(post, "a GET failed: {}", head.start);
                        refused += 1;
                    }
                }
                refused
            })
        })
        .collect();
    let refused: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    program.assert_alive();
    let twice = posts.lock().unwrap().values().filter(|count| **count > 1).count();
    let closed = closed.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "races: {races} requests, {closed} connections closed under them: no GET failed, {twice} POSTs sent twice, {refused} POSTs answered 502"
    );
    assert_eq!(twice, 0);
    assert!(closed > races / 10, "too few races: {closed}");
}
