//! The hosts under which a listener may be addressed: a web page that has its own name
//! rebound to this machine reaches the listener, but under a name that is not on the list.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer};

use crate::vocab::{Mistake, Placeholder, scalar};

/// The hosts under which a listener may be addressed.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// In lower case, sorted, so that a list of ten thousand is searched as one of one is.
    names: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
    all_addresses: bool,
    /// The names, and the addresses of IPv4 as text; sorted.
    spelled: Vec<Box<str>>,
}

/// A host in a `Host` field or an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'h> {
    /// A name, without the dot that may end it; case is to be ignored.
    Name(&'h str),
    /// An address in its one canonical form: `127.1` and `0x7f.1` are names.
    Address(IpAddr),
}

/// A host as it is written in the configuration: a name or an address, without a port.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct HostName(String);

impl HostName {
    fn parse(text: &str) -> Result<Self, Mistake> {
        let wrong = |hint| Err(Mistake::new(format!("`{text}` is not a host")).hint(hint));
        // As the environment names a Pod's address.
        let bare = text.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
        let text = bare.as_deref().unwrap_or(text);
        match Host::parse(text.as_bytes()) {
            // Browsers let other sites' pages get there (S6).
            Some((Host::Address(address), _)) if address.is_unspecified() => {
                wrong("it means every address; name those by which clients call")
            }
            Some((_, None)) => Ok(Self(text.to_owned())),
            _ => wrong("write a name or an address, without scheme, port or `*`"),
        }
    }

    /// The host as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for HostName {
    fn placeholder() -> Self {
        Self("localhost".to_owned())
    }
}

impl<'h> Host<'h> {
    /// Reads `host [":" port]` (RFC 9110 section 7.2).
    #[must_use]
    pub fn parse(bytes: &'h [u8]) -> Option<(Self, Option<u16>)> {
        if let Some(rest) = bytes.strip_prefix(b"[") {
            let end = rest.iter().position(|b| *b == b']')?;
            let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            let port = port(&rest[end + 1..])?;
            return Some((Self::Address(IpAddr::V6(address).to_canonical()), port));
        }
        let end = bytes.iter().position(|b| *b == b':').unwrap_or(bytes.len());
        let (name, rest) = bytes.split_at(end);
        let port = port(rest)?;
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        if !name.iter().all(fits) || matches!(name, [] | [b'.', ..]) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        if name.starts_with(|c: char| c.is_ascii_digit())
            && let Ok(address) = name.parse::<Ipv4Addr>()
        {
            return Some((Self::Address(IpAddr::V4(address)), port));
        }
        Some((Self::Name(name.strip_suffix('.').unwrap_or(name)), port))
    }

    /// Whether the two are the same host.
    #[must_use]
    pub fn is(self, other: Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Address(a), Host::Address(b)) => a == b,
            _ => false,
        }
    }
}

/// The port behind a host: none, empty, or a number.
#[expect(clippy::option_option, reason = "no port is not the same as a bad one")]
fn port(rest: &[u8]) -> Option<Option<u16>> {
    let [b':', digits @ ..] = rest else { return rest.is_empty().then_some(None) };
    let add = |port: u16, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    };
    let number = digits.iter().try_fold(0, add)?;
    Some((!digits.is_empty()).then_some(number))
}

impl Hosts {
    /// The loopback names and addresses only.
    #[must_use]
    pub fn new() -> Self {
        let mut hosts = Self {
            names: vec!["localhost".into()],
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            all_addresses: false,
            spelled: Vec::new(),
        };
        hosts.spell();
        hosts
    }

    fn spell(&mut self) {
        let addresses = self.addresses.iter().filter(|address| address.is_ipv4());
        let addresses = addresses.map(|address| address.to_string().into_boxed_str());
        self.spelled = self.names.iter().cloned().chain(addresses).collect();
        self.spelled.sort_unstable();
    }

    /// Adds `hosts`, which are names or addresses without port. What is neither is left out.
    pub fn add<'h>(&mut self, hosts: impl IntoIterator<Item = &'h str>) {
        for host in hosts {
            match Host::parse(host.as_bytes()) {
                Some((Host::Name(name), _)) => {
                    self.names.push(name.to_ascii_lowercase().into_boxed_str());
                }
                Some((Host::Address(address), _)) => self.addresses.push(address),
                None => {}
            }
        }
        self.names.sort_unstable();
        self.names.dedup();
        self.spell();
    }

    /// Adds every address, for a listener that is bound to all of them and may be behind a
    /// translation of addresses: no name can be rebound to a literal.
    pub const fn add_all_addresses(&mut self) {
        self.all_addresses = true;
    }

    /// Whether a `Host` field spells one of the hosts just as it stands here, with or without a
    /// port. Most clients do, and to tell costs a tenth of reading the field.
    #[must_use]
    pub fn spells(&self, field: &[u8]) -> bool {
        let end = field.iter().position(|b| *b == b':').unwrap_or(field.len());
        let (host, rest) = field.split_at(end);
        port(rest).is_some()
            && self.spelled.binary_search_by(|known| known.as_bytes().cmp(host)).is_ok()
    }

    /// Whether a listener may be addressed as `host`; `local` is the connection's own address,
    /// which no name can be rebound to. A Unix socket has none: no browser reaches it, but a relay
    /// in front of it may be reached, so the names count there too.
    #[must_use]
    pub fn allows(&self, host: Host<'_>, local: Option<IpAddr>) -> bool {
        match host {
            Host::Address(address) => {
                self.all_addresses
                    || local.is_some_and(|local| address == local.to_canonical())
                        && !address.is_unspecified()
                    || self.addresses.contains(&address)
            }
            Host::Name(name) => self.names.binary_search_by(|known| compare(known, name)).is_ok(),
        }
    }
}

/// Compares a name in lower case with one in any case.
fn compare(known: &str, name: &str) -> Ordering {
    known.bytes().cmp(name.bytes().map(|b| b.to_ascii_lowercase()))
}

impl Default for Hosts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_never_match_or_match_anything_is_no_host_s4_s6() {
        for good in ["billing.internal", "Billing.", "10.1.2.3", "[::1]", "a_b"] {
            assert_eq!(HostName::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "*", "*.internal", "a b", "http://a", "a:80", "a/", "::", "0.0.0.0", "[::]", "a,b"]
        {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HostName::parse("fd00::7").unwrap().as_str(), "[fd00::7]");
    }
}
