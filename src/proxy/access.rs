//! What of an upstream may be called: the `allow` and `deny` lists of a route.
//!
//! A route lends out authority, so it should lend no more than is needed; token endpoints above
//! all must not be reachable through it. Paths are sent as they came; `deny` judges them in the
//! widest reading that a server may have of them, `allow` in the narrowest.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderName, Method};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;

use super::headers::is_read_as;
use super::target;
use crate::vocab::{At, Mistake, Problems, Text};

/// One rule; all of its conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The beginning of the path, as the client sends it or as the upstream gets it. `/admin/`
    /// covers `/admin` too.
    pub path: Option<At<Text>>,
    /// The methods.
    #[serde(default)]
    pub methods: Vec<At<Text>>,
    /// The name of a query parameter that is there.
    pub query: Option<Text>,
}

impl Rule {
    /// What is wrong with it.
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(path) = &self.path
            && let Some(fault) = target::mistake(path.as_str())
        {
            let what = format!("`{}` {fault}", path.as_str());
            problems
                .add(path.place, Mistake::new(what).hint("write a plain path, such as `/admin/`"));
        }
        for method in &self.methods {
            if Method::from_bytes(method.as_str().as_bytes()).is_err() {
                let what = format!("`{}` is not a method", method.as_str());
                problems.add(method.place, Mistake::new(what).hint("such as GET or DELETE"));
            }
        }
    }
}

/// The lists of one route, ready to judge.
#[derive(Debug, Default)]
pub(super) struct Access {
    allow: Vec<Judge>,
    deny: Vec<Judge>,
}

#[derive(Debug)]
struct Judge {
    path: Option<Box<str>>,
    methods: Vec<Method>,
    query: Option<Box<str>>,
}

impl Access {
    pub(super) fn new(allow: &[Rule], deny: &[Rule]) -> Self {
        Self {
            allow: allow.iter().map(Judge::new).collect(),
            deny: deny.iter().map(Judge::new).collect(),
        }
    }

    /// Whether any rule looks at the path: it must then have one reading only.
    pub(super) fn is_by_path(&self) -> bool {
        self.allow.iter().chain(&self.deny).any(|judge| judge.path.is_some())
    }

    /// Whether a request may go on. `cut` and `base` are what the route takes off its path and
    /// puts before it.
    pub(super) fn permits(&self, head: &Parts, cut: &str, base: &str) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        let path = head.uri.path();
        let rest = path.strip_prefix(cut).unwrap_or(path);
        let sent = if cut.is_empty() && base.is_empty() {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(format!("{base}{rest}"))
        };
        let any = |judges: &[Judge], reading: Reading| {
            let (asked, sent) = (reading.path(path), reading.path(&sent));
            judges.iter().any(|judge| judge.applies(head, &asked, &sent, reading))
        };
        !any(&self.deny, Reading::Widest)
            && (self.allow.is_empty() || any(&self.allow, Reading::Narrowest))
    }
}

impl Judge {
    fn new(rule: &Rule) -> Self {
        let upper = |method: &At<Text>| method.as_str().to_ascii_uppercase();
        Self {
            path: rule.path.as_ref().map(|path| path.as_str().trim_end_matches('/').into()),
            methods: rule
                .methods
                .iter()
                .filter_map(|method| Method::from_bytes(upper(method).as_bytes()).ok())
                .collect(),
            query: rule.query.as_ref().map(|name| name.as_str().into()),
        }
    }

    fn applies(&self, head: &Parts, asked: &str, sent: &str, reading: Reading) -> bool {
        let by_path = self.path.as_deref().is_none_or(|prefix| {
            let prefix = &*reading.path(prefix);
            prefix.is_empty() || target::is_under(asked, prefix) || target::is_under(sent, prefix)
        });
        let by_method = self.methods.is_empty() || reading.is_by(head, &self.methods);
        by_path && by_method && self.query.as_deref().is_none_or(|name| reading.has(head, name))
    }
}

/// How a request is read, of which servers differ.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// As any of them may: for what is denied.
    Widest,
    /// As all of them do: for what is allowed.
    Narrowest,
}

/// Fields by which many frameworks let a POST pass for another method.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// A parameter of the query that does the same with some of them.
const OVERRIDING: &str = "_method";

