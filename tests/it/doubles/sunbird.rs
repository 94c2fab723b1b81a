//! Sunbird: nginx and Kong in front of adminutil and the services; Keycloak beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bearerd::vocab::Moment;
use serde_json::{Value, json};

use super::keycloak::Keycloak;
use super::{Ask, Double, Reply, System, jwt, opened, unix};

pub(crate) const APP: (&str, &str) = ("mobile-app-key", "mobile app secret");
const REGISTER: [&str; 2] = [
    "/api/api-manager/v2/consumer/mobile_device/credential/register",
    "/api/api-manager/v1/consumer/mobile_device/credential/register",
];

/// In which words a bad credential is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// Kong does not find the credential (403); a service judges the user (401, envelope).
    NotFound,
    /// Kong cannot decode the token (401); OPA judges the user (403, text).
    Undecodable,
}

pub(crate) struct Sunbird {
    login: Arc<Double<Keycloak>>,
    words: Words,
    /// The lifetime of a user's token.
    pub(crate) lifetime: Duration,
    /// What `expires_in` says beside a token whose `exp` is right.
    pub(crate) says_zero: bool,
    /// Kong's hourly limit for refreshes is used up.
    pub(crate) limited: bool,
    /// Answers of 429.
    pub(crate) refused: usize,
    /// With which status v2 of the registration sends callers to v1, if it does.
    pub(crate) moved: Option<u16>,
    devices: BTreeMap<String, String>,
    users: BTreeMap<String, Moment>,
    pub(crate) registered: usize,
    pub(crate) refreshed: usize,
    /// Fields of the requests to the services.
    pub(crate) seen: Vec<(String, String, String)>,
    pub(crate) rejected: usize,
}

impl Sunbird {
    pub(crate) fn new(login: &Arc<Double<Keycloak>>, words: Words, lifetime: Duration) -> Self {
        Self {
            login: Arc::clone(login),
            words,
            lifetime,
            says_zero: true,
            limited: false,
            refused: 0,
            moved: None,
            devices: BTreeMap::new(),
            users: BTreeMap::new(),
            registered: 0,
            refreshed: 0,
            seen: Vec::new(),
            rejected: 0,
        }
    }

    pub(crate) fn withdraw_devices(&mut self) {
        self.devices.clear();
    }

    pub(crate) fn withdraw_users(&mut self) {
        self.users.clear();
    }

    /// adminutil's registration, behind the consumer `mobile_app`.
    fn register(&mut self, ask: &Ask, version: usize) -> Reply {
        let token = kong_token(ask).unwrap_or_default();
        if let Err(refused) = is_app(&token) {
            return refused;
        }
        if ask.media_type() != "application/json" {
            return spring(415, "Unsupported Media Type");
        }
        let body = ask.json();
        let key = body["request"]["key"].as_str().unwrap_or_default().to_owned();
        let envelope_is_whole = ["id", "ver", "ts"].iter().all(|name| body[name].is_string());
        if key.is_empty() || key.contains(' ') || is_uuid(&key) || !envelope_is_whole {
            return failed(400, "BAD_REQUEST", &Value::Null);
        }
        if version == 2
            && let Some(status) = self.moved
        {
            return Reply::empty(status).with("location", REGISTER[1]);
        }
        self.registered += 1;
        let algorithm = if version == 2 { "RS256" } else { "HS256" };
        let header = json!({ "alg": algorithm, "kid": format!("kid{}", self.registered) });
        let token = jwt(&header, &json!({ "iss": key, "iat": unix() }));
        self.devices.insert(token.clone(), key);
        let secret = if version == 2 { "" } else { "hs-secret" };
        successful(&json!({ "key": "key", "secret": secret, "token": token }))
    }

    /// Kong in front of everything that devices may call.
    fn device(&self, ask: &Ask) -> Result<(), Reply> {
        let token = kong_token(ask).ok_or_else(unauthorized)?;
        if self.devices.contains_key(&token) {
            return Ok(());
        }
        Err(match self.words {
            Words::NotFound => kong(403, "No credentials found for given 'iss'"),
            Words::Undecodable => unauthorized(),
        })
    }

