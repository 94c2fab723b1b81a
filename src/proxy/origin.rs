//! How a route's upstream is written: a URL, or a map that says more about it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::uri::Authority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::vocab::{
    At, HttpUrl, Mistake, Placeholder, Problems, Scheme, Text, expand_env, judged, scalar,
};

/// Where a route's requests go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Scheme, authority and a path that is put before the request's.
    pub url: HttpUrl,
    /// Which HTTP is spoken.
    pub protocol: Protocol,
    /// Where to connect instead of the URL's host; none for that host itself.
    pub addresses: Vec<At<Endpoint>>,
    /// A Unix socket to connect to instead.
    pub socket: Option<At<Text>>,
}

/// The map form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream")]
struct Fields {
    /// Scheme, host, port, and a path that is put before the request's. The host is what the
    /// upstream's certificate must be for.
    url: At<HttpUrl>,
    /// Which HTTP is spoken: `auto` (HTTP/2 where the upstream chooses it in the TLS handshake,
    /// else HTTP/1.1), `http1` or `http2` (without TLS: with prior knowledge). Default `auto`.
    #[serde(default)]
    protocol: Protocol,
    /// Where to connect, as `HOST:PORT`, instead of the URL's host; requests are shared among
    /// them. Default: the URL's host.
    #[serde(default)]
    addresses: Vec<At<Endpoint>>,
    /// A Unix socket to connect to instead; the URL is `http://` then.
    socket: Option<At<Text>>,
}

impl Origin {
    fn of(url: HttpUrl) -> Self {
        Self { url, protocol: Protocol::Auto, addresses: Vec::new(), socket: None }
    }

    /// Reads the short form: a URL, or `unix:PATH`.
    ///
    /// # Errors
    /// Neither.
    fn parse(text: &str) -> Result<Self, Mistake> {
        let Some(path) = text.strip_prefix("unix:") else {
            return HttpUrl::parse(text).map(Self::of);
        };
        if !path.starts_with('/') {
            return Err(Mistake::new("`unix:` is not followed by an absolute path")
                .hint("write `unix:/run/app.sock`"));
        }
        let mut origin = HttpUrl::parse("http://localhost/").map(Self::of)?;
        origin.socket = Some(At::nowhere(path.into()));
        Ok(origin)
    }

    /// The Unix socket's path, if there is one.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.socket.as_ref().map(|socket| PathBuf::from(socket.as_str()))
    }

    /// Whether every connection stays on this machine.
    fn is_local(&self) -> bool {
        self.socket.is_some()
            || match self.addresses.as_slice() {
                [] => self.url.is_loopback(),
                all => all.iter().all(|address| address.value.is_loopback()),
            }
    }

    /// Whether a connection would go to this address.
    #[must_use]
    pub fn is_at(&self, ip: IpAddr, port: u16) -> bool {
        self.socket.is_none()
            && match self.addresses.as_slice() {
                [] => self.url.is_at(ip, port),
                all => all.iter().any(|address| address.value.is_at(ip, port)),
            }
    }

    /// Notes what is wrong with it; `plaintext` permits a credential to travel unprotected.
    pub(super) fn check(&self, own: &At<Self>, plaintext: bool, problems: &mut Problems) {
        if !self.is_local()
            && let Some(mistake) = self.url.plaintext_mistake(plaintext).or_else(|| {
                // A loopback name that is connected to elsewhere.
                let open = self.url.scheme() == Scheme::Http && !plaintext;
                open.then(|| {
                    Mistake::new("a credential would travel in plain text to `addresses`")
                        .hint("use `https://`, or say `plaintext: true` on the route")
                })
            })
        {
            problems.add(own.place, mistake);
        }
        if self.url.query().is_some() {
            problems.add(own.place, Mistake::new("an upstream's URL has no query"));
        }
        if let Some(socket) = &self.socket {
            if !socket.as_str().starts_with('/') {
                let mistake = Mistake::new("the socket is not an absolute path");
                problems.add(socket.place, mistake.hint("write `socket: /run/app.sock`"));
            }
            if self.url.scheme() == Scheme::Https {
                let mistake = Mistake::new("TLS is not spoken over a Unix socket");
                problems.add(socket.place, mistake.hint("write `url: http://NAME/`"));
            }
            if !self.addresses.is_empty() {
                let mistake = Mistake::new("`socket` and `addresses` exclude each other");
                problems.add(socket.place, mistake.hint("remove one of them"));
            }
        }
        for (index, address) in self.addresses.iter().enumerate() {
            if self.addresses[..index].iter().any(|other| other.value == address.value) {
                let what = format!("the address `{}` stands here twice", address.value);
                problems.add(address.place, Mistake::new(what).hint("remove one of them"));
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        if let Some(socket) = &self.socket {
            write!(f, " at unix:{}", socket.as_str())?;
        }
        for (index, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { " at " } else { ", " }, address.value)?;
        }
        Ok(())
    }
}

