//! What the fuzz target `upstream` of `fuzz/` runs: any bytes as the answer of an upstream. What the
//! codec takes for a whole answer is one to a second reader that shares no code with it, with the
//! same body and the same end; and how the bytes are cut into pieces changes nothing.

#![allow(clippy::missing_panics_doc, reason = "to panic is how it reports")]

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::body::Part;
use super::head::{self, Most};

/// What became of the bytes.
#[derive(Debug, PartialEq)]
enum Read {
    /// No answer, or none yet.
    Nothing,
    /// The body is malformed or was cut off.
    Cut {
        status: u16,
    },
    Whole(Box<Whole>),
}

#[derive(Debug, PartialEq)]
struct Whole {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Bytes behind it.
    rest: usize,
}

/// Reads an answer whose first byte says into what pieces the others are cut.
///
/// # Panics
/// Two readings differ.
pub fn answer(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole, read(bytes, usize::from(cut % 48) + 1), "{}", bytes.escape_ascii());
    if let Read::Whole(whole) = whole {
        let used = bytes.len() - whole.rest;
        let expected = Some((whole.status, whole.body, used));
        assert_eq!(plainly(bytes), expected, "{}", bytes.escape_ascii());
        for (name, value) in &whole.headers {
            let is_line = !value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
            assert!(is_line, "{name}");
        }
    }
}

/// Reads the bytes as a connection does that ends behind them.
fn read(bytes: &[u8], piece: usize) -> Read {
    let mut pieces = bytes.chunks(piece.min(bytes.len().max(1)));
    let mut input = BytesMut::new();
    let mut seen = 0;
    let head = loop {
        let Some(next) = pieces.next() else { return Read::Nothing };
        input.extend_from_slice(next);
        match head::read(&input.clone().freeze(), seen, Most { size: 2048, fields: 100 }) {
            Err(_) => return Read::Nothing,
            Ok(None) => seen = input.len(),
            Ok(Some(head)) => break head,
        }
    };
    let mut input = input.freeze().split_off(head.size);
    let status = head.response.status().as_u16();
    let headers = head.response.into_parts().0.headers;
    let (mut framing, mut body, mut trailers) = (head.framing, Vec::new(), None);
    while !framing.is_over() {
        match framing.take(&mut input) {
            Err(_) => return Read::Cut { status },
            Ok(Part::Data(data)) => body.extend_from_slice(&data),
            Ok(Part::Trailers(fields)) => trailers = Some(fields),
            Ok(Part::More) => match pieces.next() {
                Some(next) => input = Bytes::copy_from_slice(next),
                None if framing.end() => {}
                None => return Read::Cut { status },
            },
            Ok(Part::End) => break,
        }
    }
    let rest = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
    Read::Whole(Box::new(Whole { status, headers, body, trailers, rest }))
}

/// The line at the front, and what follows its end.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..at], &bytes[at + 2..]))
}

/// Status, body and length of the answer at the front; nothing unless it is beyond doubt.
fn plainly(bytes: &[u8]) -> Option<(u16, Vec<u8>, usize)> {
    let (start, mut rest) = line(bytes)?;
    let old = start.starts_with(b"HTTP/1.0 ");
    if !old && !start.starts_with(b"HTTP/1.1 ") || !matches!(start.get(12), None | Some(b' ')) {
        return None;
    }
    let status: u16 = std::str::from_utf8(start.get(9..12)?).ok()?.parse().ok()?;
    let (mut lengths, mut codings): (Vec<u64>, usize) = (Vec::new(), 0);
    loop {
        let (field, after) = line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|b| *b == b':')?;
        let (name, value) = (field[..colon].to_ascii_lowercase(), field[colon + 1..].trim_ascii());
        if field.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) || !name.iter().all(is_token) {
            return None;
        }
        if name == b"content-length" {
            for text in std::str::from_utf8(value).ok()?.split(',') {
                let digits = Some(text.trim()).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
                lengths.push(digits.parse().ok()?);
            }
        } else if name == b"transfer-encoding" {
            codings += 1;
            if old || codings > 1 || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
        }
    }
    lengths.dedup();
    if lengths.len() > 1 {
        return None;
    }
    if status < 200 || status == 204 || status == 304 {
        return Some((status, Vec::new(), bytes.len() - rest.len()));
    }
    let body = match (codings, lengths.first()) {
        (1, _) => chunks(&mut rest)?,
        (_, Some(length)) => {
            let length = usize::try_from(*length).ok()?;
            let body = rest.get(..length)?.to_vec();
            rest = &rest[length..];
            body
        }
        _ => std::mem::take(&mut rest).to_vec(),
    };
    Some((status, body, bytes.len() - rest.len()))
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn chunks(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, after) = line(rest)?;
        *rest = after;
        let digits = size.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let is_sound = matches!(size.get(digits), None | Some(b' ' | b'\t' | b';'));
        if !is_sound || size.contains(&b'\n') {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        *rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, after) = line(rest)?;
        *rest = after;
        if trailer.is_empty() {
            return Some(body);
        }
        let colon = trailer.iter().position(|b| *b == b':')?;
        if !trailer[..colon].iter().all(is_token) || trailer.iter().any(|b| matches!(b, b'\n' | 0))
        {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_hold() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/upstream");
        let (mut count, mut whole) = (0, 0);
        for entry in std::fs::read_dir(seeds).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            answer(&data);
            count += 1;
            whole += usize::from(matches!(read(&data[1..], 7), Read::Whole(_)));
        }
        assert!(count > 30 && whole > 10 && whole < count, "{whole} of {count} seeds are whole");
    }
}
