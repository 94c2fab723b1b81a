use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server of HTTP/2 whose every request is handled by a script.
pub(crate) struct Http2 {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    log: Log,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

/// One exchange, seen from the upstream.
pub(crate) struct Exchange {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// Which connection it came over, from 0, and which request of it this is.
    pub(crate) connection: usize,
    pub(crate) number: usize,
    /// Has the connection end as said.
    pub(crate) leave: Arc<Mutex<Option<Leave>>>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leave {
    /// GOAWAY; what is under way goes on.
    Gracefully,
    /// Without a word.
    Rudely,
}

type Script = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Http2 {
    /// Runs `script` for every request.
    pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::start(&Builder::new(), None, script)
    }

    /// The same with other settings, and with TLS.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        builder: &Builder,
        tls: Option<TlsAcceptor>,
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        let script: Script = Arc::new(move |exchange| Box::pin(script(exchange)));
        let builder = builder.clone();
        Self::listen(move |stream, index, log| {
            let (script, builder, tls) = (Arc::clone(&script), builder.clone(), tls.clone());
            async move {
                match tls {
                    None => serve(stream, &builder, index, &script, &log).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &builder, index, &script, &log).await;
                        }
                    }
                }
            }
        })
    }

    fn listen<F: Future<Output = ()> + Send + 'static>(
        connected: impl Fn(TcpStream, usize, Log) -> F + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            connections: Arc::default(),
            open: Arc::default(),
            log: Arc::default(),
        };
        let (connections, open, log) =
            (Arc::clone(&server.connections), Arc::clone(&server.open), Arc::clone(&server.log));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let index = connections.fetch_add(1, Ordering::SeqCst);
                    open.fetch_add(1, Ordering::SeqCst);
                    let connection = connected(stream, index, Arc::clone(&log));
                    let open = Arc::clone(&open);
                    spawn(async move {
                        connection.await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        });
        server
    }

    /// A server that chose HTTP/1.1, answers every request with that name and counts as one of
    /// HTTP/2 in all else.
    pub(crate) fn raw(tls: TlsAcceptor) -> Self {
        Self::choosing(move |_| tls.clone(), |_| async {})
    }

    /// A server whose TLS is asked for anew for every connection, by its number. Where that
    /// settles on HTTP/2, `script` answers, and else the name of HTTP/1.1 does.
    pub(crate) fn choosing<F: Future<Output = ()> + Send + 'static>(
        tls: impl Fn(usize) -> TlsAcceptor + Send + 'static,
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        let script: Script = Arc::new(move |exchange| Box::pin(script(exchange)));
        Self::listen(move |stream, index, log| {
            let (tls, script) = (tls(index), Arc::clone(&script));
            async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return serve(stream, &Builder::new(), index, &script, &log).await;
                }
                let mut head = [0; 4096];
                while let Ok(1..) = stream.read(&mut head).await {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhttp/1.1";
                    if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// Answers every request with its body, or `ok` if it has none.
    pub(crate) fn echo() -> Self {
        Self::run(|mut exchange| async move {
            let body = exchange.body().await;
            let body = if body.is_empty() { Bytes::from_static(b"ok") } else { body };
            exchange.answer(Response::new(()), body);
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

#[allow(clippy::disallowed_methods)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    builder: &Builder,
    index: usize,
    script: &Script,
    log: &Mutex<Vec<Seen>>,
) {
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let leave = Arc::new(Mutex::new(None));
    let mut number = 0;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            _ = look.tick() => {
                match leave.lock().unwrap().take() {
                    Some(Leave::Gracefully) => connection.graceful_shutdown(),
                    Some(Leave::Rudely) => return,
                    None => {}
                }
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        log.lock().unwrap().push(Seen {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        });
        let leave = Arc::clone(&leave);
        spawn(script(Exchange { request, respond, connection: index, number, leave }));
        number += 1;
    }
}

impl Exchange {
    /// The request's whole body, without its trailers.
    pub(crate) async fn body(&mut self) -> Bytes {
        let mut all = Vec::new();
        let body = self.request.body_mut();
        while let Some(Ok(chunk)) = body.data().await {
            body.flow_control().release_capacity(chunk.len()).unwrap();
            all.extend_from_slice(&chunk);
        }
        all.into()
    }

    /// The request's trailers, once its body was read.
    pub(crate) async fn trailers(&mut self) -> HeaderMap {
        self.request.body_mut().trailers().await.ok().flatten().unwrap_or_default()
    }

    /// Answers.
    pub(crate) fn answer(&mut self, head: Response<()>, body: impl Into<Bytes>) {
        let mut stream = self.respond.send_response(head, false).expect("a stream");
        stream.send_data(body.into(), true).expect("a stream");
    }

    /// Has the connection end.
    pub(crate) fn leave(&self, how: Leave) {
        *self.leave.lock().unwrap() = Some(how);
    }
}
