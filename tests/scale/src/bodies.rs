//! 10 GiB each way, in either framing: the same bytes, and no memory (P9, S38).

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use ring::digest::{Context, SHA256};

use crate::http::{Wire, chunk};
use crate::program::{Program, origin};

const BLOCK: usize = 256 * 1024;

/// Blocks of which no two are the same.
struct Blocks(Vec<u8>, u64);

impl Blocks {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        Self((0..BLOCK).map(|_| random.u8(..)).collect(), 0)
    }

    fn next(&mut self) -> &[u8] {
        self.1 += 1;
        self.0[..8].copy_from_slice(&self.1.to_be_bytes());
        &self.0
    }
}

fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends so many bytes; their digest.
fn pour(stream: &mut TcpStream, size: u64, chunked: bool) -> std::io::Result<String> {
    let mut digest = Context::new(&SHA256);
    let mut blocks = Blocks::new();
    for _ in 0..size / BLOCK as u64 {
        let block = blocks.next();
        digest.update(block);
        if chunked { chunk(stream, block)? } else { stream.write_all(block)? }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(hex(digest))
}

fn framing(size: u64, chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {size}") }
}

pub fn run(binary: &str) {
    let size = crate::count("SCALE_GIB", 10) << 30;
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let address = origin(move |stream| {
        let mut wire = Wire::new(stream);
        loop {
            let head = wire.head()?;
            let chunked = head.start.contains("chunked");
            if head.start.starts_with("PUT") {
                let mut digest = Context::new(&SHA256);
                wire.body(&head, |piece| digest.update(piece))?;
                let text = hex(digest);
                wire.send(
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
                        .as_bytes(),
                )?;
            } else {
                wire.body(&head, |_| {})?;
                wire.send(
                    format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(size, chunked)).as_bytes(),
                )?;
                let digest = pour(&mut wire.stream, size, chunked)?;
                tell.lock().unwrap().send(digest).unwrap();
            }
        }
    });
    let mut program = Program::start(binary, address, "");
    let mut wire = Wire::new(program.connect());
    // What a first request needs is not what ten gigabytes need.
    wire.send(b"PUT /warm HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    let head = wire.head().unwrap();
    wire.text(&head).unwrap();
    let before = program.memory().0;
    for chunked in [false, true] {
        let word = if chunked { "chunked" } else { "length" };
        let began = Instant::now();
        wire.send(
            format!(
                "PUT /{word} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n",
                framing(size, chunked)
            )
            .as_bytes(),
        )
        .unwrap();
        let sent = pour(&mut wire.stream, size, chunked).unwrap();
        let head = wire.head().unwrap();
        let got = String::from_utf8(wire.text(&head).unwrap()).unwrap();
        assert_eq!((head.status(), got), (200, sent), "up, {word}");
        let up = began.elapsed().as_secs_f64();
        let began = Instant::now();
        wire.send(format!("GET /{word} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let head = wire.head().unwrap();
        let mut digest = Context::new(&SHA256);
        let mut count = 0;
        wire.body(&head, |piece| {
            count += piece.len() as u64;
            digest.update(piece);
        })
        .unwrap();
        assert_eq!((count, hex(digest)), (size, told.recv().unwrap()), "down, {word}");
        let down = began.elapsed().as_secs_f64();
        println!(
            "bodies: {} GiB by {word}: up in {up:.0} s, down in {down:.0} s, digests equal",
            size >> 30
        );
    }
    program.assert_alive();
    let grown = program.memory().1.saturating_sub(before);
    println!("bodies: memory grew by {:.1} MiB at most", grown as f64 / 1024.0);
    assert!(grown <= 8 * 1024, "{grown} KiB");
}
