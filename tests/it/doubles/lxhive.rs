//! The lxHive learning record store: a JSON call, authenticated by a `super` token, makes a key
//! and a secret. Two versions that differ in what they demand and report.

use std::collections::BTreeMap;
use std::time::Duration;

use bearerd::vocab::Moment;
use serde_json::{Value, json};

use super::{Ask, Reply, System, unique, unix};

pub(crate) const SUPER: (&str, &str) = ("superkey", "super+secret%41");
const OWN: [&str; 6] = ["super", "all", "statements/read", "statements/write", "state", "profile"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Wants the xAPI version on every request.
    V09,
    /// Wants scopes by name; reports every token with an expiry as expired.
    V010,
}

struct Token {
    secret: String,
    scopes: Vec<String>,
    until: Moment,
}

pub(crate) struct Lrs {
    version: Version,
    /// How many times faster than told the tokens age: who asks for fifteen minutes gets
    /// seconds, and the answer says so.
    haste: u64,
    tokens: BTreeMap<String, Token>,
    pub(crate) made: usize,
    /// Keys that were withdrawn, in order.
    pub(crate) deleted: Vec<String>,
    /// Keys of the requests for statements.
    pub(crate) used: Vec<String>,
    /// Whether the super token was shown to anything but `/auth/tokens`.
    pub(crate) super_seen: bool,
    pub(crate) rejected: usize,
}

impl Lrs {
    pub(crate) fn new(version: Version, haste: u64) -> Self {
        Self {
            version,
            haste,
            tokens: BTreeMap::new(),
            made: 0,
            deleted: Vec::new(),
            used: Vec::new(),
            super_seen: false,
            rejected: 0,
        }
    }

    pub(crate) fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Tokens that were not withdrawn.
    pub(crate) fn living(&self) -> usize {
        self.tokens.len()
    }

    fn tokens(&mut self, ask: &Ask) -> Reply {
        if self.version == Version::V09
            && let Some(refused) = version_missing(ask)
        {
            return refused;
        }
        let credential = ask.basic();
        if credential.as_ref().map(|(k, s)| (k.as_str(), s.as_str())) != Some(SUPER) {
            return error(401, "Credentials invalid!");
        }
        match (ask.method.as_str(), self.version) {
            ("POST", _) => self.create(&ask.json()),
            ("DELETE", Version::V09) => {
                let key = ask.query.get("key").cloned().unwrap_or_default();
                let secret = ask.query.get("secret");
                if self.tokens.get(&key).is_some_and(|token| Some(&token.secret) == secret) {
                    self.tokens.remove(&key);
                    self.deleted.push(key);
                }
                Reply::empty(204)
            }
            // The method is called without its argument.
            _ => error(500, "Too few arguments to function"),
        }
    }

    fn create(&mut self, body: &Value) -> Reply {
        let list = |value: &Value| -> Option<Vec<String>> {
            match value {
                Value::Null => Some(vec!["all".to_owned()]),
                Value::Array(items) => {
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                }
                _ => None,
            }
        };
        if body["user"]["email"].as_str().is_none_or(|email| !email.contains('@')) {
            return error(400, "Missing user.email");
        }
        let (Some(scopes), Some(permissions)) =
            (list(&body["scopes"]), list(&body["user"]["permissions"]))
        else {
            return error(400, "scopes and permissions are lists");
        };
        let within = |list: &[String], of: &[&str]| list.iter().all(|s| of.contains(&s.as_str()));
        let permitted: Vec<&str> = permissions.iter().map(String::as_str).collect();
        if permitted.contains(&"super")
            || !within(&permissions, &OWN)
            || !within(&scopes, &permitted)
        {
            return error(400, "Invalid permissions or scopes");
        }
        let now = unix();
        let until = match &body["expiresAt"] {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let Some(until) = until else { return error(500, "Unparsable expiresAt") };
        let lifetime = until.saturating_sub(now) / self.haste;
        let (key, secret) = (unique("k"), unique("p"));
        let token = Token {
            secret: secret.clone(),
            scopes: scopes.clone(),
            until: Moment::now() + Duration::from_secs(lifetime),
        };
        self.tokens.insert(key.clone(), token);
        self.made += 1;
        let mut answer = json!({
            "key": key, "secret": secret, "createdAt": now, "expiresAt": now + lifetime,
            "expiresIn": lifetime, "expired": false,
        });
        if self.version == Version::V010 {
            answer["expiresIn"] = 0.into();
            answer["expired"] = true.into();
        } else {
            answer["scopes"] = scopes.into();
            answer["user"] = body["user"].clone();
        }
        Reply::json(200, &answer)
    }

    fn statements(&mut self, ask: &Ask) -> Reply {
        if let Some(refused) = version_missing(ask) {
            return refused;
        }
        let mut credential = ask.basic();
        // The tunnel: a form that carries another method and an Authorization of its own.
        if ask.method == "POST" && ask.query.contains_key("method") {
            credential = ask.form().get("Authorization").map(|_| ("tunnel".into(), "t".into()));
        }
        let Some((key, secret)) = credential else {
            self.rejected += 1;
            return error(401, "Credentials invalid!");
        };
        self.super_seen |= key == SUPER.0;
        self.used.push(key.clone());
        let token = self.tokens.get(&key).filter(|token| token.secret == secret);
        let Some(token) = token.filter(|token| Moment::now() < token.until) else {
            self.rejected += 1;
            return error(401, "Credentials invalid!");
        };
        let needed = if ask.method == "GET" { "statements/read" } else { "statements/write" };
        let by_all = self.version == Version::V09 && token.scopes.iter().any(|s| s == "all");
        let allowed = by_all || token.scopes.iter().any(|scope| scope == needed);
        if !allowed || ask.path == "/statements/others" {
            return match self.version {
                Version::V09 => error(403, "Permission denied."),
                Version::V010 => error(401, "Unauthorized"),
            };
        }
        Reply::json(200, &json!({ "statements": [], "more": "" }))
            .with("x-experience-api-version", "1.0.3")
            .with("x-experience-api-consistent-through", "2020-01-01T00:00:00Z")
    }
}

impl System for Lrs {
    fn answer(&mut self, ask: &Ask) -> Reply {
        match ask.path.as_str() {
            "/auth/tokens" => self.tokens(ask),
            path if path.starts_with("/statements") => self.statements(ask),
            _ => error(404, "Not found"),
        }
    }
}

fn version_missing(ask: &Ask) -> Option<Reply> {
    let version = ask.head.one("x-experience-api-version");
    let known = ["1.0.0", "1.0.1", "1.0.2", "1.0.3"].contains(&version.as_str());
    (!known).then(|| error(400, "X-Experience-API-Version header missing or unsupported."))
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "code": status, "message": message, "data": [] }))
}
