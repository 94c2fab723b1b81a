//! What a shared store can do wrong that a real one will not do on demand. None of it may cost a
//! request, nor delay a renewal by more than a moment. What needs a real Redis is in `tests/redis`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Issuer, Sidecar, Upstream, eventually, pass, secs, simple, tolerance, within,
};

/// Something that listens where Redis should.
struct Double {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Double {
    /// Answers every packet of bytes with these, and ends the connection after so many answers.
    fn answering(answer: &'static [u8], answers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                seen.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0_u8; 4096];
                    for _ in 0..answers {
                        match stream.read(&mut bytes) {
                            Ok(count) if count > 0 => stream.write_all(answer).ok(),
                            _ => return,
                        };
                    }
                });
            }
        });
        Self { address, connections }
    }

    fn sidecar(&self, issuer: &Issuer, upstream: &Upstream) -> Sidecar {
        let state = format!(
            ", state: {{redis: {{url: \"redis://{}\", key: {{file: DIR/key}}, \
             username: bob, password: {{file: DIR/password}}}}}}",
            self.address
        );
        let launch = Sidecar::launch();
        launch.write("key", "0123456789abcdef0123456789abcdef");
        launch.write("password", "hunter2hunter2");
        launch.start(&simple(&issuer.url(), upstream, &state))
    }
}

const FOREVER: usize = usize::MAX;

/// The greeting asks three things at once.
const ALL_WELL: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n+OK\r\n";

#[test]
fn whatever_the_store_answers_the_token_is_there_and_requests_are_served() {
    let cases = [
        ("silence", b"".as_slice(), FOREVER),
        ("a cut connection", b"".as_slice(), 1),
        ("a store that loads", b"-LOADING Redis is loading\r\n".as_slice(), FOREVER),
        (
            "an old one that quotes",
            b"-ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `bob` `hunter2hunter2`\r\n"
                .as_slice(),
            FOREVER,
        ),
        ("a wrong password", b"-WRONGPASS invalid username-password pair\r\n".as_slice(), FOREVER),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), FOREVER),
        ("a greeting and no more", ALL_WELL, 1),
        ("a greeting again and again", ALL_WELL, FOREVER),
    ];
    std::thread::scope(|scope| {
        for (what, answer, answers) in cases {
            scope.spawn(move || serves_beside(what, &Double::answering(answer, answers)));
        }
    });
}

fn serves_beside(what: &str, store: &Double) {
    let (issuer, upstream) = (Issuer::giving(4.0), Upstream::ok());
    let sidecar = store.sidecar(&issuer, &upstream);
    within(secs(1.5), what, || sidecar.is_ready());
    let load = sidecar.load(40);
    issuer.await_posts(3);
    let gaps = issuer.gaps();
    assert!(gaps.iter().all(|gap| *gap < 3.6 + tolerance()), "{what}: {gaps:?}");
    load.end_without_errors();
    upstream.assert_none_expired(&issuer, 3.6);
    assert_eq!(sidecar.metric("bearerd_token_store_up"), 0.0, "{what}");
    let log = sidecar.log();
    assert_eq!(log.matches("going on alone").count(), 1, "{what}, told once: {log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// Connections to a store that fails are tried later and later.
#[test]
fn a_store_that_refuses_is_not_hammered() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let store = Double::answering(b"-LOADING Redis is loading\r\n", FOREVER);
    let sidecar = store.sidecar(&issuer, &upstream);
    sidecar.await_ready();
    eventually("a first try", || store.connections.load(Ordering::SeqCst) > 0);
    pass(8.0);
    let tries = store.connections.load(Ordering::SeqCst);
    // After 0.5, 1, 2, 4 s at most and half of that at least.
    assert!((3..=6).contains(&tries), "{tries} connections in eight seconds");
}
