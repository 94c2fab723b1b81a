//! How a route is written in the configuration, and what is wrong with a list of them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use super::access::Rule;
use super::cors;
use super::forwarded::Forwarded;
use super::origin::Origin;
use super::page::Navigation;
use crate::net::tls;
use crate::server::Host;
use crate::token::present::Inject;
use crate::vocab::{
    At, FieldName, Mistake, Period, Place, Placeholder, Problems, RouteName, Scheme, Text,
    by_field_name, choices, scalar,
};

/// One entry of `routes`: which requests it takes, where they go, what is injected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub struct Settings {
    /// The route's name in metrics and logs. Default `route-N`, N being its place in the list.
    pub name: Option<RouteName>,
    /// Which requests it takes. Default: all that no other route takes.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Removes the matched path prefix before the request is sent. Default `false`.
    #[serde(default)]
    pub strip_prefix: bool,
    /// Where the requests go: scheme, host, port, and a path that is put before the request's; or
    /// a map that says more.
    pub upstream: At<Origin>,
    /// Permits `http://` to a host other than this machine, where anybody on the way can read
    /// the credential. Default `false`.
    #[serde(default)]
    pub plaintext: bool,
    /// TLS towards the upstream.
    #[serde(default)]
    pub tls: tls::Settings,
    /// The header fields that are set on each request.
    #[serde(default, deserialize_with = "by_field_name")]
    pub inject: Inject,
    /// What is removed from each request beyond `Authorization`, `Proxy-Authorization` and every
    /// field that any route injects.
    #[serde(default)]
    pub strip: Strip,
    /// The `Host` that the upstream sees. Default `upstream`.
    #[serde(default)]
    pub host: HostField,
    /// Tells the upstream about the client: `true` by `X-Forwarded-For`, `-Proto` and `-Host`,
    /// `rfc7239` by `Forwarded`, `both` by all of them. The client's own such fields are removed
    /// unless `trusted_proxies` lists the client. Default `true`.
    #[serde(default = "by_x")]
    pub forwarded: Forwarded,
    /// Longest pause of the upstream within an answer's body, or `off`. Default:
    /// `limits.upstream_body_idle`.
    pub body_idle: Option<BodyIdle>,
    /// What may be called: a request must fit one of these rules. Default: everything.
    #[serde(default)]
    pub allow: Vec<Rule>,
    /// What may not be called, whatever `allow` says.
    #[serde(default)]
    pub deny: Vec<Rule>,
    /// The origins whose pages may call this route. Default: none.
    pub cors: Option<cors::Settings>,
    /// Whether a browser may show answers as pages: `allow` if the user typed the address, or
    /// `refuse`. Default `allow`.
    #[serde(default)]
    pub navigation: Navigation,
    /// Permits `%2F` in paths where paths are judged: where any route matches by path, or this
    /// one changes it. Default `false`.
    #[serde(default)]
    pub encoded_slash: bool,
}

const fn by_x() -> Forwarded {
    Forwarded::ByX
}

/// Which requests a route takes. All conditions must hold; among the routes that fit, one with a
/// host comes before one without, and a longer path before a shorter one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The request's host, without port; case is ignored.
    pub host: Option<At<Text>>,
    /// The beginning of the request's path. `/api` takes `/api` and `/api/..` but not `/apix`;
    /// `/api/` takes `/api/..` but not `/api`.
    pub path: Option<At<Text>>,
}

/// What is removed from requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strip {
    /// Header fields. `_` in a request's field name counts as `-`.
    pub headers: Vec<FieldName>,
    /// Header fields whose names begin so.
    pub header_prefixes: Vec<FieldName>,
    /// Query parameters. The rest of the query stays byte for byte as it is.
    pub query: Vec<At<Text>>,
    /// Cookies, or `"*"` for all of them.
    pub cookies: Vec<At<Text>>,
    /// Header fields of answers, such as `Server` or `Set-Cookie`.
    pub answer: Vec<FieldName>,
}

/// The `Host` that the upstream sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum HostField {
    /// The upstream's own.
    #[default]
    Upstream,
    /// The client's.
    Keep,
}

choices!(HostField: "upstream" = Upstream, "keep" = Keep);

/// How long an upstream may pause within a body; `off` for as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyIdle(pub Option<Period>);

