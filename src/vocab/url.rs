//! Absolute http(s) URLs of the configuration.

use std::fmt;
use std::net::IpAddr;

use http::HeaderValue;
use http::uri::Authority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Mistake, Placeholder, scalar};

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// An absolute URL with no user information and no fragment. Path and query are kept byte for
/// byte; nothing is decoded or normalised.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    scheme: Scheme,
    authority: Authority,
    path: String,
    query: Option<String>,
}

impl HttpUrl {
    /// Reads a URL. Messages never quote it: it may hold a password.
    ///
    /// # Errors
    /// Another scheme, user information, a fragment, or no host.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (scheme, rest) = if lower.starts_with("https://") {
            (Scheme::Https, &text[8..])
        } else if lower.starts_with("http://") {
            (Scheme::Http, &text[7..])
        } else {
            return Err(Mistake::new("this is not an absolute URL")
                .hint("begin with `https://` (or `http://` for a loopback address)"));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(Mistake::new("a URL must not hold a user name or password")
                .hint("secrets go into `{file: ..}` or `{env: ..}`"));
        }
        if target.contains('#') {
            return Err(Mistake::new("a URL for requests has no fragment (`#`)"));
        }
        if target.bytes().any(|b| !(0x21..=0x7e).contains(&b)) {
            return Err(Mistake::new(
                "the URL's path or query has a space, control or non-ASCII character",
            )
            .hint("percent-encode it"));
        }
        let authority = authority
            .parse::<Authority>()
            .ok()
            .filter(|parsed| !parsed.host().is_empty() && parsed.as_str().len() == authority.len())
            .ok_or_else(|| Mistake::new("the URL has no valid host"))?;
        if authority.as_str()[authority.host().len()..].starts_with(':')
            && authority.port_u16().is_none()
        {
            return Err(Mistake::new("the URL's port is not a number from 0 to 65535"));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, authority, path: path.to_owned(), query })
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without brackets: a name or an address.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// The path as written; `/` where none is.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as written, without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query as they go into a request line.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The `Host` field's value: the port is left out where it is the scheme's own.
    #[must_use]
    pub fn host_value(&self) -> HeaderValue {
        let default = match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let text = if self.port() == default {
            self.authority.host().to_owned()
        } else {
            format!("{}:{}", self.authority.host(), self.port())
        };
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Whether the host can only be this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost")
            || host.to_ascii_lowercase().ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// What is wrong with sending a credential there: plain HTTP to anything but this machine is
    /// refused unless the URL's owner says `plaintext: true`.
    #[must_use]
    pub fn plaintext_mistake(&self, allowed: bool) -> Option<Mistake> {
        (self.scheme == Scheme::Http && !allowed && !self.is_loopback()).then(|| {
            Mistake::new("a credential would travel in plain text: `http://` to another machine")
                .hint("use `https://`, or say `plaintext: true` beside this URL if the network is trusted")
        })
    }

    /// Whether the host and port are these.
    #[must_use]
    pub fn is_at(&self, ip: IpAddr, port: u16) -> bool {
        self.port() == port
            && (self.host().parse::<IpAddr>().is_ok_and(|own| own == ip)
                || (self.is_loopback() && ip.is_loopback()))
    }
}

impl fmt::Display for HttpUrl {
    /// Without the query, which may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for HttpUrl {
    fn placeholder() -> Self {
        Self {
            scheme: Scheme::Https,
            authority: Authority::from_static("placeholder.invalid"),
            path: "/".to_owned(),
            query: None,
        }
    }
}

impl JsonSchema for HttpUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HttpUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["https://api.example.com/v1/"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_byte_for_byte() {
        let url = HttpUrl::parse("https://a.example//x/%7E?b=1&&c").unwrap();
        assert_eq!(url.target(), "//x/%7E?b=1&&c");
        assert_eq!(url.port(), 443);
        assert_eq!(url.host_value(), "a.example");
    }

    #[test]
    fn a_url_with_a_password_is_refused_without_being_quoted() {
        let mistake = HttpUrl::parse("https://bob:hunter2@a.example/").unwrap_err();
        assert!(!mistake.what.contains("hunter2"));
    }

    #[test]
    fn loopback_is_told_by_name_and_address() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:8080/", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(HttpUrl::parse(url).unwrap().is_loopback(), expected, "{url}");
        }
    }

    #[test]
    fn odd_urls_are_refused() {
        for bad in [
            "ftp://x",
            "https://",
            "https://a b/",
            "https://a/#f",
            "https://a:99999/",
            "x",
            "https://a/\u{e9}",
        ] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
