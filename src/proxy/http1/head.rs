//! The head of an answer (RFC 9112 sections 4 to 6): read strictly, and what it says of the body
//! that follows.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::body::Framing;
use super::names;
use crate::proxy::headers::vacant;

/// How every answer begins that can be understood here.
const BEGINNING: &[u8] = b"HTTP/1.";

/// So many fields need no memory of their own to be found.
const FREE_FIELDS: usize = 100;

const TOO_LARGE: Flaw = "has too large a head";

/// What is wrong with an answer.
pub(super) type Flaw = &'static str;

/// What a head may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// In bytes.
    pub(super) size: usize,
    /// In fields.
    pub(super) fields: usize,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    /// What follows it, unless the request was HEAD.
    pub(super) framing: Framing,
    /// Whether the connection may carry another exchange after this one.
    pub(super) lasts: bool,
    /// In bytes.
    pub(super) size: usize,
}

/// Reads the head at the front of `input`, of which `seen` bytes were looked at before. None if
/// it is not all there.
///
/// # Errors
/// What is there is not the beginning of a sound head.
pub(super) fn read(input: &Bytes, seen: usize, most: Most) -> Result<Option<Head>, Flaw> {
    let known = input.len().min(BEGINNING.len());
    if input[..known] != BEGINNING[..known] {
        return Err("does not begin with an HTTP/1 version");
    }
    // What comes in many pieces is not read from its beginning with each of them.
    if seen > 0 && !may_end(&input[seen.saturating_sub(3)..]) {
        return if input.len() > most.size { Err(TOO_LARGE) } else { Ok(None) };
    }
    if most.fields <= FREE_FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; FREE_FIELDS];
        parse(input, &mut fields[..most.fields], most.size)
    } else {
        parse(input, &mut vec![MaybeUninit::uninit(); most.fields], most.size)
    }
}

/// Whether a head could end in these bytes, well or badly.
fn may_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'\n') {
        rest = &rest[at + 1..];
        if matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]) {
            return true;
        }
    }
    false
}

fn parse<'b>(
    input: &'b Bytes,
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
    most: usize,
) -> Result<Option<Head>, Flaw> {
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let outcome = parser.parse_response_with_uninit_headers(&mut parsed, input, fields);
    let size = match outcome.map_err(flaw)? {
        httparse::Status::Complete(size) if size <= most => size,
        httparse::Status::Partial if input.len() <= most => return Ok(None),
        _ => return Err(TOO_LARGE),
    };
    if !ends_lines_well(&input[..size], parsed.headers) {
        return Err("has a line that ends in a lone line feed");
    }
    build(input, &parsed, size).map(Some)
}

/// Whether each line ends in a carriage return and a line feed; the parser has seen to the latter.
fn ends_lines_well(head: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let returns_before = |field: &httparse::Header<'_>| {
        let begin = field.name.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        head.get(begin.wrapping_sub(2)) == Some(&b'\r')
    };
    head.ends_with(b"\r\n\r\n") && fields.iter().all(returns_before)
}

const fn flaw(error: httparse::Error) -> Flaw {
    match error {
        httparse::Error::HeaderName => "has a malformed field name",
        httparse::Error::HeaderValue => "has a malformed field value",
        httparse::Error::NewLine => "has a line that ends badly",
        httparse::Error::Status => "has a malformed status",
        httparse::Error::TooManyHeaders => "has too many fields",
        httparse::Error::Version => "has a version other than 1.0 and 1.1",
        httparse::Error::Token => "has a malformed head",
    }
}

/// What the fields say about the message itself.
#[derive(Debug, Default)]
struct Notes {
    length: Option<u64>,
    /// Lengths, of which there should be one.
    lengths: usize,
    chunked: bool,
    closes: bool,
    keeps: bool,
}

fn build(input: &Bytes, parsed: &httparse::Response<'_, '_>, size: usize) -> Result<Head, Flaw> {
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("has a status out of range")?;
    let is_old = parsed.version == Some(0);
    let mut notes = Notes::default();
    let mut headers = vacant(parsed.headers.len());
    for field in &*parsed.headers {
        let name = names::name(field.name.as_bytes()).ok_or("has a malformed field name")?;
        let value = HeaderValue::from_maybe_shared(input.slice_ref(field.value))
            .map_err(|_| "has a malformed field value")?;
        if notes.take(&name, field.value)? {
            headers.append(name, value);
        }
    }
    if notes.chunked && is_old {
        return Err("has a transfer coding in HTTP/1.0");
    }
    // Both framings at once: the next answer may begin anywhere (RFC 9112 section 6.3).
    let is_torn = notes.chunked && notes.length.is_some();
    if is_torn {
        headers.remove(CONTENT_LENGTH);
    } else if let Some(length) = notes.length.filter(|_| notes.lengths > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    *response.headers_mut() = headers;
    if let Some(reason) = parsed.reason
        && status.canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(input.slice_ref(reason.as_bytes()))
    {
        response.extensions_mut().insert(reason);
    }
    // What announces a body where there is none may send one.
    let is_doubtful = status == StatusCode::NO_CONTENT
        && (notes.chunked || notes.length.is_some_and(|length| length > 0));
    let lasts = !notes.closes && !is_torn && !is_doubtful && (!is_old || notes.keeps);
    Ok(Head { response, framing: notes.framing(status), lasts, size })
}

impl Notes {
    /// Notes what a field says; whether it has something to say to others, too.
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Flaw> {
        match *name {
            CONTENT_LENGTH => self.lengths(value)?,
            TRANSFER_ENCODING if self.chunked || !value.eq_ignore_ascii_case(b"chunked") => {
                return Err("has a transfer coding other than `chunked` alone");
            }
            TRANSFER_ENCODING => self.chunked = true,
            CONNECTION => return Ok(self.options(value)),
            _ => {}
        }
        Ok(true)
    }

    /// Notes whether the connection lasts. A `Connection` that says no more ends here: most answers
    /// have one, and to remove it later costs more than not to pass it on.
    fn options(&mut self, value: &[u8]) -> bool {
        let mut says_more = false;
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else {
                says_more = true;
            }
        }
        says_more
    }

    /// One length, or a list of the same one.
    fn lengths(&mut self, value: &[u8]) -> Result<(), Flaw> {
        for text in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let length = decimal(text).ok_or("has a length that is no number")?;
            if self.length.is_some_and(|other| other != length) {
                return Err("has two lengths");
            }
            self.length = Some(length);
            self.lengths += 1;
        }
        Ok(())
    }

    /// RFC 9112 section 6.3.
    fn framing(&self, status: StatusCode) -> Framing {
        if status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Framing::NONE;
        }
        match self.length {
            _ if self.chunked => Framing::chunked(),
            Some(length) => Framing::Length(length),
            None => Framing::UntilEnd,
        }
    }
}

/// Digits only: no sign, no space, nothing that is not all there is.
fn decimal(text: &[u8]) -> Option<u64> {
    let add = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}