    fn refresh(&mut self, ask: &Ask) -> Reply {
        if let Err(refused) = self.device(ask) {
            return refused;
        }
        if self.limited {
            self.refused += 1;
            return kong(429, "API rate limit exceeded")
                .with("x-ratelimit-limit-hour", "100")
                .with("x-ratelimit-remaining-hour", "0");
        }
        if !ask.is_form() {
            return spring(415, "Unsupported Media Type");
        }
        let offline = ask.form().get("refresh_token").cloned().unwrap_or_default();
        let nothing = json!({ "access_token": null, "expires_in": 0, "refresh_expires_in": 0 });
        if opened(&offline).is_none() {
            return failed(500, "Oops! Something went wrong!", &nothing);
        }
        if !self.login.with(|login| login.is_offline(&offline)) {
            return failed(400, "invalid_grant", &nothing);
        }
        self.refreshed += 1;
        let (now, seconds) = (unix(), self.lifetime.as_secs());
        let claims = json!({
            "exp": now + seconds, "iat": now, "iss": "https://login/auth/realms/sunbird",
            "aud": "project-sunbird", "sub": "f:federation:user", "typ": "Bearer",
        });
        let token = jwt(&json!({ "alg": "RS256", "typ": "JWT", "kid": "user" }), &claims);
        // A service looks at the claim, in whole seconds of Unix time.
        let left = Duration::from_secs(now + seconds).saturating_sub(since_epoch());
        self.users.insert(token.clone(), Moment::now() + left);
        let expires_in = if self.says_zero { 0 } else { seconds };
        successful(&json!({
            "access_token": token, "expires_in": expires_in, "refresh_expires_in": 0,
            "refresh_token": offline,
        }))
    }

    fn service(&mut self, ask: &Ask) -> Reply {
        let token = ask.head.one("x-authenticated-user-token");
        self.seen.push((
            ask.head.one("authorization"),
            token.clone(),
            ask.head.one("x-channel-id"),
        ));
        if let Err(refused) = self.device(ask) {
            self.rejected += 1;
            return refused;
        }
        if self.users.get(&token).is_some_and(|until| Moment::now() < *until) {
            return successful(&json!({ "count": 0, "content": [] }));
        }
        self.rejected += 1;
        match self.words {
            Words::NotFound => failed(401, "UNAUTHORIZED_USER", &json!({})),
            Words::Undecodable => {
                let text = "You do not have permission to perform this operation";
                Reply::text(403, "text/plain", text).with("x-request-allowed", "no")
            }
        }
    }
}

impl System for Sunbird {
    fn answer(&mut self, ask: &Ask) -> Reply {
        match ask.path.as_str() {
            path if path == REGISTER[0] => self.register(ask, 2),
            path if path == REGISTER[1] => self.register(ask, 1),
            "/auth/v1/refresh/token" | "/api/auth/v1/refresh/token" => self.refresh(ask),
            "/api/acl/closed" => kong(403, "You cannot consume this service"),
            path if path.starts_with("/api/") => self.service(ask),
            _ => Reply::html(404, "<h1>404 Not Found</h1>"),
        }
    }
}

/// Kong's order: the query, then a cookie, then the header.
fn kong_token(ask: &Ask) -> Option<String> {
    let cookies = ask.head.one("cookie");
    let cookie = cookies.split("; ").find_map(|pair| pair.strip_prefix("jwt="));
    ask.query
        .get("jwt")
        .cloned()
        .or_else(|| cookie.map(str::to_owned))
        .or_else(|| ask.authorization("bearer"))
}

/// The app's own JWT: HS256, `iss` and nothing else, no end.
fn is_app(token: &str) -> Result<(), Reply> {
    let (header, claims) = opened(token).ok_or_else(unauthorized)?;
    if claims["iss"] != APP.0 {
        return Err(kong(403, "No credentials found for given 'iss'"));
    }
    if header["alg"] != "HS256" {
        return Err(kong(403, "Invalid algorithm"));
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(unauthorized)?;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, APP.1.as_bytes());
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| unauthorized())?;
    let fits = ring::hmac::verify(&key, message.as_bytes(), &signature).is_ok();
    if !fits || claims != json!({ "iss": APP.0 }) || header["typ"] != "JWT" {
        return Err(kong(403, "Invalid signature"));
    }
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn since_epoch() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

fn unauthorized() -> Reply {
    kong(401, "Unauthorized")
}

fn kong(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "message": message }))
}

fn spring(status: u16, what: &str) -> Reply {
    Reply::json(status, &json!({ "timestamp": 0, "status": status, "error": what }))
}

fn successful(result: &Value) -> Reply {
    envelope(200, "successful", &Value::Null, result)
}

fn failed(status: u16, code: &str, result: &Value) -> Reply {
    envelope(status, "failed", &code.into(), result)
}

fn envelope(status: u16, outcome: &str, code: &Value, result: &Value) -> Reply {
    let body = json!({
        "id": "api", "ver": "1.0", "ets": 0, "result": result,
        "params": { "status": outcome, "err": code, "errmsg": code, "msgid": null, "resmsgid": "" },
    });
    Reply::json(status, &body)
}
