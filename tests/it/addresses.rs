//! Upstreams at several addresses, and at Unix sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Place, Sidecar, Upstream, eventually};

/// A sidecar before one upstream at these addresses.
fn before(upstreams: &[&Upstream], limits: &str) -> Sidecar {
    let addresses: Vec<String> =
        upstreams.iter().map(|upstream| format!("'{}'", upstream.address)).collect();
    let yaml = format!(
        "limits: {{{limits}}}\nroutes: [{{upstream: {{url: 'http://api.internal/', addresses: [{}]}}, inject: {{Authorization: Bearer secret-credential}}}}]",
        addresses.join(", ")
    );
    Sidecar::start(upstreams[0], &yaml)
}

const EJECTED: &str = "bearerd_upstream_addresses_ejected{route=\"route-1\"}";
const EJECTIONS: &str = "bearerd_upstream_ejections_total{route=\"route-1\"}";

#[test]
fn addresses_take_turns() {
    let (one, two, three) = (Upstream::ok(), Upstream::ok(), Upstream::ok());
    let sidecar = before(&[&one, &two, &three], "");
    let mut client = sidecar.client();
    for _ in 0..30 {
        assert_eq!(client.get("/").status(), 200);
    }
    for upstream in [&one, &two, &three] {
        assert_eq!((upstream.requests().len(), upstream.connections()), (10, 1));
        assert_eq!(upstream.requests()[0].head.one("host"), "api.internal");
    }
    assert!(sidecar.metric(EJECTIONS) < 0.5);
}

#[test]
fn an_address_that_is_gone_costs_no_request_and_is_set_aside() {
    let (one, gone) = (Upstream::ok(), Upstream::gone());
    let sidecar = before(&[&one, &gone], "");
    let mut client = sidecar.client();
    for i in 0..20 {
        // Nothing of it was written, so a POST goes elsewhere too.
        client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 2"]);
        assert_eq!(client.send("hi").answer().status(), 200, "request {i}");
    }
    assert_eq!(one.requests().len(), 20);
    assert!(one.requests().iter().all(|request| request.body == b"hi"));
    // Both what connects and what chooses note it: the address is one all the same.
    sidecar.await_metric(EJECTED, 1.0);
    assert!(sidecar.metric(EJECTIONS) < 6.5, "{}", sidecar.metric(EJECTIONS));
}

#[test]
fn an_address_that_comes_back_is_used_again() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let sick = Upstream::run(move |conversation| {
        loop {
            conversation.request()?;
            if !is_well.load(Ordering::SeqCst) {
                return Ok(());
            }
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback")?;
        }
    });
    let one = Upstream::ok();
    let sidecar = before(&[&one, &sick], "");
    let mut client = sidecar.client();
    // A GET that was not heard goes elsewhere, once.
    for i in 0..20 {
        assert_eq!(client.get("/").text(), "ok", "request {i}");
    }
    assert_eq!(sick.requests().len(), 3, "set aside after the third");
    assert!(sidecar.metric(EJECTED) > 0.5);
    well.store(true, Ordering::SeqCst);
    eventually(|| sidecar.client().get("/").text() == "back", || "never used again".to_owned());
    sidecar.await_metric(EJECTED, 0.0);
}

#[test]
fn when_all_are_set_aside_one_is_tried() {
    let (gone, lost) = (Upstream::gone(), Upstream::gone());
    let sidecar = before(&[&gone, &lost], "");
    for _ in 0..5 {
        let answer = sidecar.client().get("/");
        assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
    }
    // One of them is back, with no time to wait for it.
    let listener = std::net::TcpListener::bind(lost.address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let read = stream.read(&mut [0; 4096]).unwrap_or(0);
            if read > 0 {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback"));
            }
        }
    });
    assert_eq!(sidecar.client().get("/").text(), "back");
}

#[test]
fn a_post_that_was_written_is_not_sent_elsewhere_p23() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let rude = move || {
        let seen = Arc::clone(&seen);
        Upstream::run(move |conversation| {
            conversation.request()?;
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let (one, two) = (rude(), rude());
    let sidecar = before(&[&one, &two], "");
    let mut client = sidecar.client();
    client.request(&["POST / HTTP/1.1", "Host: localhost", "Content-Length: 2"]);
    let answer = client.send("hi").answer();
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-reset"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// A server at a Unix socket that answers every request with its `Host`.
fn at_socket(place: &Place) -> PathBuf {
    let path = place.path().join("upstream.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut head) {
                    let text = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
                    let host = host.unwrap_or_default();
                    assert!(text.contains("authorization: bearer secret-credential"));
                    let length = host.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{host}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    path
}

#[test]
fn a_unix_socket_is_an_upstream() {
    let place = Place::new();
    let path = at_socket(&place);
    for (written, host) in [
        (format!("'unix:{}'", path.display()), "localhost"),
        (format!("{{url: 'http://app.internal/', socket: '{}'}}", path.display()), "app.internal"),
    ] {
        let yaml = format!(
            "routes: [{{upstream: {written}, inject: {{Authorization: Bearer secret-credential}}}}]"
        );
        let sidecar = Sidecar::start(&Upstream::gone(), &yaml);
        let mut client = sidecar.client();
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!((answer.status(), answer.text().as_str()), (200, host));
        }
    }
    std::fs::remove_file(&path).unwrap();
    let yaml = format!("routes: [{{upstream: 'unix:{}'}}]", path.display());
    let answer = Sidecar::start(&Upstream::gone(), &yaml).client().get("/");
    assert_eq!((answer.status(), answer.refusal().as_str()), (502, "upstream-connect"));
    assert!(answer.text().contains(&path.display().to_string()));
}
