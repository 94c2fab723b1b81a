//! The process: its end, its configuration, its limits (F47–F51, F53).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use bearerd::vocab::Moment;

use crate::support::{
    Client, Issuer, Reply, Sidecar, Upstream, eventually, pass, reply, secs, simple, tolerance,
    wire, within,
};

/// F47: server-sent events; tunnels are proved where they are carried.
#[test]
fn a_stream_outlives_its_token_f47() {
    let upstream = Upstream::run(|seen, stream| {
        if seen.target != "/stream" {
            return reply(stream, 200);
        }
        stream.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for event in 0..35 {
            let text = format!("data: {event}\n\n");
            stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
            std::thread::sleep(Duration::from_millis(200));
        }
        stream.write_all(b"0\r\n\r\n")
    });
    let issuer = Issuer::giving(2.0);
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let load = sidecar.load(20);
    let mut client = sidecar.client();
    client.ask("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let head = client.reader.head().unwrap();
    assert_eq!(wire::status(&head), 200);
    let mut events = String::new();
    loop {
        let chunk = client.reader.chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        events.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let all: String = (0..35).map(|event| format!("data: {event}\n\n")).collect();
    assert_eq!(events, all);
    load.end_without_errors();
    assert!(upstream.credentials().len() >= 4, "{:?}", upstream.credentials());
    let streams = upstream.seen().iter().filter(|seen| seen.target == "/stream").count();
    assert_eq!(streams, 1);
    upstream.assert_none_expired(&issuer, 1.8);
}

/// F48 with answers of 2 s.
#[test]
fn requests_under_way_are_answered_in_full_before_the_end_f48() {
    let upstream = Upstream::run(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 20\r\n\r\n")?;
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"x")?;
        }
        Ok(())
    });
    let issuer = Issuer::giving(600.0);
    let config = format!("drain_delay: 1s\n{}", simple(&issuer.url(), &upstream, ""));
    let mut sidecar = Sidecar::start(&config);
    sidecar.await_ready();
    let mut clients: Vec<Client> = (0..50).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    eventually("50 requests", || upstream.seen().len() == 50);
    let told = Moment::now();
    sidecar.signal("TERM");
    eventually("unreadiness", || sidecar.admin("/readyz").status == 503);
    let mut late = sidecar.client();
    late.ask("GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // Refused, not left to wait in the kernel for an answer that never comes.
    eventually("refused connections", || TcpStream::connect(sidecar.proxy).is_err());
    assert_eq!(sidecar.admin("/livez").status, 200, "while requests are still under way");
    for client in &mut clients {
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 20));
    }
    assert_eq!(late.answer().unwrap().body.len(), 20, "it came within the delay");
    assert!(Client::connect(sidecar.proxy).and_then(|mut c| c.get("/")).is_err());
    assert!(sidecar.ended(secs(5.0)).success());
    let took = Moment::now().since(told);
    assert!((secs(1.0)..secs(3.5 + tolerance())).contains(&took), "{took:?}");
}

/// Told to stop, with nothing under way, it leaves within a second.
fn ends_at_once(sidecar: &mut Sidecar) {
    let told = Moment::now();
    sidecar.signal("TERM");
    assert!(sidecar.ended(secs(3.0)).success());
    let took = Moment::now().since(told);
    assert!(took < secs(0.75 + tolerance()), "{took:?}");
}

/// F49.
#[test]
fn the_end_does_not_wait_for_an_issuer_f49() {
    let (issuer, upstream) = (Issuer::run(|_| Reply::Stall(secs(60.0))), Upstream::ok());
    let mut sidecar = Sidecar::before(&issuer, &upstream);
    issuer.await_posts(1);
    ends_at_once(&mut sidecar);
}

/// F49: a probe's idle connection holds nothing up either.
#[test]
fn the_end_does_not_wait_for_idle_connections_f49() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let mut sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let mut idle = sidecar.client();
    assert_eq!(idle.get("/").unwrap().status, 200);
    let mut probe = Client::connect(sidecar.admin).unwrap();
    assert_eq!(probe.get("/readyz").unwrap().status, 200);
    ends_at_once(&mut sidecar);
}

/// F49.
#[test]
fn a_second_signal_ends_it_at_once_f49() {
    let upstream = Upstream::run(|_, stream| {
        std::thread::sleep(Duration::from_secs(60));
        reply(stream, 200)
    });
    let issuer = Issuer::giving(600.0);
    let mut sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let mut client = sidecar.client();
    client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    eventually("a request", || upstream.seen().len() == 1);
    sidecar.signal("TERM");
    pass(1.0);
    let told = Moment::now();
    sidecar.signal("TERM");
    let status = sidecar.ended(secs(3.0));
    assert!(
        Moment::now().since(told) < secs(0.25 + tolerance()),
        "{:?}",
        Moment::now().since(told)
    );
    assert!(status.code().is_some() && status.signal().is_none());
    // The request was cut, and says so.
    assert!(client.answer().is_err());
}