/// The two forms, before the text is parsed: its place is known one step further out.
enum Raw {
    Text(String),
    Map(Fields),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or `{url: .., protocol: .., addresses: [..]}`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Raw, A::Error> {
                let deserializer = serde::de::value::MapAccessDeserializer::new(map);
                Fields::deserialize(deserializer).map(Raw::Map)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = At::<Raw>::deserialize(deserializer)?;
        match raw.value {
            Raw::Map(Fields { url, protocol, addresses, socket }) => {
                Ok(Self { url: url.value, protocol, addresses, socket })
            }
            Raw::Text(text) => {
                judged(raw.place, expand_env(&text).and_then(|text| Self::parse(&text)))
            }
        }
    }
}

impl Placeholder for Origin {
    fn placeholder() -> Self {
        Self::of(HttpUrl::placeholder())
    }
}

impl JsonSchema for Origin {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Origin".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<Fields>();
        json_schema!({
            "anyOf": [
                { "type": "string",
                  "examples": ["https://api.example.com/v1/", "unix:/run/app.sock"] },
                map
            ]
        })
    }
}

/// Which HTTP is spoken with an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What the TLS handshake settles on; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    fn parse(text: &str) -> Result<Self, Mistake> {
        match text {
            "auto" => Ok(Self::Auto),
            "http1" => Ok(Self::Http1),
            "http2" => Ok(Self::Http2),
            other => {
                let hint = match other.to_ascii_lowercase().as_str() {
                    "h2" | "h2c" | "http/2" | "http/2.0" | "2" => "write `http2`",
                    "h1" | "http/1.1" | "http11" | "1" | "1.1" => "write `http1`",
                    _ => "write `auto`, `http1` or `http2`",
                };
                Err(Mistake::new(format!("`{other}` is not a protocol")).hint(hint))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Protocol {
    fn placeholder() -> Self {
        Self::Auto
    }
}

impl JsonSchema for Protocol {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", "http1", "http2"] })
    }
}

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, Mistake> {
        let is_plain = |all: &Authority| !text.contains('@') && !all.host().is_empty();
        let parsed = text.parse::<Authority>().ok().filter(is_plain);
        let found = parsed.as_ref().and_then(|all| Some((all.host(), all.port_u16()?)));
        let Some((host, port)) = found.filter(|(_, port)| *port != 0) else {
            return Err(Mistake::new(format!("`{text}` is not a host with a port"))
                .hint("write `api-1.internal:8443` or `[2001:db8::1]:443`"));
        };
        let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        Ok(Self { host: inner.unwrap_or(host).to_owned(), port })
    }

    fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn is_at(&self, ip: IpAddr, port: u16) -> bool {
        self.port == port
            && (self.host.parse::<IpAddr>().is_ok_and(|own| own == ip)
                || (self.is_loopback() && ip.is_loopback()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Endpoint {
    fn placeholder() -> Self {
        Self { host: "placeholder.invalid".to_owned(), port: 1 }
    }
}

impl JsonSchema for Endpoint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["10.0.0.7:8443"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_map_say_the_same() {
        let read = |yaml: &str| serde_yaml::from_str::<Origin>(yaml).unwrap();
        assert_eq!(read("https://a.example/v1"), read("{url: 'https://a.example/v1'}"));
        let all = read(
            "{url: 'https://a.example/', protocol: http2, addresses: ['10.0.0.1:1', '[::1]:2']}",
        );
        assert_eq!(all.protocol, Protocol::Http2);
        assert_eq!(all.to_string(), "https://a.example/ at 10.0.0.1:1, [::1]:2");
        let socket = read("unix:/run/app.sock");
        assert_eq!(socket.socket_path(), Some(PathBuf::from("/run/app.sock")));
        assert!(socket.is_local());
    }

    #[test]
    fn other_spellings_are_refused_with_the_right_one() {
        for (bad, hint) in [("h2", "http2"), ("HTTP/1.1", "http1"), ("quic", "auto")] {
            assert!(Protocol::parse(bad).unwrap_err().hint.unwrap().contains(hint), "{bad}");
        }
        for bad in ["a", "a:", "a:0", "a:b", ":80", "u@a:80", "a:99999"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        assert!(Origin::parse("unix:run/app.sock").is_err());
    }
}
