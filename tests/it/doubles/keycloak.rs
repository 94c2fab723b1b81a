//! Keycloak's OpenID Connect endpoints of one realm.

use std::collections::BTreeMap;
use std::time::Duration;

use bearerd::vocab::Moment;
use serde_json::json;

use super::{Ask, Reply, System, jwt, unique, unix};

pub(crate) const USER: (&str, &str) = ("ada", "correct horse");
/// A confidential client with a service account.
pub(crate) const SERVICE: (&str, &str) = ("service", "top+secret%20");
/// Clients without a secret that may log users in.
const PUBLIC: [&str; 2] = ["cape-client", "android"];
pub(crate) const REALM: &str = "/realms/acme/protocol/openid-connect";
/// So many wrong passwords lock an account; what it is told stays the same.
const LOCKED_AFTER: usize = 30;

struct Session {
    began: Moment,
    offline: bool,
    /// Detached by the reuse of a refresh token.
    detached: bool,
    /// The refresh token that is good; all of them where reuse is allowed.
    newest: String,
}

struct Access {
    session: Option<String>,
    until: Moment,
}

pub(crate) struct Keycloak {
    pub(crate) lifetime: Duration,
    /// The longest life of a session, however often it is refreshed.
    session_max: Option<Duration>,
    /// The realm's "Revoke refresh token", with a reuse of zero.
    revoke_refresh: bool,
    /// How many of the next refreshes are done and their answers cut off.
    cut: usize,
    sessions: BTreeMap<String, Session>,
    access: BTreeMap<String, Access>,
    /// Which session a refresh token belongs to, and how often it was sent.
    refresh: BTreeMap<String, (String, usize)>,
    /// `grant_type`, status and time of each token request.
    pub(crate) log: Vec<(String, u16, Moment)>,
    wrong: usize,
}

