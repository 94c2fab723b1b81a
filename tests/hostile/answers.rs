//! Answers that are wrong, odd or meant to be read as two: they are refused with 502, or what the
//! client gets is one sound message, and the next client gets none of it.

mod further;

use std::time::{Duration, SystemTime};

use super::support::{OURS, Program, Upstream, crlf, find, plain, status, talk_to_the_end};

enum Expect {
    /// 502.
    Refused,
    /// 504.
    TooLate,
    /// This status with this body.
    Passed(u16, &'static [u8]),
    /// The head passes; then the client's connection breaks off without a proper end.
    Cut,
}
use Expect::{Cut, Passed, Refused, TooLate};

struct Case {
    rule: &'static str,
    method: &'static str,
    answer: Vec<u8>,
    expect: Expect,
}

fn case(rule: &'static str, answer: &str, expect: Expect) -> Case {
    Case { rule, method: "GET", answer: crlf(answer), expect }
}

fn raw(rule: &'static str, answer: &[u8], expect: Expect) -> Case {
    Case { rule, method: "GET", answer: answer.to_vec(), expect }
}

fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(heads());
    all.extend(framings());
    all.extend(chunks());
    all.extend(informational());
    all.extend(leftovers());
    all.extend(leaks());
    all.extend(further::further());
    all
}

fn heads() -> Vec<Case> {
    const RULE: &str = "P16 head";
    let mut all: Vec<Case> = [
        "HTTP/0.9 200 OK\n\n",
        "HTTP/2.0 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.2 200 OK\nContent-Length: 0\n\n",
        "200 OK\n\n",
        "hello\n",
        "HTTP/1.1 20 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 2000 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 abc OK\nContent-Length: 0\n\n",
        "HTTP/1.1 000 No\nContent-Length: 0\n\n",
        "HTTP/1.1 099 No\nContent-Length: 0\n\n",
        "HTTP/1.1  200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nno colon\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\n: x\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nX A: x\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nContent-Length : 0\n\n",
        "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\n X: a\nContent-Length: 0\n\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\nContent-Length: 0\n",
    ]
    .into_iter()
    .map(|text| case(RULE, text, Refused))
    .collect();
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n",
        b"\0\0\0\0",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ] {
        all.push(raw(RULE, bytes, Refused));
    }
    let many: String = (0..200).map(|i| format!("X-{i}: 1\n")).collect();
    all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{many}\n"), Refused));
    let long = "x".repeat(1024 * 1024);
    all.push(case(RULE, &format!("HTTP/1.1 200 {long}\n\n"), Refused));
    all.push(case(RULE, &format!("HTTP/1.1 200 OK\nX: {long}\n\n"), Refused));
    // Lone line feeds end lines and go no further as they are.
    all.push(raw("H2 lone LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Passed(200, b"ok")));
    all.push(case("P16 reason", "HTTP/1.1 200\nContent-Length: 2\n\nok", Passed(200, b"ok")));
    all.push(case("P16 status", "HTTP/1.1 299 Odd\nContent-Length: 2\n\nok", Passed(299, b"ok")));
    all.push(case("P16 status", "HTTP/1.1 799 Odd\nContent-Length: 2\n\nok", Passed(799, b"ok")));
    all
}

fn framings() -> Vec<Case> {
    const RULE: &str = "P15 framing";
    let mut all = Vec::new();
    for lines in [
        "Content-Length: 2\nContent-Length: 3\n",
        "Content-Length: 2, 3\n",
        "Content-Length: -1\n",
        "Content-Length: +2\n",
        "Content-Length: 0x2\n",
        "Content-Length: two\n",
        "Content-Length:\n",
        "Content-Length: 99999999999999999999\n",
        "Transfer-Encoding: gzip, chunked\n",
        "Transfer-Encoding: chunked, chunked\n",
        "Transfer-Encoding: chunked, gzip\n",
        "Transfer-Encoding: identity\n",
        "Transfer-Encoding: xchunked\n",
        "Transfer-Encoding:\n",
        "Transfer-Encoding: gzip\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: xchunked\nContent-Length: 2\n",
    ] {
        all.push(case(RULE, &format!("HTTP/1.1 200 OK\n{lines}\nok"), Refused));
    }
    for lines in ["Content-Length: 2\nContent-Length: 2\n", "Content-Length: 2, 2\n"] {
        let text = format!("HTTP/1.1 200 OK\n{lines}\nok");
        all.push(case(RULE, &text, Passed(200, b"ok")));
    }
    for lines in [
        "Content-Length: 99\nTransfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\nContent-Length: 1\n",
        "Transfer-Encoding: Chunked\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\n{lines}\n2\nok\n0\n\n");
        all.push(case(RULE, &text, Passed(200, b"ok")));
    }
    all.push(case(RULE, "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", Refused));
    all.push(case("P12 cut", "HTTP/1.1 200 OK\nContent-Length: 5\n\nok", Cut));
    all.push(case("P12 close", "HTTP/1.1 200 OK\n\nok", Passed(200, b"ok")));
    all.push(case("P12 old", "HTTP/1.0 200 OK\n\nok", Passed(200, b"ok")));
    all
}

