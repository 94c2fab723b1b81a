//! The codec beside hyper's client: the same answers, cut into the same pieces. What one takes for
//! a whole answer the other takes for the same; and where ours takes less, the reason is listed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::corpus::{Expect, corpus};
use super::script::{End, Script};
use super::{connection, frame, outgoing, request};
use crate::proxy::replay::Upload;

/// hyper takes these and we do not, whatever follows.
const STRICTER: [&str; 7] = [
    "has a line that ends in a lone line feed",
    "has a trailer that ends in a lone line feed",
    "has a transfer coding other than `chunked` alone",
    "has a transfer coding in HTTP/1.0",
    "has two lengths",
    "has a length that is no number",
    "does not begin with an HTTP/1 version",
];

/// More than enough for any answer here.
const MOST_POLLS: usize = 100_000;

/// What one of the two made of an answer.
#[derive(Debug, Clone, PartialEq)]
enum Made {
    /// No answer.
    Nothing(String),
    /// It waits for more.
    Waits,
    Answer(Box<Answer>),
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: StatusCode,
    version: Version,
    reason: Option<ReasonPhrase>,
    fields: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// None while it waits for more, or why it was cut.
    end: Option<Result<(), String>>,
    /// Whether another request may follow.
    lasts: bool,
}

impl Answer {
    fn of<B>(response: &Response<B>) -> Self {
        Self {
            status: response.status(),
            version: response.version(),
            reason: response.extensions().get().cloned(),
            fields: response.headers().clone(),
            body: Vec::new(),
            trailers: None,
            end: None,
            lasts: false,
        }
    }

    /// Takes one more frame; true at the end.
    fn take<E: std::fmt::Display>(&mut self, frame: Option<Result<Frame<Bytes>, E>>) -> bool {
        match frame {
            None => self.end = Some(Ok(())),
            Some(Err(error)) => self.end = Some(Err(error.to_string())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.body.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
        self.end.is_some()
    }
}

fn ours(method: &Method, script: Script) -> Made {
    let mut connection = connection(script);
    let cx = &mut Context::from_waker(Waker::noop());
    let sent = {
        let mut sent = pin!(connection.send(outgoing(request(method, Upload::empty()))));
        (0..MOST_POLLS).find_map(|_| match sent.as_mut().poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        })
    };
    let response = match sent {
        None => return Made::Waits,
        Some(Err(fault)) => return Made::Nothing(fault.to_string()),
        Some(Ok(response)) => response,
    };
    let mut answer = Answer::of(&response);
    while let Poll::Ready(frame) = frame(&mut connection) {
        if answer.take(frame) {
            break;
        }
    }
    assert_eq!(connection.is_over(), answer.end == Some(Ok(())));
    answer.lasts = connection.is_done() && connection.is_silent();
    Made::Answer(Box::new(answer))
}

fn hypers(method: &Method, script: Script) -> Made {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(128 * 1024).max_header_size(64 * 1024);
    let mut shaking = pin!(builder.handshake(TokioIo::new(script)));
    let Poll::Ready(Ok((mut sender, connection))) = shaking.as_mut().poll(cx) else {
        panic!("no handshake")
    };
    let mut connection = pin!(connection.with_upgrades());
    let mut over = false;
    let mut drive = |cx: &mut Context<'_>| {
        over = over || connection.as_mut().poll(cx).is_ready();
    };
    let mut sent = pin!(sender.send_request(request(method, Upload::empty())));
    let outcome = (0..1000).find_map(|_| {
        drive(cx);
        match sent.as_mut().poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    });
    let mut response = match outcome {
        None => return Made::Waits,
        Some(Err(error)) => return Made::Nothing(error.to_string()),
        Some(Ok(response)) => response,
    };
    let mut answer = Answer::of(&response);
    let mut idle = 0;
    while idle < 8 {
        drive(cx);
        match Pin::new(response.body_mut()).poll_frame(cx) {
            Poll::Ready(frame) => {
                idle = 0;
                if answer.take(frame) {
                    break;
                }
            }
            Poll::Pending => idle += 1,
        }
    }
    drive(cx);
    drive(cx);
    answer.lasts = sender.is_ready();
    Made::Answer(Box::new(answer))
}

