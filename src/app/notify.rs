//! Tells a service manager where the process stands, by the protocol of `sd_notify(3)`: systemd's
//! `Type=notify` and `Type=notify-reload`. Without `NOTIFY_SOCKET` nobody is told anything.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use super::Bound;

/// The service manager, if there is one; clones share the socket.
#[derive(Debug, Clone, Default)]
pub(super) struct Manager(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Manager {
    /// The manager that the environment names.
    pub(super) fn from_env() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        Self::at(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET is set, but the service manager cannot be told");
            Self::default()
        })
    }

    fn at(path: &OsStr) -> io::Result<Self> {
        let address = address(path)?;
        // A manager that does not read must not hold us up.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Arc::new((socket, address)))))
    }

    /// Connections are accepted.
    pub(super) fn ready(&self, bound: &Bound) {
        let Bound { proxy, admin } = bound;
        self.tell(&format!("READY=1\nSTATUS=Listening at {proxy}, admin at {admin}"));
    }

    /// The configuration is being read anew; [`Self::reloaded`] must follow.
    pub(super) fn reloading(&self) {
        // By this the manager knows whether the reload came after its own request.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The reload has ended, well or not: the process serves either way.
    pub(super) fn reloaded(&self, success: bool) {
        let words = if success {
            "Configuration reloaded"
        } else {
            "Configuration not reloaded, the old one stays; see the log"
        };
        self.tell(&format!("READY=1\nSTATUS={words}"));
    }

    /// Draining has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Draining");
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = self.0.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// A path, or after `@` a name that is in no file system.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => abstract_address(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor `@name`")),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets are Linux's"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A manager's end; also what it was told.
    fn heard(receiver: &UnixDatagram) -> String {
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 512];
        let count = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    fn bound() -> Bound {
        let admin = "127.0.0.1:8080".parse().unwrap();
        Bound { proxy: crate::server::Endpoint::loopback(8080), admin }
    }

    #[test]
    fn the_manager_is_told_through_a_socket_in_the_file_system() {
        let name = format!("bearerd-notify-{}", crate::token::template::uuid());
        let path = std::env::temp_dir().join(name);
        let receiver = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.as_os_str()).unwrap();
        manager.ready(&bound());
        assert!(heard(&receiver).starts_with("READY=1\nSTATUS=Listening at 127.0.0.1:8080"));
        manager.reloading();
        let told = heard(&receiver);
        let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0, "{told}");
        manager.reloaded(false);
        assert!(heard(&receiver).starts_with("READY=1\n"));
        manager.stopping();
        assert!(heard(&receiver).starts_with("STOPPING=1\n"));
        std::fs::remove_file(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_manager_is_told_through_an_abstract_socket() {
        let name = format!("bearerd-notify-{}", crate::token::template::uuid());
        let address = abstract_address(name.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        Manager::at(OsStr::new(&format!("@{name}"))).unwrap().stopping();
        assert!(heard(&receiver).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_relative_path_is_no_manager() {
        assert!(Manager::at(OsStr::new("notify")).is_err());
    }

    #[test]
    fn a_manager_that_is_gone_does_no_harm() {
        Manager::at(OsStr::new("/nonexistent/bearerd/notify")).unwrap().stopping();
    }
}
