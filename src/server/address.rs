//! Where a listener is bound, and between which ends a connection runs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};

use crate::vocab::{Mistake, Placeholder, scalar};

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Endpoint {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A socket that the service manager passes: the one of this name, or the only one.
    Systemd(Option<String>),
}

impl Endpoint {
    /// A port of 127.0.0.1.
    #[must_use]
    pub const fn loopback(port: u16) -> Self {
        Self::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Reads `IP:PORT`, `unix:/PATH`, `systemd` or `systemd:NAME`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && !path.ends_with('/') {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(Mistake::new(format!("`{text}` is not a socket to listen at"))
                    .hint("write the whole path, such as `unix:/run/bearerd/proxy.sock`"))
            };
        }
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
                Ok(Self::Systemd(Some(name.to_owned())))
            } else {
                Err(Mistake::new(format!("`{text}` names no socket")).hint(
                    "write `systemd`, or `systemd:` and the `FileDescriptorName=` of its unit",
                ))
            };
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self::Inet).map_err(|_| {
            Mistake::new(format!("`{text}` is not an address to listen at")).hint(
                "write an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`, or \
                 `unix:/PATH`, or `systemd`",
            )
        })
    }

    /// The IP address and the port, if it has them.
    #[must_use]
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }

    /// Whether only programs of this machine can reach it, as far as it can be told: what a passed
    /// socket is bound to is known when it is there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.inet().is_none_or(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// For the command line.
impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|mistake| mistake.what)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Endpoint {
    fn placeholder() -> Self {
        Self::loopback(0)
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Of one over TCP.
    Inet {
        /// The client's address.
        client: SocketAddr,
        /// The address that the client connected to.
        local: SocketAddr,
    },
    /// Of one over a Unix socket, which have no addresses.
    Unix,
}

impl Ends {
    /// The client's IP address; an IPv4 one is one, whatever kind of socket it came over.
    #[must_use]
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Self::Inet { client, .. } => Some(client.ip().to_canonical()),
            Self::Unix => None,
        }
    }

    /// The IP address that the client connected to.
    #[must_use]
    pub const fn local(self) -> Option<IpAddr> {
        match self {
            Self::Inet { local, .. } => Some(local.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { client, .. } => write!(f, "{client}"),
            Self::Unix => f.write_str("a Unix socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_told() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:80",
            "unix:/run/bearerd/proxy.sock",
            "systemd",
            "systemd:bearerd.socket",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("localhost:1").unwrap(), Endpoint::loopback(1));
        for bad in [
            "8080",
            "localhost",
            "unix:",
            "unix:proxy.sock",
            "unix:/run/",
            "example.com:1",
            "systemd:",
            "systemd:a:b",
            "systemd:a b",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        assert!(Endpoint::parse("unix:/a").unwrap().is_local());
        assert!(!Endpoint::parse("0.0.0.0:1").unwrap().is_local());
    }
}