/// What we do to a sound head beyond hyper: one length of several, none beside chunks, and no word
/// on whether the connection lasts, on lines that say nothing else.
fn settled(mut answer: Answer) -> Answer {
    use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
    let lines: Vec<HeaderValue> = answer.fields.get_all(CONNECTION).iter().cloned().collect();
    answer.fields.remove(CONNECTION);
    for line in lines {
        let mut options = line.to_str().unwrap_or("\u{e4}").split(',').map(str::trim);
        if !options.all(|o| ["close", "keep-alive"].contains(&&*o.to_ascii_lowercase())) {
            answer.fields.append(CONNECTION, line);
        }
    }
    if answer.fields.contains_key(TRANSFER_ENCODING) {
        if answer.fields.remove(CONTENT_LENGTH).is_some() {
            answer.lasts = false;
        }
    } else if let Some(first) = answer.fields.get(CONTENT_LENGTH).cloned() {
        let one = first.to_str().unwrap().split(',').next().unwrap().trim().to_owned();
        let one: u64 = one.parse().unwrap();
        if answer.fields.get_all(CONTENT_LENGTH).iter().count() > 1
            || first.as_bytes().contains(&b',')
        {
            answer.fields.insert(CONTENT_LENGTH, one.into());
        }
    }
    answer
}

/// Whether ours made of an answer what hyper made of it, or less for a listed reason.
fn compare(method: &Method, ours: Made, hypers: Made) -> Result<(), String> {
    let differ = |what: &str| Err(format!("{method}: {what}: ours {ours:?}, hyper's {hypers:?}"));
    let is_stricter = |why: &str| STRICTER.iter().any(|flaw| why.strip_prefix("it ") == Some(flaw));
    match (&ours, &hypers) {
        (Made::Nothing(why), _) if is_stricter(why) => Ok(()),
        (Made::Nothing(_), Made::Nothing(_)) | (Made::Waits, Made::Waits) => Ok(()),
        // hyper reads what has come in pieces again from the beginning; we wait for its end.
        (Made::Waits, Made::Nothing(_)) => Ok(()),
        (Made::Answer(own), Made::Answer(other)) => {
            let (own, other) = (&**own, settled((**other).clone()));
            if (own.status, own.version, &own.reason, &own.fields)
                != (other.status, other.version, &other.reason, &other.fields)
            {
                return differ("head");
            }
            match (&own.end, &other.end) {
                (Some(Err(why)), _) if is_stricter(why) => return Ok(()),
                (Some(Ok(())), Some(Ok(()))) | (None, None) => {
                    if own.body != other.body {
                        return differ("body");
                    }
                }
                (Some(Err(_)), Some(Err(_))) => {}
                // hyper judges trailers byte by byte; we wait for their end, and then do.
                (None, Some(Err(_))) => {}
                _ => return differ("end"),
            }
            if own.trailers.clone().unwrap_or_default() != other.trailers.unwrap_or_default() {
                return differ("trailers");
            }
            if own.lasts && !other.lasts { differ("lasts") } else { Ok(()) }
        }
        _ => differ("outcome"),
    }
}

/// Cuts `bytes` at these places, which are taken modulo what is left.
fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut all = Vec::new();
    for cut in cuts {
        all.push(rest.split_to(cut % (rest.len() + 1)));
    }
    all.push(rest);
    all
}

fn both(method: &Method, bytes: &[u8], cuts: &[usize], end: End) -> Result<(), String> {
    let script = || Script::new(pieces(bytes, cuts), end);
    compare(method, ours(method, script()), hypers(method, script()))
}

