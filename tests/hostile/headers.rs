//! Ten thousand heads made to have two credentials arrive, or another one than ours, or none.

use std::io::Write;

use fastrand::Rng;

use super::support::{
    ORGANIZATION, OURS, Program, Upstream, complete, connect, find, read_answer, status,
};

const VARIANTS: usize = 10_000;

/// What no client may set on the route, folded.
const PROTECTED: [&str; 5] =
    ["authorization", "organization", "proxy-authorization", "x-api-key", "x-tenant-id"];

/// A spelling of a name that some server takes for the name.
fn spelled(rng: &mut Rng, name: &str) -> String {
    let style = rng.u8(..4);
    name.chars()
        .map(|c| match (c, style) {
            ('-', _) if rng.u8(..3) == 0 => '_',
            ('-', _) if rng.u8(..8) == 0 => '.',
            (c, 0) => c,
            (c, 1) => c.to_ascii_uppercase(),
            (c, _) if rng.bool() => c.to_ascii_uppercase(),
            (c, _) => c,
        })
        .collect()
}

fn protected(rng: &mut Rng) -> String {
    let name = PROTECTED[rng.usize(..PROTECTED.len())];
    spelled(rng, name)
}

/// A `Connection` line that nominates what it should not.
fn nomination(rng: &mut Rng) -> String {
    let mut line = spelled(rng, "connection") + ":";
    for _ in 0..rng.usize(..5) {
        let gap = ["", " ", "\t", "  ", " \t "][rng.usize(..5)];
        let token = match rng.u8(..6) {
            0 => String::new(),
            1 => "keep-alive".to_owned(),
            2 => "host".to_owned(),
            3 => "te".to_owned(),
            _ => protected(rng),
        };
        line = format!("{line}{gap}{token}{gap},");
    }
    if rng.bool() && line.ends_with(',') {
        line.pop();
    }
    line
}

fn request(rng: &mut Rng, number: usize) -> String {
    let mut lines = vec![format!("{}: localhost", ["Host", "host", "HOST"][rng.usize(..3)])];
    for _ in 0..rng.usize(..6) {
        let gap = ["", " ", "\t", "   "][rng.usize(..4)];
        lines.push(format!("{}:{gap}evil-{}", protected(rng), rng.u16(..)));
    }
    for _ in 0..rng.usize(..4) {
        // `Connection_` is another field, and a listed option besides.
        lines.push(nomination(rng).replace("Connection_", "Connection"));
    }
    for _ in 0..rng.usize(..3) {
        lines.push(format!("X-Fill-{}: {}", rng.u8(..), "f".repeat(rng.usize(..40))));
    }
    let mut body = String::new();
    match rng.u8(..4) {
        0 => {
            lines.push("Content-Length: 4".to_owned());
            body.push_str("evil");
        }
        1 => {
            lines.push("Transfer-Encoding: chunked".to_owned());
            lines.push("TE: trailers".to_owned());
            lines.push(format!("Trailer: {}", PROTECTED.join(", ")));
            body.push_str("4\r\nevil\r\n0\r\n");
            for _ in 0..rng.usize(..5) {
                body.push_str(&format!("{}: evil-{}\r\n", protected(rng), rng.u16(..)));
            }
            body.push_str("\r\n");
        }
        _ => {}
    }
    rng.shuffle(&mut lines);
    format!("POST /{number} HTTP/1.1\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
}

fn folded(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect()
}

/// What is wrong with a request as it arrived.
fn fault(request: &[u8]) -> Option<String> {
    if complete(request) != Some(request.len()) {
        return Some("is no request".to_owned());
    }
    let end = find(request, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&request[..end]);
    let tail = String::from_utf8_lossy(&request[end + 4..]);
    let of = |text: &str| -> Vec<(String, String)> {
        text.split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (folded(name), value.to_owned()))
            .collect()
    };
    let fields = of(&head);
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    };
    if values("authorization") != [OURS] || values("organization") != [ORGANIZATION] {
        return Some(format!("has other credentials: {head}"));
    }
    if !values("proxy-authorization").is_empty() || !values("x-api-key").is_empty() {
        return Some(format!("has credentials of the client: {head}"));
    }
    let trailers = of(&tail);
    let forbidden = trailers.iter().find(|(name, _)| PROTECTED.contains(&name.as_str()));
    forbidden.map(|(name, _)| format!("has the trailer {name}"))
}

#[test]
fn ten_thousand_heads_arrive_with_exactly_our_credentials_s15_s16_s17_s18() {
    let upstream = Upstream::ok();
    let url = upstream.url();
    let program = Program::run(
        "headers",
        &format!(
            "routes:
  - upstream: {url}
    inject: {{Authorization: {OURS}, Organization: {ORGANIZATION}}}
    strip: {{headers: [X-Api-Key, X-Tenant-Id]}}
"
        ),
    );
    let mut rng = Rng::with_seed(0x0bea_2e2d);
    let mut stream = connect(program.proxy);
    for number in 0..VARIANTS {
        let sent = request(&mut rng, number);
        stream.write_all(sent.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(status(&answer), 200, "{number}: {sent}");
        let requests = upstream.take();
        assert_eq!(requests.len(), 1, "{number}: {sent}");
        assert_eq!(fault(&requests[0]), None, "{number}: {sent}");
    }
}