fn chunks() -> Vec<Case> {
    const RULE: &str = "S13 chunk";
    const HEAD: &str = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n";
    let mut all = Vec::new();
    for body in [
        "2\nok\n",
        "2\nok\n0\n",
        "2\nokx\n0\n\n",
        "x\nok\n0\n\n",
        "-2\nok\n0\n\n",
        "0x2\nok\n0\n\n",
        "FFFFFFFFFFFFFFFFF\nok\n",
        "\nok\n0\n\n",
        "2\nok\n0\nbad trailer\n\n",
        "2 2\nok\n0\n\n",
    ] {
        all.push(case(RULE, &format!("{HEAD}{body}"), Cut));
    }
    let head = crlf(HEAD);
    for body in [
        &b"2\nok\r\n0\r\n\r\n"[..],
        b"2\r\nok\n0\r\n\r\n",
        b"2;a\nb\r\nok\r\n0\r\n\r\n",
        b"2\0\r\nok\r\n0\r\n\r\n",
        b"2\r\r\nok\r\n0\r\n\r\n",
        b"2\rok\r\n0\r\n\r\n",
        b"2\r\nok\r0\r\n\r\n",
    ] {
        all.push(raw(RULE, &[&head, body].concat(), Cut));
    }
    // What an extension says, a NUL included, goes no further.
    for body in
        [&b"2;a=b\r\nok\r\n0\r\n\r\n"[..], b"002\r\nok\r\n00\r\n\r\n", b"2;\0\r\nok\r\n0\r\n\r\n"]
    {
        all.push(raw(RULE, &[&head, body].concat(), Passed(200, b"ok")));
    }
    all
}

fn informational() -> Vec<Case> {
    let mut all = Vec::new();
    for text in [
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: h2c\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\n\nraw bytes",
        "HTTP/1.1 101 Switching Protocols\nContent-Length: 2\n\nok",
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 101 Switching Protocols\nUpgrade: x\n\nraw",
    ] {
        all.push(case("S11 101", text, Refused));
    }
    for text in [
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 103 Early Hints\nLink: </x>\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 102 Processing\n\nHTTP/1.1 199 x\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    ] {
        all.push(case("P18 1xx", text, Passed(200, b"ok")));
    }
    let flood = "HTTP/1.1 103 Early Hints\n\n".repeat(10_000);
    all.push(case(
        "P18 flood",
        &format!("{flood}HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        Passed(200, b"ok"),
    ));
    all.push(case("P18 flood", &flood, Refused));
    all
}

fn leftovers() -> Vec<Case> {
    const RULE: &str = "P42 left over";
    let evil = "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil";
    let mut all = vec![
        case(RULE, &format!("HTTP/1.1 200 OK\nContent-Length: 2\n\nok{evil}"), Passed(200, b"ok")),
        case(RULE, &format!("HTTP/1.1 204 No Content\n\n{evil}"), Passed(204, b"")),
        case(
            RULE,
            &format!("HTTP/1.1 304 Not Modified\nContent-Length: 4\n\n{evil}"),
            Passed(304, b""),
        ),
        case(RULE, "HTTP/1.1 204 No Content\nContent-Length: 4\n\nevil", Passed(204, b"")),
        case(
            RULE,
            "HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n\n4\nevil\n0\n\n",
            Passed(204, b""),
        ),
        case(
            RULE,
            &format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n{evil}"),
            Passed(200, b"ok"),
        ),
    ];
    all.push(Case {
        rule: RULE,
        method: "HEAD",
        answer: crlf("HTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
        expect: Passed(200, b""),
    });
    all
}

fn leaks() -> Vec<Case> {
    let secret = secret();
    let mut all = Vec::new();
    for text in [
        format!("HTTP/1.1 200 OK\nX-Echo: {OURS}\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 200 OK\nX-Echo: a{secret}b\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 200 {secret}\nContent-Length: 2\n\nok"),
        format!("HTTP/1.1 302 Found\nLocation: /?token={secret}\nContent-Length: 0\n\n"),
        format!("HTTP/1.1 200 OK\nSet-Cookie: t={secret}\nContent-Length: 2\n\nok"),
    ] {
        all.push(case("S27 leak", &text, Refused));
    }
    let trailing = format!(
        "HTTP/1.1 200 OK\nTrailer: x-echo\nTransfer-Encoding: chunked\n\n2\nok\n0\nX-Echo: {secret}\n\n"
    );
    all.push(case("S27 leak", &trailing, Passed(200, b"ok")));
    all
}

/// As [`plain`], with the credential from a token: what the configuration itself holds is no
/// secret, and is not looked for in answers.
fn with_token(upstream: &Upstream) -> String {
    let tokens = "tokens: {ours: {value: {from: {env: OURS_TOKEN}}}}\n";
    tokens.to_owned() + &plain(upstream).replace(OURS, "\"Bearer ${ours}\"")
}

fn secret() -> &'static str {
    OURS.split(' ').next_back().unwrap()
}

/// Splits an answer; its body without chunks if it is chunked and whole.
fn taken_apart(answer: &[u8]) -> Option<(u16, String, Vec<u8>)> {
    let end = find(answer, b"\r\n\r\n")?;
    let head: String = answer[..end].iter().map(|b| char::from(*b)).collect();
    let mut rest = &answer[end + 4..];
    if !head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
        return Some((status(answer), head, rest.to_vec()));
    }
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    (rest == b"\r\n").then(|| (status(answer), head, body))
}