/// F50.
#[test]
fn a_broken_configuration_changes_nothing_f50() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let good = simple(&issuer.url(), &upstream, "");
    let sidecar = Sidecar::start(&good);
    sidecar.await_ready();
    let load = sidecar.load(40);
    let failed = || sidecar.metric("bearerd_config_reload_total{result=\"failure\"}");
    for (number, broken) in
        ["routes: []", "{", "\u{0}", &good.replace("client_id", "clientid")].into_iter().enumerate()
    {
        sidecar.dir.write("config.yaml", broken);
        sidecar.signal("HUP");
        within(secs(3.0), "a refusal", || failed() >= (number + 1) as f64);
    }
    // Without a signal, by its content alone.
    sidecar.dir.write("config.yaml", "nonsense");
    let before = failed();
    within(secs(12.0), "a refusal", || failed() > before);
    load.end_without_errors();
    assert_eq!(issuer.count(), 1);
    assert_eq!(upstream.credentials(), ["Bearer token-0"]);
}

/// F51.
#[test]
fn a_reload_leaves_unchanged_tokens_and_requests_under_way_alone_f51() {
    let issuers: Vec<Issuer> = (0..3).map(|_| Issuer::giving(600.0)).collect();
    let upstream = Upstream::run(|seen, stream| {
        if seen.target.ends_with("slow") {
            std::thread::sleep(Duration::from_secs(2));
        }
        reply(stream, 200)
    });
    let config = |scope: &str| {
        let mut text = String::from("tokens:\n");
        for (number, issuer) in issuers.iter().enumerate() {
            let scopes = if number == 2 { scope } else { "read" };
            text += &format!(
                "  t{number}: {{oauth2: {{token_url: \"{}\", client_id: me, \
                 client_secret: {{file: DIR/secret}}, scopes: [{scopes}]}}}}\n",
                issuer.url()
            );
        }
        text += "routes:\n";
        for number in 0..3 {
            text += &format!(
                "  - {{match: {{path: /{number}}}, upstream: \"{}\", \
                 inject: {{Authorization: \"Bearer ${{t{number}}}\"}}}}\n",
                upstream.url()
            );
        }
        text
    };
    let sidecar = Sidecar::start(&config("read"));
    sidecar.await_ready();
    let reload = |scope: &str| {
        let dir = sidecar.dir.path().display().to_string();
        sidecar.dir.write("config.yaml", config(scope).replace("DIR", &dir));
    };
    let slow: Vec<Client> = (0..3)
        .map(|number| {
            let mut client = sidecar.client();
            client.ask(&format!("GET /{number}/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
            client
        })
        .collect();
    eventually("three requests", || upstream.seen().len() == 3);
    let load = crate::support::Load::on(sidecar.proxy, "/0/load", 40);
    reload("write");
    sidecar.signal("HUP");
    issuers[2].await_posts(2);
    assert_eq!(issuers[2].posts()[1].form["scope"], "write");
    for mut client in slow {
        assert_eq!(client.answer().unwrap().status, 200);
    }
    // The same by the file's content, without a signal.
    reload("admin");
    within(secs(12.0), "a third token", || issuers[2].count() == 3);
    load.end_without_errors();
    assert_eq!((issuers[0].count(), issuers[1].count()), (1, 1));
    assert_eq!(sidecar.get("/2").status, 200);
    assert_eq!(upstream.seen().last().unwrap().credential, "Bearer token-2");
}

/// A key that cannot change is told of while it differs from what runs, and no longer.
#[test]
fn a_listener_that_is_changed_back_is_no_matter_for_a_restart() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let sidecar = Sidecar::start(&simple(&issuer.url(), &upstream, ""));
    sidecar.await_ready();
    let config = std::fs::read_to_string(sidecar.dir.path().join("config.yaml")).unwrap();
    let told = || sidecar.log().matches("`limits` is not what runs").count();
    let reloads = || sidecar.metric("bearerd_config_reload_total{result=\"success\"");
    for (number, limits) in [(1.0, "limits: {connect: 2s}\n"), (2.0, "")] {
        sidecar.dir.write("config.yaml", format!("{limits}{config}"));
        sidecar.signal("HUP");
        eventually("a reload", || reloads() >= number);
    }
    assert_eq!(told(), 1, "{}", sidecar.log());
}

/// F53.
#[test]
fn a_flood_of_connections_stops_neither_renewal_nor_probes_f53() {
    let (issuer, upstream) = (Issuer::giving(2.0), Upstream::ok());
    let launch = Sidecar::launch().wrapped(&["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
    let sidecar = launch.start(&simple(&issuer.url(), &upstream, ""));
    sidecar.await_ready();
    assert_eq!(sidecar.get("/").status, 200);
    let flood: Vec<Client> = (0..200).map(|_| sidecar.client()).collect();
    let before = issuer.count();
    issuer.await_posts(before + 3);
    assert!(issuer.gaps().iter().all(|gap| *gap < 1.65 + tolerance()), "{:?}", issuer.gaps());
    assert_eq!(sidecar.admin("/livez").status, 200);
    assert_eq!(sidecar.metric("bearerd_token_refresh_total{reason=\"connect\""), 0.0);
    // Those for whom there was no room were told so, and did not wait.
    let refused = flood
        .into_iter()
        .filter(|client| {
            client.stream.set_nonblocking(true).unwrap();
            let mut first = [0_u8; 12];
            matches!((&client.stream).read(&mut first), Ok(12) if first.ends_with(b"503"))
        })
        .count();
    assert!((100..200).contains(&refused), "{refused} were refused");
    within(secs(5.0), "service", || {
        Client::connect(sidecar.proxy).and_then(|mut c| c.get("/")).is_ok_and(|a| a.status == 200)
    });
}
