//! Kind `oauth2`: a token endpoint as RFC 6749 describes it, spelled briefly.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::exchange::answer::{Reading, ValueRule};
use super::super::exchange::call::{Call, CallBody};
use super::super::exchange::client_auth::{ClientAuth, Style};
use super::super::exchange::lifetime::{Claim, Expiry};
use super::super::exchange::value::{KeptSecret, RequestValue};
use super::super::exchange::{Exchange, Refreshing, Revoke};
use super::super::rejection::Rejection;
use super::super::schedule::Renew;
use super::super::state;
use super::super::template::Template;
use super::Common;
use crate::net::tls;
use crate::vocab::{Mistake, Period, Place, Pointer, Problems, Text, choices};

/// The parameters of a token request that are secrets (RFC 6749, 7521 and 7523).
const SECRET_PARAMS: [&str; 5] =
    ["assertion", "client_assertion", "client_secret", "password", "refresh_token"];

/// The grants (RFC 6749 section 4 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum GrantType {
    /// Section 4.4.
    #[default]
    ClientCredentials,
    /// Section 4.3; a refresh token that comes with it is used from then on.
    Password,
    /// Section 6, from a configured refresh token.
    RefreshToken,
}

choices!(GrantType:
    "client_credentials" = ClientCredentials,
    "password" = Password,
    "refresh_token" = RefreshToken,
);

impl GrantType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// The settings of one OAuth 2.0 token.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Oauth2")]
pub struct Settings {
    /// The token endpoint.
    pub token_url: Template,
    /// Allows `http://` to another machine.
    #[serde(default)]
    pub plaintext: bool,
    /// The grant; `client_credentials` unless said otherwise.
    #[serde(default)]
    pub grant: GrantType,
    /// The client's identifier.
    pub client_id: Option<RequestValue>,
    /// The client's secret.
    pub client_secret: Option<KeptSecret>,
    /// How the client proves itself: `basic` where it has a secret, else `none`.
    pub client_auth: Option<Style>,
    /// The user, for `password`.
    pub username: Option<RequestValue>,
    /// The user's password, for `password`.
    pub password: Option<KeptSecret>,
    /// The first refresh token, for `refresh_token`.
    pub refresh_token: Option<KeptSecret>,
    /// The scopes, sent joined by spaces.
    #[serde(default)]
    pub scopes: Vec<Text>,
    /// Further members of the request's body, such as `audience` or `resource`.
    #[serde(default)]
    pub params: BTreeMap<String, RequestValue>,
    /// How refresh requests differ.
    #[serde(default)]
    pub refresh: Refresh,
    /// Where the newest refresh token is kept over restarts (`file`), or by which the token is
    /// shared with other programs (`redis`). A file is needed where the issuer's refresh tokens
    /// serve once and there is no other grant.
    pub state: Option<state::Settings>,
    /// Withdraws tokens (RFC 7009) that are no longer needed; never by default.
    pub revoke: Option<RevokeSettings>,
    /// TLS towards the issuer.
    #[serde(default)]
    pub tls: tls::Settings,
    /// When to renew.
    #[serde(default)]
    pub renew: Renew,
    /// By which answers an upstream rejects the token; 401 unless said otherwise.
    pub rejected: Option<Vec<Rejection>>,
    /// Whether `/readyz` waits for this token.
    #[serde(default = "yes")]
    pub required: bool,
}

/// How refresh requests differ from the initial one.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Refresh {
    /// `false`: refresh tokens are not used, the initial grant runs each time.
    pub enabled: bool,
    /// How the client proves itself, where it differs.
    pub client_auth: Option<Style>,
    /// Whether a refresh token may be sent again although the answer to it was lost.
    pub reusable: bool,
    /// After how many failed refreshes in a row the initial grant is tried.
    pub fallback_after: u32,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { enabled: true, client_auth: None, reusable: false, fallback_after: 2 }
    }
}

/// How tokens are withdrawn.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeSettings {
    /// The revocation endpoint; without `https://` it takes the place of the token URL's last
    /// segment, as in `revoke`.
    pub url: Template,
    /// At the end of the process, after the last request.
    #[serde(default = "yes")]
    pub on_shutdown: bool,
    /// This long after a token was replaced; not at all unless said.
    pub after_replacement: Option<Period>,
}

const fn yes() -> bool {
    true
}