impl BodyIdle {
    fn parse(text: &str) -> Result<Self, Mistake> {
        if text == "off" {
            return Ok(Self(None));
        }
        let period = Period::parse(text)
            .map_err(|mistake| mistake.hint("write `off`, or a number with a unit: `5m`"))?;
        if period.0.is_zero() {
            return Err(Mistake::new("no answer comes without any pause").hint("write `off`"));
        }
        Ok(Self(Some(period)))
    }
}

impl<'de> Deserialize<'de> for BodyIdle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for BodyIdle {
    fn placeholder() -> Self {
        Self(None)
    }
}

impl JsonSchema for BodyIdle {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BodyIdle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["5m", "off"] })
    }
}

impl Strip {
    /// What would remove nothing is a mistake: somebody relies on it.
    fn check(&self, problems: &mut Problems) {
        for name in self.query.iter().filter(|name| name.as_str().trim().is_empty()) {
            problems.add(name.place, Mistake::new("a query parameter without a name"));
        }
        // RFC 6265 section 4.1.1.
        let is_name = |name: &str| http::HeaderName::try_from(name).is_ok();
        for name in self.cookies.iter().filter(|name| !is_name(name.as_str())) {
            let what = format!("`{}` is not a cookie's name", name.as_str());
            problems.add(name.place, Mistake::new(what).hint("write `*` for all cookies"));
        }
    }
}

impl Settings {
    /// The route's name; `index` counts from 0.
    #[must_use]
    pub fn name(&self, index: usize) -> RouteName {
        let positional = || RouteName::parse(&format!("route-{}", index + 1)).ok();
        self.name.clone().or_else(positional).unwrap_or_else(Placeholder::placeholder)
    }
}

/// Fields that an injection must not touch: they route or frame the message.
const UNTOUCHABLE: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "proxy",
];

/// Whether neither an injection nor a caller's proof can use this field.
#[must_use]
pub fn is_untouchable(name: &http::HeaderName) -> bool {
    UNTOUCHABLE.contains(&name.as_str())
}

/// Notes what is wrong with the routes, taken together.
pub fn check(routes: &[Settings], problems: &mut Problems) {
    let mut names: BTreeMap<RouteName, Place> = BTreeMap::new();
    let mut matches: BTreeMap<(Option<String>, &str), Place> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        check_one(route, problems);
        let place = route.upstream.place;
        if let Some(other) = names.insert(route.name(index), place) {
            let name = route.name(index);
            let what =
                format!("two routes are named `{name}` (the other is near line {})", other.line);
            problems.add(place, Mistake::new(what).hint("give them different names"));
        }
        let host = route.matches.host.as_ref().map(|host| host.as_str().to_ascii_lowercase());
        let path = route.matches.path.as_ref().map_or("/", |path| path.as_str());
        let at = route.matches.path.as_ref().or(route.matches.host.as_ref());
        let place = at.map_or(place, |at| at.place);
        if let Some(other) = matches.insert((host, path), place) {
            let what = format!("another route (near line {}) takes the same requests", other.line);
            problems.add(place, Mistake::new(what).hint("distinguish them by `match`"));
        }
    }
}