/// What a request may pass for instead of its method.
fn others(head: &Parts) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let overrides = |name: &HeaderName| OVERRIDES.iter().any(|known| is_read_as(name, known));
    let lines = head.headers.iter().filter(move |(name, _)| overrides(name));
    let pairs = head.uri.query().unwrap_or_default().split(['&', ';']);
    let params = pairs.filter_map(|pair| {
        // Most are read as they stand, which needs no copy.
        if !pair.contains(['%', '+']) {
            let (name, value) = pair.split_once('=')?;
            return target::may_name(name.as_bytes(), OVERRIDING)
                .then_some(Cow::Borrowed(value.as_bytes()));
        }
        let pair: Vec<u8> = percent_decode_str(&pair.replace('+', " ")).collect();
        let end = pair.iter().position(|b| *b == b'=')?;
        target::may_name(&pair[..end], OVERRIDING).then(|| Cow::Owned(pair[end + 1..].to_vec()))
    });
    lines.map(|(_, value)| Cow::Borrowed(value.as_bytes())).chain(params)
}

impl Reading {
    fn path(self, path: &str) -> Cow<'_, str> {
        match self {
            Self::Widest => widest(path),
            Self::Narrowest => percent_decode_str(path).decode_utf8_lossy(),
        }
    }

    /// Whether the request is by one of these methods, which are in upper case.
    fn is_by(self, head: &Parts, methods: &[Method]) -> bool {
        let mut others = others(head);
        match self {
            Self::Widest => {
                let lists = |text: &[u8]| {
                    methods.iter().any(|one| one.as_str().as_bytes().eq_ignore_ascii_case(text))
                };
                lists(head.method.as_str().as_bytes())
                    || others.any(|other| lists(other.trim_ascii()))
            }
            Self::Narrowest => {
                let lists = |text: &[u8]| methods.iter().any(|one| one.as_str().as_bytes() == text);
                methods.contains(&head.method) && others.all(|other| lists(other.trim_ascii()))
            }
        }
    }

    /// Whether the query has a parameter of this name. In the widest reading one that cannot be
    /// decoded might be it.
    fn has(self, head: &Parts, name: &str) -> bool {
        let Some(query) = head.uri.query() else { return false };
        let key = |pair: &str| pair.split('=').next().unwrap_or_default().replace('+', " ");
        match self {
            Self::Widest => query.split(['&', ';']).map(key).any(|key| {
                let Ok(key) = percent_decode_str(&key).decode_utf8() else { return true };
                target::may_name(key.as_bytes(), name)
            }),
            Self::Narrowest => query
                .split('&')
                .map(key)
                .any(|key| percent_decode_str(&key).decode_utf8().is_ok_and(|key| key == name)),
        }
    }
}

