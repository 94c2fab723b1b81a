//! The settings of a shared store, and the URLs by which one is named.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::super::super::exchange::value::KeptSecret;
use crate::net::tls;
use crate::vocab::{At, Mistake, Placeholder, Problems, Text, scalar};

/// A shorter key can be guessed by whoever reads the store.
const SHORTEST_KEY: usize = 32;

/// A Redis by which many programs share one token. One of them asks the issuer, the others take
/// its value over; where Redis is away, each goes on alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedisStore")]
pub struct Settings {
    /// `redis://host:6379/0`, `rediss://host` (TLS) or `unix:///run/redis.sock`; Redis 6 or later.
    pub url: At<RedisUrl>,
    /// The secret by which values are encrypted, of 32 characters or more; the same for all that
    /// share. Whoever has it and the store has the tokens.
    pub key: KeptSecret,
    /// The user of Redis; its default user unless said otherwise.
    pub username: Option<Text>,
    /// The user's password.
    pub password: Option<KeptSecret>,
    /// What the names of all entries begin with; `bearerd` unless said otherwise. Programs that
    /// should not share need another prefix or another key.
    #[serde(default = "bearerd")]
    pub prefix: Text,
    /// TLS towards Redis.
    #[serde(default)]
    pub tls: tls::Settings,
    /// Allows a password to travel to another machine without TLS.
    #[serde(default)]
    pub plaintext: bool,
}

fn bearerd() -> Text {
    Text::from("bearerd")
}

impl Settings {
    /// Every mistake that shows without asking Redis.
    pub fn check(&self, problems: &mut Problems) {
        let url = &self.url.value;
        if self.password.is_some() && !self.plaintext && !url.is_private() {
            let what = "the password of Redis would travel in plain text to another machine";
            let hint = "use `rediss://`, or say `plaintext: true` if the network is trusted";
            problems.add(self.url.place, Mistake::new(what).hint(hint));
        }
        if self.username.is_some() && self.password.is_none() {
            let mistake = Mistake::new("`username` needs `password`");
            problems.add(self.url.place, mistake.hint("add `password: {file: PATH}`"));
        }
        if !matches!(url.place, Place::Tcp { tls: true, .. }) {
            self.tls.check(false, problems);
        }
        let short = |key: crate::vocab::Secret| key.expose().len() < SHORTEST_KEY;
        // One that cannot be read is reported with all other secrets.
        if self.key.read().is_ok_and(short) {
            let what = format!("the store's `key` is shorter than {SHORTEST_KEY} characters");
            let hint = "make one by `openssl rand -base64 32`";
            problems.add(self.key.place(), Mistake::new(what).hint(hint));
        }
        let prefix = self.prefix.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(plain) {
            let mistake = Mistake::new("`prefix` is not a plain word");
            let hint = "use letters, digits, `_`, `-`, `.` and `:`, 64 characters at most";
            problems.add(self.url.place, mistake.hint(hint));
        }
    }

    /// The secrets that it reads.
    pub fn secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        std::iter::once(&self.key).chain(&self.password)
    }
}

/// How Redis is reached.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// By TCP, with TLS or without.
    Tcp {
        /// The name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether by TLS.
        tls: bool,
    },
    /// By a Unix socket.
    Unix(PathBuf),
}

/// The URL of a Redis, without user and password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisUrl {
    /// Where it is.
    pub place: Place,
    /// The number of its database.
    pub database: u16,
}

impl RedisUrl {
    /// Reads a URL. Messages never quote it: it may hold a password.
    ///
    /// # Errors
    /// Another scheme, user information, or parts that have no meaning here.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" => false,
            "rediss" => true,
            "unix" | "redis+unix" => return Self::socket(rest),
            _ => {
                return Err(Mistake::new("this is not the URL of a Redis")
                    .hint("write `redis://HOST:6379/0`, `rediss://HOST` or `unix:///PATH?db=0`"));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(Mistake::new("a URL must not hold a user name or password")
                .hint("use `username: NAME` and `password: {file: PATH}` beside it"));
        }
        if authority.contains(['?', '#']) || path.contains(['?', '#', '/']) {
            return Err(Mistake::new("the URL of a Redis ends with the number of its database")
                .hint("write `redis://HOST:6379/0`"));
        }
        let parsed = authority.parse::<http::uri::Authority>().ok();
        let parsed = parsed.filter(|parsed| !parsed.host().is_empty());
        let authority = parsed.ok_or_else(|| Mistake::new("the URL has no valid host"))?;
        let written = &authority.as_str()[authority.host().len()..];
        let port = match (authority.port_u16(), written) {
            (Some(port), _) => port,
            (None, "") => 6379,
            (None, _) => {
                return Err(Mistake::new("the URL's port is not a number from 0 to 65535"));
            }
        };
        let host = authority.host();
        let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let place = Place::Tcp { host: inner.unwrap_or(host).to_owned(), port, tls };
        Ok(Self { place, database: database(path)? })
    }

    fn socket(rest: &str) -> Result<Self, Mistake> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let number = query.strip_prefix("db=");
        if !path.starts_with('/') || (number.is_none() && !query.is_empty()) {
            return Err(Mistake::new("this is not the URL of a Unix socket")
                .hint("write `unix:///PATH`, or `unix:///PATH?db=0`"));
        }
        let place = Place::Unix(PathBuf::from(path));
        Ok(Self { place, database: database(number.unwrap_or_default())? })
    }

    /// Whether nobody on a network can listen.
    fn is_private(&self) -> bool {
        match &self.place {
            Place::Unix(_) | Place::Tcp { tls: true, .. } => true,
            Place::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

fn database(text: &str) -> Result<u16, Mistake> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Mistake::new("the database of a Redis is a number").hint("write `redis://HOST:6379/0`")
    })
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database;
        match &self.place {
            Place::Unix(path) => write!(f, "unix://{}?db={database}", path.display()),
            Place::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}/{database}")
            }
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for RedisUrl {
    fn placeholder() -> Self {
        Self { place: Place::Unix(PathBuf::new()), database: 0 }
    }
}

impl JsonSchema for RedisUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedisUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["rediss://redis.example.com:6380/0"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_and_a_database() {
        for (text, shown) in [
            ("redis://cache", "redis://cache:6379/0"),
            ("rediss://cache:1/3", "rediss://cache:1/3"),
            ("redis://[::1]:7", "redis://[::1]:7/0"),
            ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_without_being_quoted() {
        for bad in ["redis://:hunter2@cache", "redis://bob:hunter2@cache/0", "hunter2"] {
            let mistake = RedisUrl::parse(bad).unwrap_err();
            let said = format!("{} {:?}", mistake.what, mistake.hint);
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn odd_urls_are_refused() {
        for bad in [
            "redis://",
            "redis://a:99999",
            "redis://a/x",
            "redis://a/0/1",
            "redis://a?db=1",
            "unix://relative",
            "unix:///a?x=1",
            "http://a",
        ] {
            assert!(RedisUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_nobody_can_overhear_is_private() {
        for (text, private) in [
            ("redis://127.0.0.1", true),
            ("redis://localhost", true),
            ("redis://cache", false),
            ("rediss://cache", true),
            ("unix:///a", true),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().is_private(), private, "{text}");
        }
    }
}