fn judge(case: &Case, program: &Program, upstream: &Upstream) -> Result<(), String> {
    upstream.answer(&case.answer, true);
    let request =
        format!("{} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", case.method);
    let answer = talk_to_the_end(program.proxy, request.as_bytes());
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
    let secret = secret();
    if find(&answer, secret.as_bytes()).is_some() {
        return Err(format!("leaks: {shown}"));
    }
    let apart = taken_apart(&answer);
    let fine = match (&case.expect, &apart) {
        (Refused, Some((502, head, _))) => head.contains("bearerd-refusal: "),
        (TooLate, Some((504, ..))) => true,
        (Passed(status, body), Some((got, head, found))) => {
            let lines = head.replace("\r\n", "");
            got == status && found == body && !lines.contains(['\r', '\n', '\0'])
        }
        (Cut, None) => true,
        // Cut where a length was announced.
        (Cut, Some((502, head, _))) => head.contains("bearerd-refusal: "),
        (Cut, Some((_, head, found))) => {
            let length = super::support::field(head, "content-length");
            length.is_some_and(|length| length.parse() != Ok(found.len()))
        }
        _ => false,
    };
    if !fine {
        return Err(format!("got {shown:?}"));
    }
    // Whoever asks next gets the answer to the own request, and only that.
    upstream.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext", false);
    for _ in 0..2 {
        let next = talk_to_the_end(program.proxy, request.replace("HEAD", "GET").as_bytes());
        if !next.starts_with(b"HTTP/1.1 200") || !next.ends_with(b"\r\n\r\nnext") {
            return Err(format!("then: {:?}", String::from_utf8_lossy(&next)));
        }
    }
    Ok(())
}

#[test]
fn every_answer_is_refused_or_one_sound_message_and_nobody_elses() {
    let upstream = Upstream::ok();
    let program = Program::run_with("answers", &with_token(&upstream), &[("OURS_TOKEN", secret())]);
    let corpus = corpus();
    assert!(corpus.len() >= 180, "only {}", corpus.len());
    let mut wrong = Vec::new();
    for case in &corpus {
        if let Err(what) = judge(case, &program, &upstream) {
            let bytes = String::from_utf8_lossy(&case.answer[..case.answer.len().min(200)]);
            wrong.push(format!("{}: {what}\n    {bytes:?}", case.rule));
        }
    }
    assert!(!program.output().contains("panicked"), "{}", program.output());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
}

#[test]
fn bytes_after_an_answer_on_an_open_connection_are_no_answer_to_the_next_request_p42() {
    let upstream = Upstream::ok();
    let program = Program::run("left-over", &plain(&upstream));
    let evil = "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil";
    for head in [
        format!("HTTP/1.1 200 OK\nContent-Length: 2\n\nok{evil}"),
        format!("HTTP/1.1 204 No Content\n\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\n\n{evil}"),
        format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n{evil}"),
        "HTTP/1.1 204 No Content\nContent-Length: 4\n\nevil".to_owned(),
    ] {
        for _ in 0..20 {
            upstream.answer(&crlf(&head), false);
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = talk_to_the_end(program.proxy, request);
            assert!(find(&answer, b"evil").is_none(), "{}", String::from_utf8_lossy(&answer));
        }
    }
}

#[test]
fn informational_answers_without_end_meet_the_deadline_p18_h6() {
    let upstream = Upstream::ok();
    let configuration = format!("limits: {{response_head: 300ms}}\n{}", plain(&upstream));
    let program = Program::run("flood", &configuration);
    upstream.answer(&crlf(&"HTTP/1.1 103 Early Hints\n\n".repeat(1000)), false);
    let started = SystemTime::now();
    let case = case("P18", &"HTTP/1.1 103 Early Hints\n\n".repeat(100), TooLate);
    upstream.answer(&case.answer, false);
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&talk_to_the_end(program.proxy, request)), 504);
    assert!(started.elapsed().unwrap() < Duration::from_secs(5));
}
