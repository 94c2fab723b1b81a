//! The configuration file. With `vocab::At` the only place that names the YAML crate.
//!
//! Each part's settings stand beside the part; this module composes them, reads a file into them
//! ([`load`]) and hands over what `check` found to be sound.

mod check;
mod describe;
mod fault;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod search;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

pub use self::check::Loaded;
use crate::net::certificate;
use crate::proxy::forwarded::Trusted;
use crate::proxy::{caller, route};
use crate::server::{Endpoint, HostName, Limits};
use crate::telemetry::journal::Inspect;
use crate::token::source::Kind;
use crate::vocab::{
    At, Mistake, Period, Place, Placeholder, Problem, Problems, TokenName, collecting, scalar,
};

/// A configuration is text for people; a larger file is a mistake.
const MOST_BYTES: u64 = 1024 * 1024;

/// The root of the configuration file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "bearerd configuration")]
pub struct Config {
    /// Where clients connect: an address and a port, of which 0 picks a free one, or
    /// `unix:/PATH`, or `systemd` (`systemd:NAME` if there are several) for a socket that the
    /// service manager passes.
    #[serde(default = "default_listen")]
    pub listen: At<Endpoint>,
    /// The permissions of a Unix socket, in octal. Default `600`: only the same user's programs.
    /// Those of a passed socket are its manager's.
    #[serde(default = "default_socket_mode")]
    pub socket_mode: At<Mode>,
    /// TLS for clients at `listen`. Default: none.
    pub tls: Option<certificate::Settings>,
    /// Where metrics and probes are served.
    #[serde(default = "default_admin")]
    pub admin: At<Address>,
    /// Says that `listen` may be reached by others than this machine's programs although nothing
    /// but the network keeps them from using the tokens. Default `false`.
    #[serde(default)]
    pub exposed: bool,
    /// A secret by which callers prove that they may use the proxy. Default: none.
    pub caller: Option<caller::Settings>,
    /// Threads that carry requests; as many as the machine (or its cgroup) has CPUs unless said
    /// otherwise.
    pub workers: Option<At<u16>>,
    /// Host names by which clients may call beside the loopback names and the bound address.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// Addresses and networks of proxies whose `X-Forwarded-*` and `Forwarded` are kept and added
    /// to; `unix` for whoever reaches the Unix socket. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<Trusted>,
    /// How long a request waits for a token that is not there yet.
    #[serde(default = "default_token_wait")]
    pub token_wait: Period,
    /// Most time for requests under way to finish after SIGTERM.
    #[serde(default = "default_drain")]
    pub drain: Period,
    /// How long connections are still accepted after SIGTERM, so that whoever sends traffic can
    /// learn of the end; readiness is false meanwhile.
    #[serde(default = "default_drain_delay")]
    pub drain_delay: Period,
    /// Whether requests carry `Via`, by which a loop is found out.
    #[serde(default = "yes")]
    pub via: bool,
    /// What the status page lists of the last requests while somebody looks: `paths`, `names`
    /// (without paths) or `none`. Always `none` where `admin` is no loopback address.
    #[serde(default)]
    pub inspect: Inspect,
    /// Bounds on what clients and upstreams may use up.
    #[serde(default)]
    pub limits: Limits,
    /// The tokens by name; each is a map with one key, its kind.
    #[serde(default)]
    pub tokens: BTreeMap<TokenName, At<Kind>>,
    /// Where requests go and what is injected; the longest matching prefix wins.
    pub routes: Vec<route::Settings>,
}

/// The permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Mode(pub u32);

impl Mode {
    /// Reads three octal digits, perhaps after a `0`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let digits = text.strip_prefix("0o").or(text.strip_prefix('0')).unwrap_or(text);
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| digits.len() == 3);
        mode.map(Self).ok_or_else(|| {
            Mistake::new("these are no permissions").hint("write three octal digits, such as `660`")
        })
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Mode {
    fn placeholder() -> Self {
        Self(0o600)
    }
}

/// An address of the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Address(pub SocketAddr);

impl Address {
    /// Reads `IP:PORT`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self).map_err(|_| {
            Mistake::new(format!("`{text}` is not an address to listen at"))
                .hint("write an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`")
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Address {
    fn placeholder() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

const fn default_listen() -> At<Endpoint> {
    At::nowhere(Endpoint::loopback(8080))
}

const fn default_socket_mode() -> At<Mode> {
    At::nowhere(Mode(0o600))
}

const fn default_admin() -> At<Address> {
    At::nowhere(loopback(9090))
}

const fn loopback(port: u16) -> Address {
    Address(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port))
}

const fn yes() -> bool {
    true
}

const fn default_token_wait() -> Period {
    Period::secs(5)
}

const fn default_drain() -> Period {
    Period::secs(25)
}

const fn default_drain_delay() -> Period {
    Period::secs(0)
}

/// What flags and environment variables say over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<Endpoint>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
    /// `BEARERD_WORKERS`.
    pub workers: Option<u16>,
}

/// All that is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The problems in the file's order; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    fn new(path: &Path, problems: Problems) -> Self {
        Self { path: path.to_owned(), problems: problems.sorted() }
    }

    fn render(&self) -> String {
        let file = self.path.display().to_string();
        let lines: Vec<String> =
            self.problems.iter().map(|problem| problem.render(&file)).collect();
        lines.join("\n")
    }
}

