use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// What a relay does to connections that come from now on.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing.
    None,
    /// RST after so many bytes of the answer.
    ResetAfter(usize),
    /// The end after so many bytes of the answer.
    TruncateAfter(usize),
    /// Connected, and then silence.
    Stall,
    /// One byte of the answer per pause.
    Trickle(Duration),
    /// The answer comes later.
    Delay(Duration),
}

/// Stands between the program and an issuer; can refuse connections and come back on its port.
pub struct Relay {
    pub address: SocketAddr,
    target: SocketAddr,
    /// Bound and never listening, so that nobody else gets the port meanwhile.
    _place: Socket,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<AtomicUsize>,
    open: Mutex<Option<(Arc<AtomicBool>, JoinHandle<()>)>>,
}

fn socket(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

impl Relay {
    /// A relay that is up.
    pub fn before(target: SocketAddr) -> Self {
        let relay = Self::refusing(target);
        relay.up();
        relay
    }

    /// A relay that is not up yet.
    pub fn refusing(target: SocketAddr) -> Self {
        let place = socket("127.0.0.1:0".parse().unwrap());
        Self {
            address: place.local_addr().unwrap().as_socket().unwrap(),
            target,
            _place: place,
            fault: Arc::new(Mutex::new(Fault::None)),
            connections: Arc::default(),
            open: Mutex::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Accepts from now on.
    pub fn up(&self) {
        let socket = socket(self.address);
        socket.listen(64).unwrap();
        let listener = TcpListener::from(socket);
        let ended = Arc::new(AtomicBool::new(false));
        let (fault, connections) = (Arc::clone(&self.fault), Arc::clone(&self.connections));
        let (target, stop) = (self.target, Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (stream, fault) = (stream.unwrap(), *fault.lock().unwrap());
                std::thread::spawn(move || drop(carry(stream, target, fault)));
            }
        });
        let before = self.open.lock().unwrap().replace((ended, thread));
        assert!(before.is_none(), "it was up already");
    }

    /// Refuses connections from now on.
    pub fn down(&self) {
        if let Some((ended, thread)) = self.open.lock().unwrap().take() {
            ended.store(true, Ordering::SeqCst);
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
        }
    }
}

fn carry(client: TcpStream, target: SocketAddr, fault: Fault) -> io::Result<()> {
    if matches!(fault, Fault::Stall) {
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    let server = TcpStream::connect(target)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    let (mut from, mut to) = (server, client);
    if let Fault::Delay(time) = fault {
        std::thread::sleep(time);
    }
    let (limit, pause) = match fault {
        Fault::ResetAfter(count) | Fault::TruncateAfter(count) => (count, None),
        Fault::Trickle(pause) => (usize::MAX, Some(pause)),
        _ => (usize::MAX, None),
    };
    // Whatever the fault, the other side gets the request first.
    from.peek(&mut [0_u8])?;
    let mut sent = 0;
    let mut byte = [0_u8; 1];
    while sent < limit && from.read(&mut byte)? == 1 {
        to.write_all(&byte)?;
        sent += 1;
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
    if matches!(fault, Fault::ResetAfter(_)) {
        socket2::SockRef::from(&to).set_linger(Some(Duration::ZERO))?;
        from.shutdown(Shutdown::Both)?;
        return to.shutdown(Shutdown::Read);
    }
    to.shutdown(Shutdown::Both)
}