fn check_one(route: &Settings, problems: &mut Problems) {
    let upstream = &route.upstream;
    upstream.value.check(upstream, route.plaintext, problems);
    route.tls.check(upstream.value.url.scheme() == Scheme::Https, problems);
    route.allow.iter().chain(&route.deny).for_each(|rule| rule.check(problems));
    if let Some(host) = &route.matches.host
        && Host::parse(host.as_str().as_bytes()).is_none_or(|(_, port)| port.is_some())
    {
        let mistake = Mistake::new(format!("`{}` is not a host", host.as_str()))
            .hint("write a name or an address, without a port");
        problems.add(host.place, mistake);
    }
    if route.cors.as_ref().is_some_and(|cors| cors.origins.is_empty()) {
        let mistake = Mistake::new("`cors` lists no origin")
            .hint("write `cors: {origins: [http://localhost:5173]}`");
        problems.add(upstream.place, mistake);
    }
    if let Some(path) = &route.matches.path
        && super::target::mistake(path.as_str()).is_some()
    {
        let mistake = Mistake::new(format!("`{}` cannot be matched", path.as_str()))
            .hint("begin with `/` and write no `.`, `..`, `//`, `%2F`, `?` or `#`");
        problems.add(path.place, mistake);
    }
    route.strip.check(problems);
    for (name, field) in &route.inject {
        let text = name.as_header().as_str();
        if is_untouchable(name.as_header()) {
            let what = format!("`{text}` routes or frames a request and cannot be injected");
            problems.add(field.place, Mistake::new(what).hint("use another field"));
        }
        if let Some(mistake) = field.mistake() {
            problems.add(field.place, mistake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: &str) -> Vec<String> {
        let routes: Vec<Settings> = serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::new();
        check(&routes, &mut problems);
        problems.sorted().into_iter().map(|problem| problem.mistake.what).collect()
    }

    #[test]
    fn a_plain_list_of_routes_is_fine() {
        let yaml = "
- match: {path: /api, host: api.local}
  upstream: https://api.example/v1
  inject: {Authorization: 'Bearer x', Organization: {value: acme, mode: default}}
  strip: {headers: [X-Api-Key], header_prefixes: [X-Amz-], query: [access_token], cookies: ['*']}
- upstream: http://127.0.0.1:9000
  match: {path: /b}
- upstream: {url: 'http://app.internal/', socket: /run/app.sock}
  match: {path: /c}
- upstream: {url: 'http://app.internal/', addresses: ['127.0.0.1:1', 'localhost:2']}
  match: {path: /d}
- upstream: unix:/run/app.sock
";
        assert_eq!(problems(yaml), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_told() {
        for (yaml, expected) in [
            ("- upstream: http://api.example/", "in plain text"),
            ("- upstream: https://api.example/?a=b", "no query"),
            ("- upstream: {url: 'http://localhost/', addresses: ['10.0.0.1:80']}", "in plain text"),
            ("- upstream: {url: 'https://a/', socket: /run/a}", "not spoken over"),
            ("- upstream: {url: 'http://a/', socket: run/a}", "not an absolute path"),
            ("- upstream: {url: 'http://a/', socket: /a, addresses: ['a:1']}", "exclude"),
            ("- upstream: {url: 'https://a/', addresses: ['a:1', 'a:1']}", "stands here twice"),
            ("- {upstream: 'http://127.0.0.1/', tls: {ca_file: /a}}", "no TLS is spoken"),
            ("- {upstream: 'https://a/', tls: {cert_file: /a}}", "go together"),
            ("- {upstream: 'https://a/', tls: {key: {file: /a}}}", "go together"),
            ("- {upstream: 'https://a/', match: {path: api}}", "cannot be matched"),
            ("- {upstream: 'https://a/', match: {path: /a/../b}}", "cannot be matched"),
            ("- {upstream: 'https://a/', match: {host: 'a:80'}}", "is not a host"),
            ("- {upstream: 'https://a/', inject: {Host: x}}", "cannot be injected"),
            ("- {upstream: 'https://a/', strip: {query: ['']}}", "without a name"),
            ("- {upstream: 'https://a/', strip: {cookies: ['']}}", "not a cookie's name"),
            ("- {upstream: 'https://a/', strip: {cookies: [a=b]}}", "not a cookie's name"),
            ("- {upstream: 'https://a/', inject: {Transfer-Encoding: x}}", "cannot be injected"),
            ("- {upstream: 'https://a/', inject: {X: '${now|unix}'}}", "are for token requests"),
            ("- upstream: https://a/\n- upstream: https://b/", "takes the same requests"),
            (
                "- {upstream: 'https://a/', name: x, match: {path: /a}}\n- {upstream: 'https://b/', name: x}",
                "two routes are named",
            ),
        ] {
            let found = problems(yaml);
            assert!(found.iter().any(|what| what.contains(expected)), "{yaml}: {found:?}");
        }
    }

    #[test]
    fn a_body_may_pause_for_a_time_or_for_ever() {
        let read = |text: &str| BodyIdle::parse(text);
        assert_eq!(read("off"), Ok(BodyIdle(None)));
        assert_eq!(read("5m"), Ok(BodyIdle(Some(Period::secs(300)))));
        for bad in ["0s", "never", "5", ""] {
            assert!(read(bad).unwrap_err().hint.unwrap().contains("`off`"), "{bad}");
        }
    }

    #[test]
    fn routes_are_named_by_their_place() {
        let routes: Vec<Settings> = serde_yaml::from_str("- upstream: https://a/").unwrap();
        assert_eq!(routes[0].name(0).as_str(), "route-1");
    }
}
