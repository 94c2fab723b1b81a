//! Answers that are wrong, odd or meant to be read as two: they are refused with 502, or what the
//! client gets is one sound message, and the next client gets none of it.

mod corpus;

use std::time::{Duration, SystemTime};

use corpus::Expect::{Cut, Passed, Refused};
use corpus::{Case, corpus};

use super::support::{OURS, Program, Upstream, crlf, find, plain, status, talk_to_the_end};

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
    let corpus = corpus(secret());
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
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&talk_to_the_end(program.proxy, request)), 504);
    assert!(started.elapsed().unwrap() < Duration::from_secs(5));
}