impl Keycloak {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            session_max: None,
            revoke_refresh: false,
            cut: 0,
            sessions: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            log: Vec::new(),
            wrong: 0,
        }
    }

    /// With the realm's "Revoke refresh token", and the next answer to a refresh cut off.
    pub(crate) fn revoking(mut self) -> Self {
        self.revoke_refresh = true;
        self.cut = 1;
        self
    }

    /// With a longest life of sessions.
    pub(crate) fn ending(mut self, session_max: Duration) -> Self {
        self.session_max = Some(session_max);
        self
    }

    /// How many token requests of a grant were sent.
    pub(crate) fn asked(&self, grant: &str) -> usize {
        self.log.iter().filter(|(kind, ..)| kind == grant).count()
    }

    /// How often the refresh token that was sent most often was sent.
    pub(crate) fn most_uses_of_a_refresh_token(&self) -> usize {
        self.refresh.values().map(|(_, uses)| *uses).max().unwrap_or(0)
    }

    /// Sessions that nobody has ended.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether an access token is good.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.access.get(token).is_some_and(|access| {
            let living = access.session.as_ref().is_none_or(|id| self.sessions.contains_key(id));
            living && Moment::now() < access.until
        })
    }

    /// An administrator ends all sessions.
    pub(crate) fn end_sessions(&mut self) {
        self.sessions.clear();
    }

    /// The session behind an offline refresh token, if it is good.
    pub(crate) fn is_offline(&self, refresh: &str) -> bool {
        let session = self.refresh.get(refresh).and_then(|(id, _)| self.sessions.get(id));
        session.is_some_and(|session| session.offline && !session.detached)
    }

    fn token(&mut self, ask: &Ask) -> Reply {
        if ask.method != "POST" {
            return Reply::empty(405);
        }
        if !ask.is_form() {
            return Reply::json(415, &json!({ "error": "HTTP 415 Unsupported Media Type" }));
        }
        let form = ask.form();
        let member = |name: &str| form.get(name).map_or("", String::as_str);
        let grant = member("grant_type").to_owned();
        let reply = match (grant.as_str(), self.client(ask)) {
            ("", _) => error(400, "invalid_request", "Missing form parameter: grant_type"),
            (_, Err(refused)) => refused,
            ("password", Ok(_)) => self.login(member("username"), member("password"), {
                member("scope").split(' ').any(|scope| scope == "offline_access")
            }),
            ("refresh_token", Ok(_)) => self.refresh(member("refresh_token")),
            ("client_credentials", Ok(true)) => self.service(),
            ("client_credentials", Ok(false)) => error(
                401,
                "unauthorized_client",
                "Public client not allowed to retrieve service account",
            ),
            _ => error(400, "unsupported_grant_type", "Unsupported grant_type"),
        };
        self.log.push((grant.clone(), reply.status(), Moment::now()));
        if grant == "refresh_token" && self.cut > 0 {
            self.cut -= 1;
            return reply.cut();
        }
        reply
    }

    /// Whether the client is confidential.
    fn client(&self, ask: &Ask) -> Result<bool, Reply> {
        let form = ask.form();
        let by_body = || {
            let secret = form.get("client_secret").cloned().unwrap_or_default();
            form.get("client_id").map(|id| (id.clone(), secret))
        };
        let Some((id, secret)) = ask.basic_form().or_else(by_body) else {
            let text = "Invalid client or Invalid client credentials";
            return Err(error(400, "invalid_client", text));
        };
        if PUBLIC.contains(&id.as_str()) {
            return Ok(false);
        }
        if id != SERVICE.0 {
            let text = "Invalid client or Invalid client credentials";
            return Err(error(401, "invalid_client", text));
        }
        if secret == SERVICE.1 {
            Ok(true)
        } else {
            let text = "Invalid client or Invalid client credentials";
            Err(error(401, "unauthorized_client", text))
        }
    }

    fn login(&mut self, user: &str, password: &str, offline: bool) -> Reply {
        if (user, password) != USER || self.wrong >= LOCKED_AFTER {
            self.wrong += 1;
            return error(401, "invalid_grant", "Invalid user credentials");
        }
        let id = unique("session-");
        let session =
            Session { began: Moment::now(), offline, detached: false, newest: String::new() };
        self.sessions.insert(id.clone(), session);
        self.issue(&id)
    }

    fn issue(&mut self, id: &str) -> Reply {
        let rest = self.rest(id);
        let access = self.access_token(Some(id), rest);
        let offline = self.sessions.get(id).is_some_and(|session| session.offline);
        let kind = if offline { "Offline" } else { "Refresh" };
        let refresh = jwt(&json!({ "alg": "HS512" }), &json!({ "typ": kind, "sid": id }));
        self.refresh.insert(refresh.clone(), (id.to_owned(), 0));
        if let Some(session) = self.sessions.get_mut(id) {
            session.newest.clone_from(&refresh);
        }
        let expires = self.lifetime.min(rest).as_secs();
        let refresh_expires = if offline { 0 } else { rest.as_secs().min(1800) };
        let body = json!({
            "access_token": access, "expires_in": expires, "refresh_token": refresh,
            "refresh_expires_in": refresh_expires, "token_type": "Bearer",
            "not-before-policy": 0, "session_state": id, "scope": "profile email",
        });
        Reply::json(200, &body).with("cache-control", "no-store")
    }

    fn service(&mut self) -> Reply {
        let access = self.access_token(None, Duration::MAX);
        let body = json!({
            "access_token": access, "expires_in": self.lifetime.as_secs(),
            "refresh_expires_in": 0, "token_type": "Bearer", "not-before-policy": 0,
            "scope": "profile email",
        });
        Reply::json(200, &body)
    }

    fn access_token(&mut self, session: Option<&str>, rest: Duration) -> String {
        let lifetime = self.lifetime.min(rest);
        let now = unix();
        let claims = json!({ "iat": now, "exp": now + lifetime.as_secs(), "typ": "Bearer" });
        let token = jwt(&json!({ "alg": "RS256", "typ": "JWT", "kid": "k" }), &claims);
        let until = Moment::now() + lifetime;
        self.access.insert(token.clone(), Access { session: session.map(str::to_owned), until });
        token
    }

    /// What is left of a session.
    fn rest(&self, id: &str) -> Duration {
        let Some(session) = self.sessions.get(id) else { return Duration::ZERO };
        let age = Moment::now().since(session.began);
        match self.session_max.filter(|_| !session.offline) {
            Some(max) => max.saturating_sub(age),
            None => Duration::from_secs(36_000),
        }
    }

    fn refresh(&mut self, token: &str) -> Reply {
        let refused = |text: &str| error(400, "invalid_grant", text);
        let Some((id, uses)) = self.refresh.get_mut(token) else {
            return refused("Invalid refresh token");
        };
        *uses += 1;
        let (id, uses) = (id.clone(), *uses);
        if self.rest(&id) < Duration::from_secs(1) {
            self.sessions.remove(&id);
            return refused("Session not active");
        }
        let revokes = self.revoke_refresh;
        let Some(session) = self.sessions.get_mut(&id) else {
            return refused("Session not active");
        };
        if session.detached {
            return refused("Session doesn't have required client");
        }
        if revokes && (uses > 1 || session.newest != token) {
            session.detached = true;
            return refused("Maximum allowed refresh token reuse exceeded");
        }
        self.issue(&id)
    }

    /// `logout` and `revoke`: a refresh token ends its session.
    fn end(&mut self, ask: &Ask, member: &str, done: u16) -> Reply {
        if let Err(refused) = self.client(ask) {
            return refused;
        }
        let form = ask.form();
        let token = form.get(member).map_or("", String::as_str);
        match self.refresh.get(token).map(|(id, _)| id.clone()) {
            Some(id) => {
                self.sessions.remove(&id);
                Reply::empty(done)
            }
            None if self.access.remove(token).is_some() => Reply::empty(done),
            None if done == 200 => Reply::json(200, &json!({ "error": "invalid_token" })),
            None => error(400, "invalid_grant", "Invalid refresh token"),
        }
    }
}

impl System for Keycloak {
    fn answer(&mut self, ask: &Ask) -> Reply {
        match ask.path.strip_prefix(REALM) {
            Some("/token") => self.token(ask),
            Some("/logout") => self.end(ask, "refresh_token", 204),
            Some("/revoke") => self.end(ask, "token", 200),
            _ => Reply::json(404, &json!({ "error": "Unable to find matching target resource" })),
        }
    }
}

fn error(status: u16, code: &str, description: &str) -> Reply {
    Reply::json(status, &json!({ "error": code, "error_description": description }))
}