impl Settings {
    pub(super) const fn common(&self) -> Common<'_> {
        Common { renew: &self.renew, rejected: &self.rejected, required: self.required }
    }

    /// Spells out the exchange.
    pub(super) fn plan(&self, place: Place, problems: &mut Problems) -> Option<Exchange> {
        let style = self.style();
        self.check(place, &style, problems);
        let target = super::target(&self.token_url, self.plaintext, &self.tls, problems)?;
        let client = |style: Style| ClientAuth {
            style,
            id: self.client_id.clone(),
            secret: self.client_secret.clone(),
        };
        let call = |style: Style, own: Vec<(String, RequestValue)>| Call {
            method: Method::POST,
            target: target.clone(),
            headers: Vec::new(),
            body: CallBody::Form(self.with_common(own)),
            client: client(style),
            alternate: None,
        };
        let refresh_style = self.refresh.client_auth.clone().unwrap_or_else(|| style.clone());
        let refresh = call(refresh_style.clone(), refresh_members(own_refresh_token()));
        let acquire = match self.grant {
            GrantType::RefreshToken => {
                let seed = RequestValue::Secret(self.refresh_token.clone()?);
                call(refresh_style, refresh_members(seed))
            }
            _ => call(style.clone(), self.grant_members()),
        };
        // RFC 6749 section 4.4.3: no refresh token belongs to client credentials.
        let refreshes = self.refresh.enabled && self.grant != GrantType::ClientCredentials;
        Some(Exchange {
            acquire,
            refresh: refreshes.then_some(refresh),
            refreshing: Refreshing {
                reusable: self.refresh.reusable,
                fallback_after: self.refresh.fallback_after.max(1),
                seed: self.refresh_token.clone().filter(|_| self.grant == GrantType::RefreshToken),
            },
            state: self.state.as_ref().and_then(|state| state.plan(problems)),
            revoke: self.revoke(
                &client(style.or_audience(&self.token_url.with_all("x"))),
                refreshes,
                problems,
            ),
            reading: reading(self.renew.assume.0),
        })
    }

    fn style(&self) -> Style {
        self.client_auth.clone().unwrap_or(if self.client_secret.is_some() {
            Style::Basic
        } else {
            Style::None
        })
    }

    /// The facts that span fields.
    fn check(&self, place: Place, style: &Style, problems: &mut Problems) {
        for (name, value) in &self.params {
            let written = value.template().is_some_and(|template| !template.is_secret());
            if written && SECRET_PARAMS.contains(&name.as_str()) {
                let what = format!(
                    "the value of `{name}` under `params` is a secret, which is never written in \
                     the configuration"
                );
                problems.add(
                    place,
                    Mistake::new(what).hint("use `{file: PATH}` or `{env: NAME}` for it"),
                );
            }
        }
        let mut need = |there: bool, key: &str, why: &str| {
            if !there {
                problems.add(
                    place,
                    Mistake::new(format!("{why} needs `{key}`")).hint(format!("add `{key}: ..`")),
                );
            }
        };
        let secret = self.client_secret.is_some();
        match style {
            Style::Basic => need(secret, "client_secret", "`client_auth: basic`"),
            Style::BasicRaw => need(secret, "client_secret", "`client_auth: basic_raw`"),
            Style::Body => need(secret, "client_secret", "`client_auth: body`"),
            Style::ClientSecretJwt(_) => {
                need(secret, "client_secret", "`client_auth: client_secret_jwt`");
            }
            Style::None | Style::PrivateKeyJwt(_) | Style::Assertion(_) => {}
        }
        if !matches!(style, Style::Assertion(_) | Style::None) || secret {
            need(self.client_id.is_some(), "client_id", "client authentication");
        }
        let uses = |grant| self.grant == grant;
        if uses(GrantType::ClientCredentials) && matches!(style, Style::None) {
            need(self.client_id.is_some(), "client_id", "`grant: client_credentials`");
            need(secret, "client_secret", "`grant: client_credentials`");
        }
        if uses(GrantType::Password) {
            need(self.username.is_some(), "username", "`grant: password`");
            need(self.password.is_some(), "password", "`grant: password`");
        }
        if uses(GrantType::RefreshToken) {
            need(self.refresh_token.is_some(), "refresh_token", "`grant: refresh_token`");
        }
        let mut idle = |there: bool, key: &str, grant: &str| {
            if there {
                problems.add(
                    place,
                    Mistake::new(format!("`{key}` is of no use with this grant"))
                        .hint(format!("say `grant: {grant}`, or remove `{key}`")),
                );
            }
        };
        if !uses(GrantType::Password) {
            idle(self.username.is_some(), "username", "password");
            idle(self.password.is_some(), "password", "password");
        }
        if !uses(GrantType::RefreshToken) {
            idle(self.refresh_token.is_some(), "refresh_token", "refresh_token");
        }
        let file = matches!(self.state, Some(state::Settings::File(_)));
        if uses(GrantType::ClientCredentials) {
            idle(file, "state: {file: ..}", "refresh_token");
        }
        if file && !self.refresh.enabled {
            let mistake =
                Mistake::new("a `state` file keeps refresh tokens, which are not enabled");
            problems
                .add(place, mistake.hint("remove `state`, or `enabled: false` under `refresh`"));
        }
        let revokes = self.revoke.as_ref().is_some_and(|revoke| revoke.on_shutdown);
        state::check_revocation(self.state.as_ref(), revokes, place, problems);
    }

    fn grant_members(&self) -> Vec<(String, RequestValue)> {
        let mut members = vec![member("grant_type", literal(self.grant.as_str()))];
        members.extend(self.username.clone().map(|name| member("username", name)));
        let password = self.password.clone().map(RequestValue::Secret);
        members.extend(password.map(|password| member("password", password)));
        members
    }

    /// Scope and parameters go with every request: some issuers give another token without them.
    fn with_common(&self, mut members: Vec<(String, RequestValue)>) -> Vec<(String, RequestValue)> {
        if !self.scopes.is_empty() {
            let scopes: Vec<&str> = self.scopes.iter().map(Text::as_str).collect();
            members.push(member("scope", literal(&scopes.join(" "))));
        }
        members.extend(self.params.iter().map(|(name, value)| (name.clone(), value.clone())));
        members
    }

    fn revoke(
        &self,
        client: &ClientAuth,
        refreshes: bool,
        problems: &mut Problems,
    ) -> Option<Revoke> {
        let settings = self.revoke.as_ref()?;
        let url = settings.url.beside(&self.token_url);
        let target = super::target(&url, self.plaintext, &self.tls, problems)?;
        let call = |hint: &str| Call {
            method: Method::POST,
            target: target.clone(),
            headers: Vec::new(),
            body: CallBody::Form(vec![
                member("token", parsed(&format!("${{self.{hint}}}"))),
                member("token_type_hint", literal(hint)),
            ]),
            client: client.clone(),
            alternate: None,
        };
        let access = call("access_token");
        // Withdrawing a refresh token ends the access token too (RFC 7009 section 2.1).
        let (call, without_refresh_token) =
            if refreshes { (call("refresh_token"), Some(access)) } else { (access, None) };
        let on_replace = settings.after_replacement.map(Duration::from);
        let on_shutdown = settings.on_shutdown;
        Some(Revoke { call, without_refresh_token, on_shutdown, on_replace })
    }
}

