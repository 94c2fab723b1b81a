//! The program under test, a client and an upstream, all of bytes.

pub(crate) mod http2;
mod program;
mod upstream;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) use program::{Program, directory};
pub(crate) use upstream::{Upstream, complete};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The credential that every route of these tests injects.
pub(crate) const OURS: &str = "Bearer ours-7f3a9c51d2";

/// The other field that it injects.
pub(crate) const ORGANIZATION: &str = "our-organization";

/// Routes to `upstream` without the fields that differ from run to run.
pub(crate) fn plain(upstream: &Upstream) -> String {
    let url = upstream.url();
    format!(
        "via: false
routes:
  - upstream: {url}
    forwarded: false
    inject: {{Authorization: {OURS}, Organization: {ORGANIZATION}}}
"
    )
}

/// Turns readable lines into a message: every line ends with CRLF.
pub(crate) fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// Everything that comes back on a connection of its own, until it is whole or the connection
/// ends.
pub(crate) fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // The program may close before it has read everything.
    drop(stream.write_all(bytes));
    read_answer(&mut stream)
}

/// As [`talk`], but reads until the connection ends; so many answers come.
pub(crate) fn talk_to_the_end(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads once. A signal, as of a child of another test that has ended, is no failure.
pub(crate) fn read(from: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Reads one answer, or what there is of it.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    while !is_whole(&answer) {
        match read(stream, &mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
        }
    }
    answer
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let rest = &answer[end + 4..];
    let status = status(answer);
    if head.contains("\r\ntransfer-encoding: chunked") {
        rest == b"0\r\n\r\n" || rest.ends_with(b"\r\n0\r\n\r\n")
    } else if let Some(length) = field(&head, "content-length") {
        rest.len() >= length.parse().unwrap_or(0)
    } else {
        status == 204 || status == 304
    }
}

/// The status code of an answer; 0 where there is none.
pub(crate) fn status(answer: &[u8]) -> u16 {
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let rest = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    rest.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The value of a field in a head.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
