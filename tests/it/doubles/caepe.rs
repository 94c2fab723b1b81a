//! CAEPE's own API, in front of which Keycloak issues the tokens.

use std::sync::Arc;

use serde_json::json;

use super::keycloak::Keycloak;
use super::{Ask, Double, Reply, System};

pub(crate) const ORGANIZATION: &str = "acme";

pub(crate) struct Caepe {
    issuer: Arc<Double<Keycloak>>,
    pub(crate) rejected: usize,
    /// Whether the issuer's tokens are taken for too new, as by a clock that is behind.
    pub(crate) behind: bool,
}

impl Caepe {
    pub(crate) fn new(issuer: &Arc<Double<Keycloak>>) -> Self {
        Self { issuer: Arc::clone(issuer), rejected: 0, behind: false }
    }
}

impl System for Caepe {
    fn answer(&mut self, ask: &Ask) -> Reply {
        if ask.head.has("authentication") {
            return Reply::json(400, &json!({ "message": "unknown field" }));
        }
        let token = ask.authorization("bearer").unwrap_or_default();
        if self.behind || !self.issuer.with(|issuer| issuer.knows(&token)) {
            self.rejected += 1;
            let challenge = "Bearer realm=\"acme\", error=\"invalid_token\"";
            return Reply::empty(401).with("www-authenticate", challenge);
        }
        match ask.head.one("organization").as_str() {
            "" => return Reply::json(400, &json!({ "message": "Organization is missing" })),
            ORGANIZATION => {}
            _ => return Reply::json(403, &json!({ "message": "wrong organization" })),
        }
        if ["POST", "PATCH"].contains(&ask.method.as_str()) && !ask.is_form() {
            return Reply::json(415, &json!({ "message": "form only" }));
        }
        Reply::json(200, &json!({ "data": [] }))
    }
}
