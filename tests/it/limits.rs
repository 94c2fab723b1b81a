//! Limits on time and number, and the end of the process (S37, S38; P18, P22).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Socket, Type};

use crate::support::{Sidecar, Upstream, eventually};

const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_head_that_trickles_is_answered_408() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "head: 200ms");
    let mut client = sidecar.client();
    let began = SystemTime::now();
    client.send("GET / HTTP/1.1\r\nHost: loc");
    let mut stream = client.stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let answer = client.answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (408, "head-timeout"));
    assert!(client.is_closed());
    let took = began.elapsed().unwrap();
    assert!(took > Duration::from_millis(190) && took < SOON, "{took:?}");
    trickle.join().unwrap();
    // The second request of a connection has the same time.
    let mut client = sidecar.client();
    assert_eq!(client.get("/").status(), 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.send("GET / HT").answer().status(), 408);
    assert_eq!(upstream.requests().len(), 1);
    let series = "bearerd_rejected_total{reason=\"head-timeout\"}";
    assert!((sidecar.metric(series) - 2.0).abs() < 0.5);
}

#[test]
fn silent_connections_are_closed() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "head: 150ms, idle: 300ms");
    let mut silent = sidecar.client();
    let began = SystemTime::now();
    assert!(silent.is_closed());
    assert!(began.elapsed().unwrap() < SOON);
    let mut idle = sidecar.client();
    assert_eq!(idle.get("/").status(), 200);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(idle.get("/").status(), 200);
    let began = SystemTime::now();
    assert!(idle.is_closed());
    assert!(began.elapsed().unwrap() < SOON);
    sidecar.await_metric("bearerd_connections", 0.0);
}

#[test]
fn a_body_that_stops_is_answered_408() {
    let upstream = Upstream::ok();
    // A loaded machine may let a thread sleep for half a second longer than it wanted to.
    let sidecar = Sidecar::limited(&upstream, "body_idle: 1s, response_head: 10s");
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 10"]).send("hello");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (408, "body-timeout"));
    assert_eq!(answer.head.one("connection"), "close");
    assert!(client.is_closed());
    // A body that goes on, slowly, is fine.
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 10"]);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        client.send("x");
    }
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::limited(&upstream, "response_head: 200ms");
    let mut client = sidecar.client();
    let began = SystemTime::now();
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (504, "upstream-timeout"));
    assert!(began.elapsed().unwrap() < SOON);
    // The client's connection is as good as before.
    assert_eq!(client.get("/").status(), 504);
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(active, 0.0);
}

#[test]
fn endless_informational_answers_are_given_up() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        loop {
            conversation.send("HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n")?;
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let sidecar = Sidecar::limited(&upstream, "response_head: 200ms");
    assert_eq!(sidecar.client().get("/").refusal(), "upstream-timeout");
}

#[test]
fn a_slow_upload_and_a_quiet_stream_are_not_cut() {
    let upstream = Upstream::run(|conversation| {
        let request = conversation.request()?;
        if request.head.start.starts_with("GET") {
            conversation.send("HTTP/1.1 200 OK\r\n\r\nfirst ")?;
            std::thread::sleep(Duration::from_millis(700));
            conversation.send("second")
        } else {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        }
    });
    let limits =
        "head: 100ms, idle: 100ms, body_idle: 300ms, write_idle: 100ms, response_head: 200ms";
    let sidecar = Sidecar::limited(&upstream, limits);
    assert_eq!(sidecar.client().get("/").text(), "first second");
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 8"]);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(60));
        client.send("x");
    }
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
        while conversation.send([0_u8; 65_536]).is_ok() {}
        Ok(())
    });
    let sidecar = Sidecar::limited(&upstream, "write_idle: 200ms");
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    client.head();
    let active = "bearerd_upstream_connections{route=\"route-1\",state=\"active\"}";
    sidecar.await_metric(active, 0.0);
    sidecar.await_metric("bearerd_connections", 0.0);
}

#[test]
fn a_client_that_takes_little_is_not_one_that_takes_nothing_p13() {
    const SIZE: usize = 16 << 20;
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
        conversation.send(vec![7; SIZE])
    });
    let sidecar = Sidecar::limited(&upstream, "write_idle: 1s");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&sidecar.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let (mut buffer, mut count) = (vec![0_u8; 64 * 1024], 0);
    let began = SystemTime::now();
    loop {
        let slowly = began.elapsed().unwrap() < SOON;
        let most = if slowly { 1024 } else { buffer.len() };
        match stream.read(&mut buffer[..most]).expect("no reset") {
            0 => break,
            some => count += some,
        }
        if slowly {
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    assert!(count > SIZE, "{count}");
}

/// Asks for a long answer and takes the last of it slowly, having done `then` before. The connection
/// and how many bytes came, of what follows too; none if not all of it came.
fn takes_its_time_for_the_end(
    sidecar: &Sidecar,
    then: impl FnOnce(&mut TcpStream),
) -> Option<(TcpStream, usize)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&sidecar.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut buffer = [0; 2048];
    let mut count = 0;
    while count < LONG - 250_000 {
        count += stream.read(&mut buffer).unwrap();
    }
    then(&mut stream);
    while count < LONG {
        match stream.read(&mut buffer).unwrap() {
            0 => return None,
            some => count += some,
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Some((stream, count))
}

/// So long that its end stays with us for a while, in buffers.
const LONG: usize = 1 << 20;

fn long() -> Upstream {
    Upstream::run(|conversation| {
        loop {
            conversation.request()?;
            conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n"))?;
            conversation.send(vec![7; LONG])?;
        }
    })
}

/// The upstream is through with it, and hyper too.
#[test]
fn the_end_of_an_answer_that_a_client_takes_slowly_is_not_idleness_p13() {
    let sidecar = Sidecar::limited(&long(), "idle: 100ms");
    assert!(takes_its_time_for_the_end(&sidecar, |_| {}).is_some());
}

#[test]
fn the_end_of_an_answer_that_a_client_takes_slowly_is_under_way_when_draining_begins() {
    let sidecar = Sidecar::before(&long());
    assert!(takes_its_time_for_the_end(&sidecar, |_| sidecar.shutdown.drain()).is_some());
    sidecar.await_metric("bearerd_connections", 0.0);
}

#[test]
fn a_request_behind_an_answer_that_is_taken_slowly_is_no_slow_head_p25() {
    let sidecar = Sidecar::limited(&long(), "head: 100ms, idle: 100ms");
    let (mut stream, count) = takes_its_time_for_the_end(&sidecar, |stream| {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
    })
    .expect("all of the first answer");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(count + rest.len() > 2 * LONG, "{count} and {}", rest.len());
}

#[test]
fn connections_beyond_the_limit_are_answered_503() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::limited(&upstream, "connections: 2");
    let (mut first, mut second) = (sidecar.client(), sidecar.client());
    assert_eq!((first.get("/").status(), second.get("/").status()), (200, 200));
    let mut third = sidecar.client();
    let answer = third.answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (503, "connections"));
    assert!(answer.head.has("retry-after"));
    drop(first);
    sidecar.await_metric("bearerd_connections", 1.0);
    assert_eq!(sidecar.client().get("/").status(), 200);
}

