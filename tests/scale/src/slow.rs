//! Readers that take 1 KiB a second, then hurry: 50 MiB arrive whole although the connection is to
//! end with them, which it must not do before (P13).

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::program::{Program, origin};

const SIZE: usize = 50 << 20;
const READERS: usize = 32;

pub fn run(binary: &str) {
    let seconds = crate::count("SCALE_SLOW_SECONDS", 100);
    let address = origin(|mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request)?;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n")?;
        let block: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(256);
        (0..SIZE / block.len()).try_for_each(|_| stream.write_all(&block))
    });
    let mut program = Program::start(binary, address, "");
    let began = Instant::now();
    let before = program.memory().0;
    let readers: Vec<_> = (0..READERS)
        .map(|own| {
            let address = program.address;
            std::thread::spawn(move || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                if own % 2 == 0 {
                    // Else the kernel takes the first minute's bytes at once.
                    socket.set_recv_buffer_size(8 * 1024).unwrap();
                }
                socket.connect(&address.into()).unwrap();
                let mut stream = std::net::TcpStream::from(socket);
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let (mut count, mut head, mut sum) = (0_usize, Vec::new(), 0_u64);
                let mut buffer = vec![0; 64 * 1024];
                loop {
                    let slowly = began.elapsed() < Duration::from_secs(seconds);
                    let most = if slowly { 1024 } else { buffer.len() };
                    let got = stream.read(&mut buffer[..most]).expect("no reset");
                    if got == 0 {
                        break;
                    }
                    let mut piece = &buffer[..got];
                    if count == 0 {
                        head.extend_from_slice(piece);
                        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                            continue;
                        };
                        piece = &head[end + 4..];
                    }
                    for byte in piece {
                        assert_eq!(usize::from(*byte), count % 256, "reader {own} at {count}");
                        sum += u64::from(*byte);
                        count += 1;
                    }
                    if slowly {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                }
                assert_eq!(count, SIZE, "reader {own} after {:?}", began.elapsed());
                sum
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    program.assert_alive();
    let grown = program.memory().1.saturating_sub(before);
    println!(
        "slow: {READERS} readers of 50 MiB at 1 KiB/s for {seconds} s, then at once: all whole; memory grew by {:.1} MiB",
        grown as f64 / 1024.0
    );
}
