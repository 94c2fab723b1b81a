use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bearerd::vocab::Moment;

use super::{PATIENCE, find, read};

/// How long the first bytes of a request that was cut off may take from the program to us.
const GLANCE: Duration = Duration::from_millis(150);

/// Records every byte, and answers each complete request with the same bytes.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Vec<u8>,
    /// Whether the connection ends after the answer.
    close: bool,
    requests: Vec<Vec<u8>>,
    /// Connections on which a request has begun and not ended.
    begun: usize,
    /// Bytes that are no request, or not a whole one.
    rest: Vec<u8>,
}

impl Upstream {
    /// Answers 200 and `ok`.
    pub(crate) fn ok() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
        let state = Arc::new(Mutex::new(State { answer, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on answers so; `close` ends the connection after it.
    pub(crate) fn answer(&self, bytes: &[u8], close: bool) {
        let mut state = self.state.lock().unwrap();
        (state.answer, state.close) = (bytes.to_vec(), close);
    }

    /// The complete requests since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Waits for the end of a request that was cut off, if its beginning comes at all.
    pub(crate) fn settle(&self) {
        let began = Moment::now();
        loop {
            let state = self.state.lock().unwrap();
            let patience = if state.begun > 0 { PATIENCE } else { GLANCE };
            if !state.rest.is_empty() || Moment::now().since(began) >= patience {
                return;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Bytes since the last call that are no complete request.
    pub(crate) fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.lock().unwrap().rest)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    loop {
        while let Some(length) = complete(&buffer) {
            let request = buffer.drain(..length).collect();
            let (answer, close) = {
                let mut state = state.lock().unwrap();
                state.requests.push(request);
                (state.answer.clone(), state.close)
            };
            stream.write_all(&answer)?;
            if close {
                return Ok(());
            }
        }
        let has_begun = usize::from(!buffer.is_empty());
        state.lock().unwrap().begun += has_begun;
        let count = read(&mut stream, &mut chunk).unwrap_or(0);
        let mut state = state.lock().unwrap();
        state.begun -= has_begun;
        if count == 0 {
            state.rest.extend_from_slice(&buffer);
            return Ok(());
        }
        drop(state);
        buffer.extend_from_slice(&chunk[..count]);
    }
}

/// The length of the request at the beginning of `bytes`, read as strictly as can be: one framing
/// or none, CRLF everywhere, no chunk extensions. What is not so never completes.
pub(crate) fn complete(bytes: &[u8]) -> Option<usize> {
    let end = find(bytes, b"\r\n\r\n")?;
    // Values may hold any byte above ASCII.
    let head: String = bytes[..end].iter().map(|b| char::from(*b)).collect();
    let strict = |line: &str| !line.contains(['\r', '\n', '\0']) && !line.starts_with([' ', '\t']);
    let mut lines = head.split("\r\n");
    lines.next().filter(|line| strict(line) && line.ends_with(" HTTP/1.1"))?;
    let (mut length, mut chunked) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(": ").filter(|_| strict(line))?;
        match name {
            "content-length" if length.is_none() => length = Some(value.parse::<usize>().ok()?),
            "transfer-encoding" if !chunked && value == "chunked" => chunked = true,
            "content-length" | "transfer-encoding" => return None,
            _ => {}
        }
    }
    let start = end + 4;
    match (length, chunked) {
        (Some(_), true) => None,
        (Some(length), false) => Some(start + length).filter(|end| *end <= bytes.len()),
        (None, false) => Some(start),
        (None, true) => chunks(&bytes[start..]).map(|length| start + length),
    }
}

fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        at += line + 2;
        if size == 0 {
            break;
        }
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}