#[test]
fn draining_ends_idle_connections_and_lets_requests_finish() {
    let upstream = Upstream::ok_at_leisure();
    let sidecar = Sidecar::start(&upstream, "workers: 2\n");
    let (mut idle, mut busy, mut fresh) = (sidecar.client(), sidecar.client(), sidecar.client());
    assert_eq!(idle.get("/").status(), 200);
    busy.request(&["GET /slow HTTP/1.1", "Host: localhost"]);
    eventually(|| upstream.requests().len() == 2, || "no request".to_owned());
    sidecar.shutdown.drain();
    assert!(idle.is_closed());
    assert!(fresh.is_closed());
    let answer = busy.answer();
    assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()));
    assert_eq!(answer.head.one("connection"), "close");
    assert!(busy.is_closed());
    eventually(|| TcpStream::connect(sidecar.address).is_err(), || "still listening".to_owned());
}

/// Runs `scene`, which returns when draining began and what to look at, until this machine has let it
/// send all within the time that a connection at rest has; then looks.
fn in_time<T>(mut scene: impl FnMut() -> (SystemTime, T), look: impl FnOnce(T)) {
    for _ in 0..20 {
        let (began, sent) = scene();
        if began.elapsed().unwrap() < Duration::from_millis(200) {
            return look(sent);
        }
    }
    panic!("this machine is too slow for the test");
}

/// A client at rest cannot know that it is to send nothing more.
#[test]
fn a_request_on_its_way_when_draining_begins_is_answered_as_the_last() {
    let scene = || {
        let upstream = Upstream::ok();
        let sidecar = Sidecar::start(&upstream, "workers: 2\n");
        let mut clients: Vec<_> = (0..20).map(|_| sidecar.client()).collect();
        for kept in clients.iter_mut().step_by(2) {
            assert_eq!(kept.get("/").status(), 200);
        }
        let began = SystemTime::now();
        sidecar.shutdown.drain();
        let is_shut = || TcpStream::connect(sidecar.address).is_err();
        eventually(is_shut, || "still listening".to_owned());
        for client in &mut clients {
            client.request(&["GET / HTTP/1.1", "Host: localhost"]);
        }
        (began, (upstream, sidecar, clients))
    };
    in_time(scene, |(_upstream, _sidecar, mut clients)| {
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!((answer.status(), answer.head.one("connection")), (200, "close".to_owned()));
            assert!(client.is_closed());
        }
    });
}

/// Whether or not a worker has looked at them yet.
#[test]
fn connections_that_stand_when_draining_begins_are_served() {
    let scene = || {
        let upstream = Upstream::ok();
        let sidecar = Sidecar::start(&upstream, "workers: 2\n");
        let mut clients: Vec<_> = (0..20).map(|_| sidecar.client()).collect();
        let began = SystemTime::now();
        sidecar.shutdown.drain();
        for client in &mut clients {
            client.request(&["GET / HTTP/1.1", "Host: localhost"]);
        }
        (began, (upstream, sidecar, clients))
    };
    for round in 0..30 {
        in_time(scene, |(_upstream, _sidecar, mut clients)| {
            for client in &mut clients {
                assert_eq!(client.answer().status(), 200, "in round {round}");
            }
        });
    }
}

#[test]
fn closing_ends_everything() {
    let upstream = Upstream::run(|conversation| {
        conversation.request()?;
        conversation.until_closed()
    });
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.client();
    client.request(&["GET / HTTP/1.1", "Host: localhost"]);
    eventually(|| upstream.requests().len() == 1, || "no request".to_owned());
    sidecar.shutdown.close();
    let began = SystemTime::now();
    assert!(client.is_closed());
    assert!(began.elapsed().unwrap() < SOON);
}

#[test]
fn connections_are_spread_over_the_workers() {
    let upstream = Upstream::ok();
    let sidecar = Sidecar::start(&upstream, "workers: 4\n");
    let mut clients: Vec<_> = (0..40).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
    for client in &mut clients {
        let mut byte = [0_u8; 1];
        client.stream.set_nonblocking(true).unwrap();
        assert_eq!(
            client.stream.read(&mut byte).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
    }
    assert!((sidecar.metric("bearerd_connections") - 40.0).abs() < 0.5);
}
