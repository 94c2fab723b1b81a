//! A client that leaves ends the work upstream within a second, a thousand times of a thousand
//! (P21): while it waits, while it downloads, and while it listens to events that do not come.

use std::io::Read;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::http::Wire;
use crate::program::{Program, origin};

pub fn run(binary: &str) {
    let rounds = crate::count("SCALE_GONE", 1000);
    let (tell, told) = mpsc::channel();
    let (came, coming) = mpsc::channel();
    let shared = std::sync::Mutex::new((tell, came));
    let address = origin(move |stream| {
        let mut wire = Wire::new(stream);
        let head = wire.head()?;
        let (tell, came) = shared.lock().unwrap().clone();
        let id: u64 = head.target().1.rsplit('/').next().unwrap().parse().unwrap();
        if head.start.contains("/events") {
            wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        } else if head.start.contains("/download") {
            wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")?;
        }
        came.send(id).unwrap();
        if head.start.contains("/download") {
            while wire.send(&[0; 65_536]).is_ok() {}
        } else {
            let _ = wire.stream.read(&mut [0; 16]);
        }
        tell.send((id, Instant::now())).unwrap();
        Ok(())
    });
    let program = Program::start(binary, address, "");
    let mut slowest = Duration::ZERO;
    for id in 0..rounds {
        let path = ["wait", "events", "download"][usize::try_from(id % 3).unwrap()];
        let mut wire = Wire::new(program.connect());
        wire.send(format!("GET /{path}/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(coming.recv_timeout(Duration::from_secs(10)), Ok(id));
        if path != "wait" {
            assert_eq!(wire.head().unwrap().status(), 200);
        }
        let left = Instant::now();
        drop(wire);
        let (ended, when) = told.recv_timeout(Duration::from_secs(10)).expect("an end");
        assert_eq!(ended, id);
        slowest = slowest.max(when.saturating_duration_since(left));
    }
    println!("gone: {rounds} clients left; upstream closed after {slowest:?} at most");
    assert!(slowest < Duration::from_secs(1));
}