#[test]
fn the_whole_corpus_is_taken_as_hyper_takes_it_or_refused() {
    let mut wrong = Vec::new();
    for case in corpus("secret-credential") {
        let method: Method = case.method.parse().unwrap();
        let few = case.answer.len().min(200);
        let shown = String::from_utf8_lossy(&case.answer[..few]).into_owned();
        for end in [End::Closed, End::Open] {
            for cuts in [&[][..], &[1], &[5, 9], &[17, 1, 1], &[30, 2, 40], &[1; 60]] {
                if let Err(what) = both(&method, &case.answer, cuts, end) {
                    wrong.push(format!("{} {end:?} {cuts:?}: {what}\n    {shown:?}", case.rule));
                }
            }
        }
        let made = ours(&method, Script::new(pieces(&case.answer, &[]), End::Closed));
        if let (Expect::Passed(status, body), Made::Answer(answer)) = (&case.expect, &made) {
            assert_eq!((answer.status.as_u16(), &*answer.body), (*status, *body), "{shown}");
        } else if let Expect::Passed(..) = case.expect {
            wrong.push(format!("{}: {made:?}\n    {shown:?}", case.rule));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Something that may stand in a head, sound or not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "Content-Length: 5", "content-length: 0", "Content-Length: 12, 12", "Content-Length: 5 ",
            "Content-Length: 5\t", "Content-Length:5", "Content-Length: 005", "Content-Length: 5,",
            "Transfer-Encoding: chunked", "transfer-encoding:  CHUNKED", "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, chunked", "Connection: close", "Connection: keep-alive",
            "Connection: x, Close", "Connection: Keep-Alive, upgrade", "Trailer: x-t", "X-A: 1",
            "X-A: 2", "Set-Cookie: a=b; c", "X-Empty:", "X-Empty: \t ", "Date: today",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => "[!-~]{1,8}: ?[ -~\\t]{0,30}[ \\t]?".prop_map(String::into_bytes),
    ]
}

fn status_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        10 => (
            prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
            prop::sample::select(vec![200_u16, 200, 200, 204, 304, 404, 500, 100, 103, 101, 999, 99]),
            prop::sample::select(vec![" OK", "", " ", " Odd reason", " \u{e9}t\u{e9}"]),
        ).prop_map(|(version, status, reason)| format!("{version} {status}{reason}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn feed() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![30 => Just(&b"\r\n"[..]), 1 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..])]
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let size_end =
        prop::sample::select(vec!["", "", "", "", ";a=b", " ", "\t ;x", ";\"\\\"\"", "x"]);
    let chunk = (1_usize..20, size_end, feed(), feed(), any::<bool>());
    let chunk = chunk.prop_map(|(size, end, feed, after, lie)| {
        let said = if lie && size == 7 { size + 1 } else { size };
        let mut out = format!("{said:x}{end}").into_bytes();
        out.extend_from_slice(feed);
        out.extend((0..size).map(|i| b'a' + (i % 26) as u8));
        out.extend_from_slice(after);
        out
    });
    let trailers = prop::collection::vec((line(), feed()), 0..3);
    let last = prop::sample::select(vec!["0", "0", "0", "00", "0;x", "0 "]);
    let ends = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", ""]);
    (prop::collection::vec(chunk, 0..5), last, feed(), trailers, ends).prop_map(
        |(chunks, last, feed, trailers, ends)| {
            let mut out = [&chunks.concat(), last.as_bytes(), feed].concat();
            for (trailer, feed) in trailers {
                out.extend(trailer);
                out.extend_from_slice(feed);
            }
            out.extend_from_slice(ends.as_bytes());
            out
        },
    )
}

/// An answer whose head is sound, so that its body matters.
fn sound() -> impl Strategy<Value = Vec<u8>> {
    let lengths = (0_usize..40, 0_usize..40).prop_map(|(said, came)| {
        [format!("Content-Length: {said}\r\n\r\n").as_bytes(), &vec![b'x'; came]].concat()
    });
    let chunks =
        chunked().prop_map(|body| [&b"Transfer-Encoding: chunked\r\n\r\n"[..], &body].concat());
    let status = prop::sample::select(vec!["200 OK", "204 No", "304 No", "103 Hints", "500 Oh"]);
    let rest = prop_oneof![2 => lengths, 4 => chunks, 1 => Just(b"\r\nuntil the end".to_vec())];
    (status, rest).prop_map(|(status, rest)| {
        [format!("HTTP/1.1 {status}\r\nX-A: b\r\n").as_bytes(), &rest].concat()
    })
}

/// An answer as it might be, or nearly so.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let head = (status_line(), prop::collection::vec((line(), feed()), 0..6), feed(), feed());
    let body = prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..30),
        2 => chunked(),
        1 => Just(b"helloHTTP/1.1 200 OK\r\n\r\n".to_vec()),
        1 => Just(b"hello".to_vec()),
    ];
    (head, body).prop_map(|((status, lines, feed, last), body)| {
        let mut out = [&status[..], feed].concat();
        for (line, feed) in lines {
            out.extend(line);
            out.extend_from_slice(feed);
        }
        out.extend_from_slice(last);
        out.extend(body);
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_answer_in_any_pieces_is_taken_as_hyper_takes_it_or_refused(
        answers in prop::collection::vec(prop_oneof![1 => answer(), 2 => sound()], 1..3),
        cuts in prop::collection::vec(0_usize..80, 0..8),
        closes in any::<bool>(),
        head in any::<bool>(),
    ) {
        let method = if head { Method::HEAD } else { Method::GET };
        let end = if closes { End::Closed } else { End::Open };
        let outcome = both(&method, &answers.concat(), &cuts, end);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