fn reading(assume: Duration) -> Reading {
    let at = |text: &str| Pointer::parse(text).ok();
    let places = |name: &str| at(name).map(Expiry::Seconds).into_iter().collect::<Vec<_>>();
    let mut expiry = places("/expires_in");
    expiry.push(Expiry::Jwt(Claim::Exp));
    Reading {
        success: Vec::new(),
        value: ValueRule::At(at("/access_token").unwrap_or_else(Pointer::root)),
        fields: [("scope", "/scope"), ("id_token", "/id_token")]
            .into_iter()
            .filter_map(|(name, pointer)| Some((name.to_owned(), at(pointer)?)))
            .collect(),
        refresh_token: at("/refresh_token"),
        expiry,
        assume,
        refresh_expiry: ["/refresh_expires_in", "/refresh_token_expires_in"]
            .into_iter()
            .flat_map(places)
            .collect(),
        errors: Vec::new(),
        parent_faults: Vec::new(),
        oauth: true,
    }
}

fn refresh_members(token: RequestValue) -> Vec<(String, RequestValue)> {
    vec![member("grant_type", literal("refresh_token")), member("refresh_token", token)]
}

fn own_refresh_token() -> RequestValue {
    parsed("${self.refresh_token}")
}

fn member(name: &str, value: RequestValue) -> (String, RequestValue) {
    (name.to_owned(), value)
}

fn literal(text: &str) -> RequestValue {
    RequestValue::Text(Template::literal(text))
}

fn parsed(text: &str) -> RequestValue {
    RequestValue::Text(Template::parse(text).unwrap_or_else(|_| Template::literal(text)))
}