/// The reading of a path in which most spellings come to the same: decoded until nothing is left
/// to decode, without case, each segment without parameters and without the dots and spaces that
/// some servers cut off its end.
pub(super) fn widest(path: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_');
    if path.bytes().all(plain) {
        return Cow::Borrowed(path);
    }
    let mut decoded = path.to_owned();
    while let Cow::Owned(further) = percent_decode_str(&decoded).decode_utf8_lossy() {
        decoded = further;
    }
    // By way of upper case, so that letters with one capital become one.
    let folded = decoded.to_uppercase().to_lowercase();
    let segments: Vec<&str> = folded
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .map(|segment| segment.trim_end_matches(|c: char| c == '.' || c.is_whitespace()))
        .collect();
    Cow::Owned(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &str, deny: &str) -> Access {
        let rules = |yaml: &str| serde_yaml::from_str::<Vec<Rule>>(yaml).unwrap();
        Access::new(&rules(allow), &rules(deny))
    }

    fn permits(access: &Access, method: &str, target: &str) -> bool {
        let request = http::Request::builder().method(method).uri(target).body(()).unwrap();
        access.permits(&request.into_parts().0, "", "")
    }

    #[test]
    fn a_denied_path_is_denied_in_every_spelling() {
        let access = access("[]", "[{path: /admin/}]");
        for target in [
            "/admin",
            "/admin/",
            "/admin/x",
            "/Admin/x",
            "/%61dmin/x",
            "/admin;a=b/x",
            "/ADMIN;/",
            "/admin./x",
            "/admin%20/x",
            "/admin?x",
            "/%41%44min/",
            "/%2561dmin/",
            "/%25254%31dmin/",
            "/adm%C4%B1n/",
            "/admin%09/x",
        ] {
            assert!(!permits(&access, "GET", target), "{target}");
        }
        for target in ["/", "/administrator", "/x/admin", "/adminx/"] {
            assert!(permits(&access, "GET", target), "{target}");
        }
    }

    #[test]
    fn an_allow_list_lets_nothing_else_through_and_deny_wins() {
        let access = access("[{path: /public/, methods: [GET]}]", "[{path: /public/secret}]");
        assert!(permits(&access, "GET", "/public/x"));
        assert!(!permits(&access, "POST", "/public/x"));
        assert!(!permits(&access, "GET", "/other"));
        assert!(!permits(&access, "GET", "/public/secret/x"));
        assert!(permits(&access, "GET", "/publi%63/x"));
        for other in ["/Public/x", "/public;a/x", "/public./x", "/publi%2563/x", "/public%20/x"] {
            assert!(!permits(&access, "GET", other), "{other}");
        }
    }

    #[test]
    fn a_parameter_is_found_however_it_is_encoded() {
        let access = access("[]", "[{query: method}]");
        for target in
            ["/x?method=GET", "/x?a=1&method", "/x?%6Dethod=GET", "/x?method[]=GET", "/x?%ff=1"]
        {
            assert!(!permits(&access, "POST", target), "{target}");
        }
        for target in ["/x?Method=GET", "/x?a=1;method=GET", "/x?+method+=GET", "/x?method%00a=GET"]
        {
            assert!(!permits(&access, "POST", target), "{target}");
        }
        assert!(permits(&access, "POST", "/x?methods=1"));
    }

    #[test]
    fn a_parameter_allows_only_where_every_server_finds_it() {
        let access = access("[{query: id}]", "[]");
        assert!(permits(&access, "GET", "/x?a=1&id=2") && permits(&access, "GET", "/x?%69d"));
        for target in ["/x", "/x?%ff=1", "/x?ID=1", "/x?a;id=1", "/x?id[]=1"] {
            assert!(!permits(&access, "GET", target), "{target}");
        }
    }

    #[test]
    fn a_method_is_what_any_server_may_take_it_for() {
        let by = |access: &Access, method: &str, over: &[&str]| {
            let is_permitted = |name: &str| {
                let mut request = http::Request::builder().method(method).uri("/x");
                for value in over {
                    request = request.header(name, *value);
                }
                access.permits(&request.body(()).unwrap().into_parts().0, "", "")
            };
            let names = ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "x-http_method"];
            let verdicts = names.map(is_permitted);
            assert!(
                verdicts.iter().all(|verdict| *verdict == verdicts[0]),
                "{over:?}: {verdicts:?}"
            );
            let query: Vec<String> = over.iter().map(|value| format!("_method={value}")).collect();
            let target = format!("/x?a&{}", query.join("&").replace(' ', "+"));
            assert_eq!(permits(access, method, &target), verdicts[0], "{target}");
            verdicts[0]
        };
        let deny = access("[]", "[{methods: [DELETE]}]");
        let allow = access("[{methods: [GET, post]}]", "[]");
        for access in [&deny, &allow] {
            assert!(by(access, "GET", &[]) && by(access, "POST", &[]));
            assert!(by(access, "POST", &["GET"]));
            for (method, over) in [
                ("DELETE", &[][..]),
                ("delete", &[]),
                ("POST", &["DELETE"]),
                ("POST", &["delete "]),
                ("POST", &["GET", "DELETE"]),
            ] {
                assert!(!by(access, method, over), "{method} {over:?}");
            }
        }
        assert!(!by(&allow, "get", &[]) && !by(&allow, "POST", &["get"]));
    }

    #[test]
    fn the_path_that_the_upstream_gets_is_judged_too() {
        let access = access("[]", "[{path: /v2/admin/}]");
        let request = http::Request::builder().uri("/api/admin/x").body(()).unwrap();
        assert!(!access.permits(&request.into_parts().0, "/api", "/v2"));
    }

    proptest::proptest! {
        #[test]
        fn fuzz_no_accepted_path_is_read_as_a_denied_one_s19(
            middle in "(/|%2f|%2F|%252f|\\.|%2e|%252e|;|a|%61|A|%2561|dmin|DMIN|\\\\|%5c|%20|x|%00){1,8}",
        ) {
            let path = format!("/{middle}");
            let rules = access("[]", "[{path: /admin}]");
            let accepted = target::fault(&path, target::Care::Strict).is_none();
            let sent = accepted && path.parse::<http::Uri>().is_ok();
            if sent && permits(&rules, "GET", &path) {
                let mut read = path;
                for _ in 0..4 {
                    read = percent_decode_str(&read).decode_utf8_lossy().to_lowercase();
                    let cut = read.replace('\\', "/").replace("/./", "/").replace("//", "/");
                    let first = cut.split('/').nth(1).unwrap_or_default();
                    let first = first.split(';').next().unwrap_or_default();
                    proptest::prop_assert_ne!(first.trim_end_matches(['.', ' ']), "admin");
                }
            }
        }
    }
}
