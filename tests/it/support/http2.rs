//! Clients that speak HTTP/2: one by a library, and one that writes frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::PATIENCE;

/// With this a client begins.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Runs a future to its end, and no longer than a test waits.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(PATIENCE, future).await };
    runtime.block_on(limited).expect("an answer in time")
}

/// A connection that speaks HTTP/2, driven by a thread of its own.
#[derive(Clone)]
pub(crate) struct Multiplexed {
    sender: SendRequest<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The slug, if the answer is the sidecar's own.
    pub(crate) fn refusal(&self) -> &str {
        self.headers.get("bearerd-refusal").map_or("", |slug| slug.to_str().unwrap())
    }
}

impl Multiplexed {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::built(address, &Builder::new())
    }

    /// With other settings than the library's own.
    pub(crate) fn built(address: SocketAddr, builder: &Builder) -> Self {
        Self::over(builder, async move {
            tokio::net::TcpStream::connect(address).await.expect("a connection")
        })
    }

    /// Over TLS, to `localhost`.
    pub(crate) fn secure(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self::over(&Builder::new(), async move {
            let tcp = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let name = ServerName::try_from("localhost").unwrap();
            let tls = TlsConnector::from(config).connect(name, tcp).await.expect("TLS");
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            tls
        })
    }

    fn over<T: AsyncRead + AsyncWrite + Unpin + 'static>(
        builder: &Builder,
        connect: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let builder = builder.clone();
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let stream = connect.await;
                let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
                send.send(sender).unwrap();
                // How it ends is for the streams to tell.
                drop(connection.await);
            });
        });
        Self { sender: receive.recv_timeout(PATIENCE).expect("a connection") }
    }

    /// Sends a head, of which the body is still to come unless `whole`.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
        whole: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.sender.clone().ready().await.expect("room for a stream");
        ready.send_request(request, whole).expect("a stream")
    }

    /// An answer to a request with this body.
    pub(crate) fn send(&self, request: Request<()>, body: Option<&[u8]>) -> Reply {
        run(async {
            let (answer, mut sending) = self.begin(request, body.is_none()).await;
            if let Some(body) = body {
                sending.send_data(Bytes::copy_from_slice(body), true).expect("a body");
            }
            whole(answer.await.expect("an answer")).await.expect("a whole answer")
        })
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(get(path), None)
    }

    /// Whether the connection takes no further request.
    pub(crate) fn is_over(&self) -> bool {
        run(async { self.sender.clone().ready().await.is_err() })
    }
}

/// A GET of `localhost`.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://localhost{path}")).body(()).unwrap()
}

/// Reads an answer to its end.
pub(crate) async fn whole(answer: Response<RecvStream>) -> Result<Reply, h2::Error> {
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

/// A frame as it came (RFC 9113 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A header block in which nothing is compressed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 127, "short texts only");
            out.push(length);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A connection over which a test writes what frames it likes.
pub(crate) struct Framed {
    stream: TcpStream,
}

impl Framed {
    /// Begins with the preface and empty settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut framed = Self { stream };
        framed.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        framed
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the sidecar takes bytes");
    }

    /// Writes for as long as the sidecar takes it.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// A head with these fields, which ends the stream.
    pub(crate) fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.write(&frame(HEADERS, 5, stream, &block(fields)));
    }

    /// The next frame; none at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The frames that were sent at once: waits for them without a pause, so as to see them before
    /// more can follow.
    pub(crate) fn burst(&mut self) -> Vec<Frame> {
        let mut came = [0; 4096];
        self.stream.set_nonblocking(true).unwrap();
        let count = loop {
            match self.stream.peek(&mut came) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                count => break count.expect("further frames"),
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        let mut frames = Vec::new();
        let mut taken = 0;
        while taken < count {
            let frame = self.next().expect("a whole frame");
            taken += 9 + frame.payload.len();
            frames.push(frame);
        }
        frames
    }

    /// Reads up to a frame of this kind.
    pub(crate) fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("a further frame");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    pub(crate) fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }
}
