//! A client that writes HTTP/2 frames with whatever in them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::connect;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this status.
    Answered(u16),
    /// By RST_STREAM, with this code.
    Reset(u32),
    /// With its connection, by GOAWAY with this code or without a word.
    Ended(Option<u32>),
}

/// A connection whose stream is number 1.
pub(crate) struct Http2 {
    stream: TcpStream,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Http2 {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut stream = connect(address);
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        start.extend(frame(4, 0, 0, &[]));
        drop(stream.write_all(&start));
        Self { stream }
    }

    /// Writes bytes, which the program may not want any more.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Reads frames until the stream has ended.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let mut status = None;
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).is_err() {
                return Outcome::Ended(None);
            }
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if self.stream.read_exact(&mut payload).is_err() {
                return Outcome::Ended(None);
            }
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            let own = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]) == 1;
            match head[3] {
                HEADERS if own => status = status.or(Some(status_in(&payload))),
                // Ours have ended already, or else it takes no more of them.
                3 if own => {
                    return status.map_or_else(|| Outcome::Reset(code(0)), Outcome::Answered);
                }
                7 if code(4) != 0 => return Outcome::Ended(Some(code(4))),
                _ => {}
            }
            if own
                && head[4] & END_STREAM != 0
                && matches!(head[3], DATA | HEADERS)
                && let Some(status) = status
            {
                return Outcome::Answered(status);
            }
        }
    }
}

/// A frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The frames of stream 1: a head, perhaps a body, perhaps trailers.
pub(crate) fn request(
    fields: &[(&[u8], &[u8])],
    body: Option<&[u8]>,
    trailers: &[(&[u8], &[u8])],
) -> Vec<u8> {
    let last = |is: bool| if is { END_STREAM } else { 0 };
    let mut out = frame(
        HEADERS,
        END_HEADERS | last(body.is_none() && trailers.is_empty()),
        1,
        &block(fields),
    );
    if let Some(body) = body {
        out.extend(frame(DATA, last(trailers.is_empty()), 1, body));
    }
    if !trailers.is_empty() {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    out
}

/// Fields as literals that are not indexed (RFC 7541 section 6.2.2).
fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                out.push(u8::try_from(length).unwrap());
            } else {
                out.push(127);
                length -= 127;
                while length >= 128 {
                    out.push(u8::try_from(length % 128).unwrap() | 128);
                    length /= 128;
                }
                out.push(u8::try_from(length).unwrap());
            }
            out.extend_from_slice(text);
        }
    }
    out
}

/// The status, which comes first: by the static table, or as three digits.
fn status_in(block: &[u8]) -> u16 {
    // A change of the table's size may stand before it.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
    let block = &block[start..];
    match block[0] {
        known @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(known - 0x88)],
        _ => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            if block[1] & 0x80 == 0 {
                return std::str::from_utf8(text).unwrap().parse().unwrap();
            }
            digits(text)
        }
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B).
fn digits(text: &[u8]) -> u16 {
    let bits: Vec<u8> =
        text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |sum, bit| sum * 2 + u16::from(*bit));
    let (mut out, mut at) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        if short < 3 {
            out = out * 10 + short;
            at += 5;
        } else {
            out = out * 10 + number(&bits[at..at + 6]) - 0x19 + 3;
            at += 6;
        }
    }
    out
}
