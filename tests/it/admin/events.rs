//! Who follows the events, reads the list of requests, or renews a token.

use super::*;

/// What a stream of events says, read as it comes.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(demo: &Demo, fields: &str) -> Self {
        let mut stream = TcpStream::connect(demo.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /status/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line; none at the end of the answer or of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).unwrap();
        (count > 0 && line != "0\r\n").then(|| line.trim_end().to_owned())
    }

    fn head(&mut self) -> String {
        let lines = std::iter::from_fn(|| self.line().filter(|line| !line.is_empty()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The data of the next event of this name for which `fits` holds.
    fn find(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line().expect("the stream goes on");
            if line == format!("event: {name}") {
                let data = self.line().unwrap();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                if fits(&data) {
                    return data;
                }
            }
        }
    }
}

#[test]
fn whoever_follows_the_events_sees_requests_by_names_alone() {
    let demo = Demo::start("127.0.0.1:0");
    let mut events = Events::open(&demo, "Accept: text/event-stream\r\n");
    let head = events.head();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(events.find("status", |_| true)["tokens"][0]["name"], "api");
    let fields = "Host: localhost\r\nAuthorization: Bearer canary-1\r\nX-Own: canary-2\r\n";
    demo.get(demo.proxy, "/hello/0123456789abcdefcanary?key=canary-3", fields);
    demo.get(demo.proxy, "/", "Host: canary.example\r\n");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Value::Array(news) = events.find("requests", |_| true) else { panic!("a list") };
        assert!(!Value::from(news.clone()).to_string().contains("canary"), "{news:?}");
        seen.extend(news);
    }
    let (relayed, refused) = (&seen[0], &seen[1]);
    assert_eq!((&relayed["method"], &relayed["status"]), (&"GET".into(), &200.into()));
    assert_eq!((&relayed["route"], &relayed["path"]), (&"demo".into(), &"/hello/[..]".into()));
    assert_eq!(relayed["stripped"], serde_json::json!(["authorization"]));
    assert_eq!(relayed["injected"], serde_json::json!(["authorization", "organization"]));
    assert_eq!((&relayed["replayed"], &relayed["refusal"]), (&false.into(), &Value::Null));
    assert_eq!((&refused["status"], &refused["refusal"]), (&403.into(), &"host".into()));
    // The same by a single look.
    let (_, list) = demo.ask("/status/requests", "Host: localhost\r\n");
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn nobody_looks_and_no_request_is_kept() {
    let demo = Demo::start("127.0.0.1:0");
    demo.get(demo.proxy, "/before", "Host: localhost\r\n");
    let list = || demo.ask("/status/requests", "Host: localhost\r\n").1;
    assert_eq!(list(), "[]\n", "nobody had looked");
    demo.get(demo.proxy, "/after", "Host: localhost\r\n");
    crate::support::eventually(|| list().contains("/after"), list);
    assert!(!list().contains("/before"));
}

#[test]
fn streams_are_few_and_end_when_the_process_drains() {
    let mut demo = Demo::start("127.0.0.1:0");
    let mut streams: Vec<Events> = (0..16).map(|_| Events::open(&demo, "")).collect();
    for stream in &mut streams {
        assert!(stream.head().starts_with("HTTP/1.1 200 "));
    }
    let head = Events::open(&demo, "Connection: close\r\n").head();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 10"), "{head}");
    // A place is free again when its client goes.
    drop(streams.pop());
    crate::support::eventually(
        || Events::open(&demo, "").head().starts_with("HTTP/1.1 200 "),
        String::new,
    );
    let began = bearerd::vocab::Moment::now();
    demo.terminate();
    assert!(bearerd::vocab::Moment::now().since(began) < Duration::from_secs(5));
    streams[0].find("status", |status| status["draining"] == true);
    while streams[0].line().is_some() {}
}

#[test]
fn pages_of_other_sites_can_neither_follow_nor_read_nor_renew_s2() {
    let demo = Demo::start("127.0.0.1:0");
    demo.await_token();
    let (_, key) = demo.ask("/status/key", "Host: localhost\r\n");
    for site in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:3000\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let fields = format!("Host: localhost\r\n{site}");
        for path in ["/status/events", "/status/requests", "/status/key"] {
            let (head, body) = demo.ask(path, &fields);
            assert!(head.starts_with("HTTP/1.1 403 "), "{path} {site}: {head}");
            assert!(!body.contains(key.trim()), "{body}");
        }
        let (head, _) = demo.renew("api", &format!("{fields}bearerd-key: {}\r\n", key.trim()));
        assert!(head.starts_with("HTTP/1.1 403 "), "{site}: {head}");
    }
    // Without a word about a site, but also without the key, in whatever form it is sent.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        let fields = format!("Host: localhost\r\nContent-Type: {kind}\r\n");
        for given in ["", "bearerd-key: \r\n", "bearerd-key: 0123456789abcdef0123456789abcdef\r\n"]
        {
            let (head, _) = demo.renew("api", &format!("{fields}{given}"));
            assert!(head.starts_with("HTTP/1.1 403 "), "{kind} {given}: {head}");
        }
    }
    let (_, status) = demo.ask("/status", "Host: localhost\r\n");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tokens"][0]["generation"], 1, "nobody had it renewed");
}

#[test]
fn a_program_renews_a_token_once_in_half_a_minute() {
    let demo = Demo::start("127.0.0.1:0");
    let status = || -> Value {
        serde_json::from_str(&demo.ask("/status", "Host: localhost\r\n").1).unwrap()
    };
    crate::support::eventually(|| status()["tokens"][0]["state"] == "fresh", String::new);
    let (_, key) = demo.ask("/status/key", "Host: localhost\r\n");
    let fields = format!("Host: localhost\r\nbearerd-key: {}\r\n", key.trim());
    let (head, body) = demo.renew("api", &fields);
    assert!(head.starts_with("HTTP/1.1 202 ") && body.contains("has begun"), "{head} {body}");
    crate::support::eventually(
        || status()["tokens"][0]["generation"] == 2,
        || status()["tokens"].to_string(),
    );
    let (head, body) = demo.renew("api", &fields);
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after: "), "{head}");
    assert!(body.contains("less than 30 s ago"), "{body}");
    assert!(demo.renew("other", &fields).0.starts_with("HTTP/1.1 404 "));
    let (head, _) = demo.ask("/tokens/api/renew", &fields);
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: POST"), "{head}");
}

#[test]
fn where_others_can_look_requests_are_not_listed_and_nobody_acts() {
    let demo = Demo::start("0.0.0.0:0");
    for path in ["/status/requests", "/status/key"] {
        let (head, body) = demo.ask(path, "Host: localhost\r\n");
        assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("loopback"), "{head} {body}");
    }
    let (head, body) = demo.renew("api", "Host: localhost\r\nbearerd-key: \r\n");
    assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("loopback"), "{head} {body}");
    let mut events = Events::open(&demo, "");
    demo.get(demo.proxy, "/hello", "Host: localhost\r\n");
    let status = events.find("status", |status| status["routes"][0]["traffic"]["requests"] == 1);
    assert_eq!((&status["inspect"], &status["renewable"]), (&"none".into(), &false.into()));
    let (_, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    assert!(page.contains("<meta name=\"bearerd-key\" content=\"\">"));
}
