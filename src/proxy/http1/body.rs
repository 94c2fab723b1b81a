//! The body of an answer (RFC 9112 sections 6 and 7): where it ends, and what of the bytes that
//! came is in it.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::Flaw;

/// Most bytes of the chunk extensions of one body, which nobody reads.
const MOST_EXTENSIONS: u32 = 16 * 1024;

/// Most digits of a chunk's size: more do not fit, except for zeros, which say nothing.
const MOST_DIGITS: u8 = 16;

/// Most bytes of trailers.
const MOST_TRAILERS: usize = 16 * 1024;

/// Most trailers.
const MOST_TRAILER_FIELDS: usize = 100;

/// How the rest of a body is told from what follows it.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// The end of the connection is the end of the body.
    UntilEnd,
    /// The body ended with the connection.
    Ended,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing: the body is complete.
    End,
    /// It cannot be told from these bytes.
    More,
}

impl Framing {
    pub(super) const NONE: Self = Self::Length(0);

    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunks::new())
    }

    /// Takes the next part of the body off the front of `input`.
    ///
    /// # Errors
    /// The chunks are malformed.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Result<Part, Flaw> {
        match self {
            Self::Length(0) | Self::Ended => Ok(Part::End),
            _ if input.is_empty() => Ok(Part::More),
            Self::Length(left) => {
                let data = split(input, *left);
                *left -= data.len() as u64;
                Ok(Part::Data(data))
            }
            Self::UntilEnd => Ok(Part::Data(std::mem::take(input))),
            Self::Chunked(chunks) => chunks.take(input),
        }
    }

    /// Whether all of the body was taken.
    pub(super) const fn is_over(&self) -> bool {
        match self {
            Self::Length(0) | Self::Ended => true,
            Self::Chunked(chunks) => matches!(chunks.place, Place::Over),
            _ => false,
        }
    }

    /// The connection ended. False if the body should have gone on.
    pub(super) fn end(&mut self) -> bool {
        if let Self::UntilEnd = self {
            *self = Self::Ended;
        }
        self.is_over()
    }

    /// How many bytes are to come, as far as that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Ended => Some(0),
            Self::Chunked(_) | Self::UntilEnd => None,
        }
    }
}

/// At most `most` bytes off the front.
fn split(input: &mut Bytes, most: u64) -> Bytes {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if input.len() <= most { std::mem::take(input) } else { input.split_to(most) }
}

/// A body in chunks, as far as it was read.
#[derive(Debug)]
pub(super) struct Chunks {
    place: Place,
    /// Bytes of extensions so far.
    extensions: u32,
    /// Everything behind the last chunk, as far as it came.
    trailers: Vec<u8>,
}

/// What comes next in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A chunk's size, of which so many digits came.
    Size {
        size: u64,
        digits: u8,
    },
    /// Space behind the size.
    Padding {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// The end of the size's line.
    SizeFeed {
        size: u64,
    },
    /// So many bytes of a chunk.
    Data {
        left: u64,
    },
    DataReturn,
    DataFeed,
    Trailers,
    Over,
}

const SIZE: Place = Place::Size { size: 0, digits: 0 };

impl Chunks {
    const fn new() -> Self {
        Self { place: SIZE, extensions: 0, trailers: Vec::new() }
    }

    fn take(&mut self, input: &mut Bytes) -> Result<Part, Flaw> {
        loop {
            match self.place {
                Place::Data { left } if input.is_empty() || left == 0 => {
                    if left > 0 {
                        return Ok(Part::More);
                    }
                    self.place = Place::DataReturn;
                }
                Place::Data { left } => {
                    let data = split(input, left);
                    self.place = Place::Data { left: left - data.len() as u64 };
                    return Ok(Part::Data(data));
                }
                Place::Trailers => return self.trailers(input),
                Place::Over => return Ok(Part::End),
                _ if input.is_empty() => return Ok(Part::More),
                _ => self.place = self.step(input.get_u8())?,
            }
        }
    }

    /// Where one more byte of the framing leads.
    fn step(&mut self, byte: u8) -> Result<Place, Flaw> {
        match (self.place, byte) {
            (Place::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                if digits == MOST_DIGITS {
                    return Err("has too many digits in a chunk's size");
                }
                Ok(Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Place::Size { digits: 0, .. }, _) => Err("has a chunk without a size"),
            (
                Place::Size { size, .. } | Place::Padding { size } | Place::Extension { size },
                b'\r',
            ) => Ok(Place::SizeFeed { size }),
            (Place::Size { size, .. } | Place::Padding { size }, b';') => {
                Ok(Place::Extension { size })
            }
            (Place::Size { size, .. } | Place::Padding { size }, b' ' | b'\t') => {
                self.extend()?;
                Ok(Place::Padding { size })
            }
            (Place::Extension { .. }, b'\n') => Err("has a line feed in a chunk's extension"),
            (Place::Extension { size }, _) => {
                self.extend()?;
                Ok(Place::Extension { size })
            }
            (Place::SizeFeed { size: 0 }, b'\n') => Ok(Place::Trailers),
            (Place::SizeFeed { size }, b'\n') => Ok(Place::Data { left: size }),
            (Place::DataReturn, b'\r') => Ok(Place::DataFeed),
            (Place::DataFeed, b'\n') => Ok(SIZE),
            (Place::DataReturn | Place::DataFeed, _) => {
                Err("has a chunk that does not end where it should")
            }
            _ => Err("has a malformed chunk size"),
        }
    }

    fn extend(&mut self) -> Result<(), Flaw> {
        self.extensions += 1;
        if self.extensions > MOST_EXTENSIONS {
            Err("has too long chunk extensions")
        } else {
            Ok(())
        }
    }

    /// Takes the trailers, up to and with the empty line that ends them.
    fn trailers(&mut self, input: &mut Bytes) -> Result<Part, Flaw> {
        while !input.is_empty() {
            let line = input.iter().position(|b| *b == b'\n').map_or(input.len(), |at| at + 1);
            self.trailers.extend_from_slice(&input.split_to(line));
            if self.trailers.len() > MOST_TRAILERS {
                return Err("has too large trailers");
            }
            if matches!(&*self.trailers, b"\r\n") || self.trailers.ends_with(b"\r\n\r\n") {
                let fields = fields(&Bytes::from(std::mem::take(&mut self.trailers)))?;
                self.place = Place::Over;
                return Ok(if fields.is_empty() { Part::End } else { Part::Trailers(fields) });
            }
            if self.trailers.ends_with(b"\n") && !self.trailers.ends_with(b"\r\n") {
                return Err("has a trailer that ends in a lone line feed");
            }
        }
        Ok(Part::More)
    }
}

/// The fields of trailers that are all there.
fn fields(trailers: &Bytes) -> Result<HeaderMap, Flaw> {
    let mut parsed = [httparse::EMPTY_HEADER; MOST_TRAILER_FIELDS];
    let mut headers = HeaderMap::new();
    let Ok(httparse::Status::Complete((_, found))) = httparse::parse_headers(trailers, &mut parsed)
    else {
        return Err("has malformed trailers");
    };
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(trailers.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err("has a malformed trailer") };
        headers.append(name, value);
    }
    Ok(headers)
}