/// Reads and checks a file.
///
/// # Errors
/// Every mistake that can be told at once; none quotes a value at a secret's place.
pub fn load(path: &Path, overrides: Overrides) -> Result<Loaded, ConfigError> {
    let text = read(path).map_err(|problem| {
        let mut problems = Problems::new();
        problems.push(problem);
        ConfigError::new(path, problems)
    })?;
    parse(&text, overrides).map_err(|problems| ConfigError::new(path, problems))
}

/// Checks a text.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, overrides: Overrides) -> Result<Loaded, Problems> {
    let (parsed, mut problems) = deserialized(text);
    let mut config = match parsed {
        Ok(config) => config,
        Err(error) => {
            problems.push(fault::problem(&error));
            return Err(search::with_the_rest(text, problems));
        }
    };
    if let Some(listen) = overrides.listen {
        config.listen = said_by("listen", listen);
    }
    if let Some(admin) = overrides.admin {
        config.admin = said_by("admin", Address(admin));
    }
    config.workers = overrides.workers.map(|count| said_by("workers", count)).or(config.workers);
    check::check(config, problems).map_err(blame_flags)
}

/// What serde makes of a text, and the mistakes of scalars up to there.
fn deserialized(text: &str) -> (Result<Config, serde_yaml::Error>, Problems) {
    let options = serde_yaml::options! { with_snippet: false };
    collecting(|| serde_yaml::from_str_with_options(text, options))
}

/// Checks whether `config`, which was read from `path`, may be served where the process really
/// listens and by the TLS that it really speaks: a passed socket's address stands in no file, and
/// neither changes by a reload.
///
/// # Errors
/// As [`load`].
pub fn placed(
    config: &Config,
    listen: &Endpoint,
    tls: Option<&certificate::Settings>,
    path: &Path,
) -> Result<(), ConfigError> {
    let mut problems = Problems::new();
    check::placed(config, listen, tls, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(path, blame_flags(problems))) }
}

/// The flags over the file. A value of theirs stands in line 0, in the column of its flag.
const FLAGS: [(&str, u64); 3] = [("listen", 1), ("admin", 2), ("workers", 3)];

fn said_by<T>(flag: &str, value: T) -> At<T> {
    let column = FLAGS.iter().find(|(name, _)| *name == flag).map_or(0, |(_, column)| *column);
    At { value, place: Place { line: 0, column } }
}

/// Has the mistakes of flags name their flag instead of a place in the file.
fn blame_flags(problems: Problems) -> Problems {
    let mut blamed = Problems::new();
    for problem in problems.sorted() {
        let of_flag =
            |place: Place| FLAGS.iter().find(|flag| place == Place { line: 0, column: flag.1 });
        let flag = problem.place.and_then(of_flag);
        blamed.push(match flag {
            Some((name, _)) => {
                let variable = name.to_ascii_uppercase();
                let mistake = problem.mistake;
                let what = format!("`--{name}` (or `BEARERD_{variable}`): {}", mistake.what);
                Problem { place: None, mistake: Mistake { what, ..mistake } }
            }
            None => problem,
        });
    }
    blamed
}

fn read(path: &Path) -> Result<String, Problem> {
    let whole = |mistake| Problem { place: None, mistake };
    let unreadable = |error: std::io::Error| {
        whole(
            Mistake::new(format!("cannot read the configuration: {error}"))
                .hint("check the path given by --config or BEARERD_CONFIG"),
        )
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        let mistake = Mistake::new("the configuration is larger than 1 MiB");
        return Err(whole(mistake.hint("is it the right file?")));
    }
    String::from_utf8(text).map_err(|error| {
        let sound = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        Mistake::new("the configuration is not valid UTF-8")
            .hint("save the file as UTF-8")
            .at(end_of(&String::from_utf8_lossy(sound)))
    })
}

/// The place after a text's last character.
fn end_of(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Place { line: count(text.matches('\n').count()) + 1, column: count(last.chars().count()) + 1 }
}

/// The JSON schema of the file, for editors.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Config);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "listen: 127.0.0.1:1
tokens:
  api: {value: {from: {env: PATH}}}
routes:
  - upstream: https://api.example.com
    inject: {Authorization: 'Bearer ${api}'}
    cors: {origins: ['http://localhost:5173']}
    deny: [{path: /admin/, methods: [GET]}]
";

    proptest::proptest! {
        #[test]
        fn fuzz_no_text_panics_and_every_mistake_has_words_s43(
            at in 0..SOUND.len(),
            cut in 0_usize..40,
            junk in r"[ -~\n\t&*|>\x00\u{85}\u{feff}\u{202e}]{0,12}",
        ) {
            let end = (at + cut).min(SOUND.len());
            let text = format!("{}{junk}{}", &SOUND[..at], &SOUND[end..]);
            if let (Ok(_), found) = deserialized(&text) {
                let all = search::with_the_rest(&text, found.clone()).sorted();
                proptest::prop_assert_eq!(all, found.sorted(), "told of what serde takes");
            }
            if let Err(problems) = parse(&text, Overrides::default()) {
                let problems = problems.sorted();
                proptest::prop_assert!(!problems.is_empty());
                proptest::prop_assert!(problems.iter().all(|p| !p.mistake.what.is_empty()));
            }
        }
    }
}
