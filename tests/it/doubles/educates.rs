//! The Educates training portal: Django with django-oauth-toolkit 2.3, refresh tokens rotated
//! without a grace period.

use std::collections::BTreeMap;
use std::time::Duration;

use bearerd::vocab::Moment;
use serde_json::json;

use super::{Ask, Reply, System, unique};

pub(crate) const CLIENT: (&str, &str) = ("robot+client", "s3cret%+/:x");
pub(crate) const USER: (&str, &str) = ("robot@educates", "pass word&more");

/// What has become of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refresh {
    Live {
        access: String,
    },
    /// Rotated or revoked.
    Dead,
    /// Its access token was revoked: a fault of the server, for ever.
    Broken,
}

pub(crate) struct Portal {
    pub(crate) lifetime: Duration,
    /// How many of the next refreshes fail without a trace.
    pub(crate) failing: usize,
    /// How long token answers take.
    pub(crate) slow: Duration,
    /// Not started yet.
    pub(crate) starting: bool,
    access: BTreeMap<String, Moment>,
    refresh: BTreeMap<String, Refresh>,
    /// `password` or `refresh_token`, and the status, of each token request in order.
    pub(crate) grants: Vec<(String, u16)>,
    /// Rejections at the API.
    pub(crate) rejected: usize,
}

impl Portal {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            failing: 0,
            slow: Duration::ZERO,
            starting: false,
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            grants: Vec::new(),
            rejected: 0,
        }
    }

    /// How many token requests of a grant have succeeded.
    pub(crate) fn granted(&self, grant: &str) -> usize {
        self.grants.iter().filter(|(kind, status)| kind == grant && *status == 200).count()
    }

    /// Refresh tokens that could still be used.
    pub(crate) fn live(&self) -> usize {
        self.refresh.values().filter(|state| matches!(state, Refresh::Live { .. })).count()
    }

    /// An administrator revokes all access tokens. Their refresh tokens answer 500 from now on.
    pub(crate) fn revoke_access_tokens(&mut self) {
        self.access.clear();
        for state in self.refresh.values_mut().filter(|state| **state != Refresh::Dead) {
            *state = Refresh::Broken;
        }
    }

    /// Access tokens end; refresh tokens go on.
    pub(crate) fn forget_access_tokens(&mut self) {
        self.access.clear();
    }

    fn issue(&mut self) -> Reply {
        let (access, refresh) = (unique("a"), unique("r"));
        self.access.insert(access.clone(), Moment::now() + self.lifetime);
        self.refresh.insert(refresh.clone(), Refresh::Live { access: access.clone() });
        let body = json!({
            "access_token": access, "expires_in": self.lifetime.as_secs(), "token_type": "Bearer",
            "scope": "user:info", "refresh_token": refresh,
        });
        Reply::json(200, &body).with("cache-control", "no-store").with("pragma", "no-cache")
    }

    fn token(&mut self, ask: &Ask) -> Reply {
        if self.starting {
            return Reply::html(503, "<h1>Service Unavailable</h1>");
        }
        if ask.method != "POST" {
            return Reply::empty(405).with("allow", "POST, OPTIONS");
        }
        if !ask.query.is_empty() {
            return Reply::html(400, r#"{"error": "invalid_request"}"#);
        }
        let form = ask.form();
        let member = |name: &str| form.get(name).map_or("", String::as_str);
        if !ask.is_form() || member("grant_type").is_empty() {
            return error(400, "unsupported_grant_type", None);
        }
        if !is_client(ask) {
            return error(401, "invalid_client", None)
                .with("www-authenticate", "Bearer error=\"invalid_client\"");
        }
        let reply = match member("grant_type") {
            "password" => {
                if (member("username"), member("password")) == USER {
                    if ["", "user:info"].contains(&member("scope")) {
                        self.issue()
                    } else {
                        error(400, "invalid_scope", None)
                    }
                } else {
                    error(400, "invalid_grant", Some("Invalid credentials given."))
                }
            }
            "refresh_token" if self.failing > 0 => {
                self.failing -= 1;
                Reply::html(500, "<h1>Server Error (500)</h1>")
            }
            "refresh_token" => self.refresh(member("refresh_token")),
            "client_credentials" => error(400, "unauthorized_client", None),
            _ => error(400, "unsupported_grant_type", None),
        };
        self.grants.push((member("grant_type").to_owned(), reply.status()));
        reply.after(self.slow)
    }

    /// The old refresh token and the old access token end at once.
    fn refresh(&mut self, token: &str) -> Reply {
        match self.refresh.get(token).cloned() {
            Some(Refresh::Live { access }) => {
                self.access.remove(&access);
                self.refresh.insert(token.to_owned(), Refresh::Dead);
                self.issue()
            }
            Some(Refresh::Broken) => Reply::html(500, "<h1>Server Error (500)</h1>"),
            Some(Refresh::Dead) | None => error(400, "invalid_grant", None),
        }
    }

    fn revoke(&mut self, ask: &Ask) -> Reply {
        if ask.method != "POST" {
            return Reply::empty(405);
        }
        if !is_client(ask) {
            return error(401, "invalid_client", None);
        }
        let form = ask.form();
        let token = form.get("token").map_or("", String::as_str);
        if let Some(Refresh::Live { access }) = self.refresh.get(token).cloned() {
            self.access.remove(&access);
            self.refresh.insert(token.to_owned(), Refresh::Dead);
        } else if self.access.remove(token).is_some() {
            for state in self.refresh.values_mut() {
                if *state == (Refresh::Live { access: token.to_owned() }) {
                    *state = Refresh::Broken;
                }
            }
        }
        Reply::empty(200)
    }

    fn api(&mut self, ask: &Ask) -> Reply {
        if !ask.path.ends_with('/') {
            return Reply::empty(301).with("location", &format!("{}/", ask.path));
        }
        if ask.path == "/workshops/catalog/" {
            return Reply::json(200, &json!({ "environments": [] }));
        }
        // Both roads count here, as at the real one.
        let token = ask.authorization("bearer").or_else(|| ask.query.get("access_token").cloned());
        let until = token.and_then(|token| self.access.get(&token).copied());
        if until.is_none_or(|until| Moment::now() >= until) {
            self.rejected += 1;
            return Reply::empty(403).with("vary", "Authorization");
        }
        if ask.path.starts_with("/workshops/environment/missing/") {
            return Reply::html(403, "Environment does not exist").with("vary", "Authorization");
        }
        Reply::json(200, &json!({ "sessions": [] }))
            .with("vary", "Authorization")
            .with("set-cookie", "sessionid=abc; Path=/; HttpOnly")
    }
}

impl System for Portal {
    fn answer(&mut self, ask: &Ask) -> Reply {
        match ask.path.as_str() {
            "/oauth2/token/" => self.token(ask),
            "/oauth2/revoke-token/" => self.revoke(ask),
            _ => self.api(ask),
        }
    }
}

/// Basic, form-decoded, or both in the body. The body's grant decides which client it must be.
fn is_client(ask: &Ask) -> bool {
    let form = ask.form();
    let by_body = form.get("client_id").cloned().zip(form.get("client_secret").cloned());
    let own = (CLIENT.0.to_owned(), CLIENT.1.to_owned());
    ask.basic_form().or(by_body) == Some(own)
}

fn error(status: u16, code: &str, description: Option<&str>) -> Reply {
    let mut body = json!({ "error": code });
    if let Some(description) = description {
        body["error_description"] = description.into();
    }
    Reply::json(status, &body)
}
