//! Requests that are wrong, odd or meant to be read differently by two servers, each with what
//! must come of it. The expectations follow RFC 9110 and 9112 and the threat that is named.

mod corpus;
mod further;

use std::io::{Read, Write};
use std::net::Shutdown;

use corpus::{Case, Expect, corpus};
use further::further;

use super::support::{
    ORGANIZATION, OURS, Program, Upstream, connect, find, plain, read_answer, status,
};

/// What came of a case, if it is not what should have.
fn judge(case: &Case, program: &Program, upstream: &Upstream) -> Result<(), String> {
    let mut stream = connect(program.proxy);
    drop(stream.write_all(&case.bytes));
    let answer = read_answer(&mut stream);
    drop(stream.shutdown(Shutdown::Write));
    let mut more = Vec::new();
    drop(stream.read_to_end(&mut more));
    // Whatever the case made the program send has been sent before this.
    let marker = "GET /marker HTTP/1.1\r\nHost: localhost\r\n\r\n";
    super::support::talk(program.proxy, marker.as_bytes());
    if matches!(case.expect, Expect::Broken) {
        upstream.settle();
    }
    let mut requests = upstream.take();
    let marked = requests.iter().position(|request| request.starts_with(b"GET /marker "));
    requests.remove(marked.ok_or("the program does not serve any more")?);
    let rest = upstream.take_rest();
    let got = status(&answer);
    let sent: Vec<_> = requests.iter().map(|request| String::from_utf8_lossy(request)).collect();
    match &case.expect {
        Expect::Refused(expected) => {
            if !requests.is_empty() || !rest.is_empty() {
                return Err(format!("reached the upstream: {sent:?} {rest:?}"));
            }
            if got != *expected {
                return Err(format!("answered {got}, not {expected}"));
            }
        }
        Expect::Broken => {
            if !requests.is_empty() {
                return Err(format!("a broken request became a whole one: {sent:?}"));
            }
            if (100..400).contains(&got) {
                return Err(format!("answered {got}"));
            }
        }
        Expect::Sent(expected) => {
            if requests.len() != expected.len() || !rest.is_empty() {
                return Err(format!("sent {sent:?} and {rest:?}"));
            }
            for (request, expected) in requests.iter().zip(expected) {
                let address = upstream.address.to_string();
                let wanted = expected.with(&[
                    ("host", &address),
                    ("authorization", OURS),
                    ("organization", ORGANIZATION),
                ]);
                let found = normal(request);
                if found != wanted {
                    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return Err(format!("sent {:?}, not {:?}", show(&found), show(&wanted)));
                }
            }
            if got != 200 {
                return Err(format!("answered {got}"));
            }
        }
    }
    Ok(())
}

/// A request with its fields sorted by name; fields of one name keep their order.
fn normal(request: &[u8]) -> Vec<u8> {
    let Some(end) = find(request, b"\r\n\r\n") else { return request.to_vec() };
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut head = &request[..end];
    while let Some(at) = find(head, b"\r\n") {
        lines.push(&head[..at]);
        head = &head[at + 2..];
    }
    lines.push(head);
    let fields = &mut lines[1..];
    fields.sort_by_key(|line| line.split(|b| *b == b':').next().map(<[u8]>::to_vec));
    let mut out = lines.join(&b"\r\n"[..]);
    out.extend_from_slice(&request[end..]);
    out
}

#[test]
fn every_request_is_refused_in_silence_or_arrives_as_what_it_is() {
    let upstream = Upstream::ok();
    let mut program = Program::run("requests", &plain(&upstream));
    let mut corpus = corpus();
    corpus.extend(further());
    let count = corpus.len();
    assert!(count >= 650, "only {count} requests");
    let mut wrong = Vec::new();
    for case in &corpus {
        if let Err(what) = judge(case, &program, &upstream) {
            let bytes = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(300)]);
            wrong.push(format!("{}: {what}\n    {bytes:?}", case.rule));
        }
    }
    assert!(program.is_alive());
    assert!(!program.output().contains("panicked"), "{}", program.output());
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
