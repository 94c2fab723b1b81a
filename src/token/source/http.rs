//! Kind `http`: any HTTP exchange that answers JSON, declared piece by piece.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::exchange::answer::{Condition, ErrorRule, ParentFault, Reading, ValueRule};
use super::super::exchange::call::{Call, CallBody};
use super::super::exchange::client_auth::{ClientAuth, Style};
use super::super::exchange::lifetime::Expiry;
use super::super::exchange::value::{JsonBody, KeptSecret, RequestValue};
use super::super::exchange::{Exchange, Refreshing, Revoke};
use super::super::rejection::Rejection;
use super::super::schedule::Renew;
use super::super::state;
use super::super::template::Template;
use super::Common;
use crate::net::tls;
use crate::vocab::{
    At, FieldName, Mistake, Period, Place, Pointer, Problems, Text, TokenName, by_field_name,
};

/// The settings of one token that is fetched by declared requests.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Http")]
pub struct Settings {
    /// The initial request.
    pub acquire: Request,
    /// The request with a refresh token, where there is one.
    pub refresh: Option<RefreshRequest>,
    /// The request that withdraws a value; never sent unless declared.
    pub revoke: Option<RevokeRequest>,
    /// What a 2xx answer must say to be a success; all conditions must hold.
    #[serde(default)]
    pub success: Vec<Condition>,
    /// Where the value is: a pointer, or `{basic: [pointer, pointer]}` for a key and a secret that
    /// are sent as HTTP Basic.
    pub value: ValueSettings,
    /// Further fields by name, used as `${token.name}`. One named `refresh_token` is what
    /// `refresh` uses.
    #[serde(default)]
    pub fields: BTreeMap<String, Pointer>,
    /// Where the lifetime is; the first place that says something usable wins.
    #[serde(default)]
    pub expiry: Vec<Expiry>,
    /// Where the refresh token's lifetime is.
    #[serde(default)]
    pub refresh_expiry: Vec<Expiry>,
    /// What failed answers mean.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// Which failed answers blame a token that the request was made from.
    #[serde(default)]
    pub parent_fault: Vec<ParentFaultSettings>,
    /// The client's identifier.
    pub client_id: Option<RequestValue>,
    /// The client's secret.
    pub client_secret: Option<KeptSecret>,
    /// How the client proves itself: `basic` where it has a secret, else `none`.
    pub client_auth: Option<Style>,
    /// Where the newest refresh token is kept over restarts (`file`), or by which the token is
    /// shared with other programs (`redis`).
    pub state: Option<state::Settings>,
    /// Allows `http://` to another machine.
    #[serde(default)]
    pub plaintext: bool,
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

/// One request.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `POST` unless said otherwise.
    pub method: Option<At<Text>>,
    /// Where to; path and query may hold references.
    pub url: Template,
    /// Header fields.
    #[serde(default, deserialize_with = "by_field_name")]
    pub headers: BTreeMap<FieldName, RequestValue>,
    /// A form body.
    pub form: Option<BTreeMap<String, RequestValue>>,
    /// A JSON body.
    pub json: Option<JsonBody>,
    /// How the client proves itself, where it differs.
    pub client_auth: Option<Style>,
    /// Where to instead, when the answer has a listed status.
    pub alternate: Option<Alternate>,
}

/// A second place to ask.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternate {
    /// When the first answer has one of these statuses.
    pub on_status: Vec<u16>,
    /// Where to.
    pub url: Template,
}

/// A refresh request.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The request.
    pub request: Request,
    /// Whether a refresh token may be sent again although the answer to it was lost.
    #[serde(default)]
    pub reusable: bool,
    /// After how many failed refreshes in a row the initial request is tried.
    #[serde(default = "two")]
    pub fallback_after: u32,
}

/// A request that withdraws a value.
#[derive(Debug, Clone, PartialEq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The request; `${self.name}` are the fields of what is withdrawn.
    pub request: Request,
    /// At the end of the process, after the last request.
    #[serde(default = "yes")]
    pub on_shutdown: bool,
    /// This long after a value was replaced; not at all unless said.
    pub after_replacement: Option<Period>,
}

/// Where in an answer the value is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(untagged)]
pub enum ValueSettings {
    /// A string.
    At(Pointer),
    /// Two strings for HTTP Basic.
    Basic(BasicSettings),
}

/// A key and a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicSettings {
    /// The pointers to the key and the secret.
    pub basic: (Pointer, Pointer),
}

impl<'de> Deserialize<'de> for ValueSettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = ValueSettings;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON pointer or `{basic: [pointer, pointer]}`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ValueSettings, E> {
                Pointer::parse(text)
                    .map(ValueSettings::At)
                    .map_err(|mistake| E::custom(mistake.what))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<ValueSettings, A::Error> {
                let deserializer = serde::de::value::MapAccessDeserializer::new(map);
                BasicSettings::deserialize(deserializer).map(ValueSettings::Basic)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A failed answer that blames a parent; see [`Rejection`] for the conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParentFaultSettings {
    /// The status codes that the rule is about.
    pub status: Vec<u16>,
    /// Only a JSON body in which this pointer …
    pub pointer: Option<Pointer>,
    /// … is this text,
    pub equals: Option<Text>,
    /// … or begins with one of these,
    pub starts_with: Option<Vec<Text>>,
    /// … or (`true`) is not there at all.
    #[serde(default)]
    pub absent: bool,
    /// Only a body that contains this text.
    pub contains: Option<Text>,
    /// The token to renew.
    pub renew: TokenName,
}

impl ParentFaultSettings {
    fn plan(&self) -> ParentFault {
        ParentFault {
            when: Rejection {
                status: self.status.clone(),
                pointer: self.pointer.clone(),
                equals: self.equals.clone(),
                starts_with: self.starts_with.clone(),
                absent: self.absent,
                contains: self.contains.clone(),
                ..Rejection::unauthorized()
            },
            renew: self.renew.clone(),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn two() -> u32 {
    2
}

impl Settings {
    pub(super) const fn common(&self) -> Common<'_> {
        Common { renew: &self.renew, rejected: &self.rejected, required: self.required }
    }

    /// Spells out the exchange.
    pub(super) fn plan(&self, place: Place, problems: &mut Problems) -> Option<Exchange> {
        if self.refresh.is_some() && !self.fields.contains_key("refresh_token") {
            problems.add(
                place,
                Mistake::new("`refresh` needs a field named `refresh_token`")
                    .hint("add `fields: {refresh_token: /pointer}`"),
            );
        }
        let refreshing = Refreshing {
            reusable: self.refresh.as_ref().is_some_and(|refresh| refresh.reusable),
            fallback_after: self
                .refresh
                .as_ref()
                .map_or(2, |refresh| refresh.fallback_after.max(1)),
            seed: None,
        };
        if matches!(self.state, Some(state::Settings::File(_))) && self.refresh.is_none() {
            let mistake = Mistake::new("a `state` file keeps refresh tokens, and there are none");
            problems.add(place, mistake.hint("add `refresh`, or remove `state`"));
        }
        let revokes = self.revoke.as_ref().is_some_and(|revoke| revoke.on_shutdown);
        state::check_revocation(self.state.as_ref(), revokes, place, problems);
        let state = self.state.as_ref().and_then(|state| state.plan(problems));
        // All requests are looked at before any mistake ends the planning.
        let acquire = self.call(&self.acquire, place, problems);
        let refresh = self.refresh.as_ref().map(|r| self.call(&r.request, place, problems));
        let revoke = self.revoke.as_ref().map(|r| (r, self.call(&r.request, place, problems)));
        let revoke = match revoke {
            Some((settings, call)) => Some(Revoke {
                call: call?,
                without_refresh_token: None,
                on_shutdown: settings.on_shutdown,
                on_replace: settings.after_replacement.map(Duration::from),
            }),
            None => None,
        };
        let refresh = match refresh {
            Some(call) => Some(call?),
            None => None,
        };
        let reading = self.reading();
        Some(Exchange { acquire: acquire?, refresh, refreshing, revoke, reading, state })
    }

    fn reading(&self) -> Reading {
        Reading {
            success: self.success.clone(),
            value: match &self.value {
                ValueSettings::At(pointer) => ValueRule::At(pointer.clone()),
                ValueSettings::Basic(BasicSettings { basic: (first, second) }) => {
                    ValueRule::Basic(first.clone(), second.clone())
                }
            },
            fields: self
                .fields
                .iter()
                .filter(|(name, _)| name.as_str() != "refresh_token")
                .map(|(name, pointer)| (name.clone(), pointer.clone()))
                .collect(),
            refresh_token: self.fields.get("refresh_token").cloned(),
            expiry: self.expiry.clone(),
            assume: self.renew.assume.0,
            refresh_expiry: self.refresh_expiry.clone(),
            errors: self.errors.clone(),
            parent_faults: self.parent_fault.iter().map(ParentFaultSettings::plan).collect(),
            oauth: false,
        }
    }

    fn call(&self, request: &Request, place: Place, problems: &mut Problems) -> Option<Call> {
        let method = match &request.method {
            None => Method::POST,
            Some(text) => match text.as_str().to_ascii_uppercase().parse::<Method>() {
                Ok(method) if method != Method::CONNECT && method != Method::TRACE => method,
                _ => {
                    let what = format!("`{}` is not a usable method", text.as_str());
                    problems.add(text.place, Mistake::new(what).hint("such as GET, POST or PUT"));
                    return None;
                }
            },
        };
        let body = match (&request.form, &request.json) {
            (None, None) => CallBody::None,
            (Some(form), None) => CallBody::Form(
                form.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            ),
            (None, Some(json)) => CallBody::Json(json.clone()),
            (Some(_), Some(_)) => {
                let mistake = Mistake::new("a request has `form` or `json`, not both");
                problems.add(request.url.place(), mistake);
                return None;
            }
        };
        let style = request.client_auth.as_ref().or(self.client_auth.as_ref()).cloned();
        let style =
            style.unwrap_or(if self.client_secret.is_some() { Style::Basic } else { Style::None });
        let needs_both = matches!(style, Style::Basic | Style::BasicRaw | Style::Body);
        if needs_both && (self.client_id.is_none() || self.client_secret.is_none()) {
            let mistake = Mistake::new("this client authentication needs a client")
                .hint("add `client_id` and `client_secret`");
            problems.add(place, mistake);
        }
        let target = super::target(&request.url, self.plaintext, &self.tls, problems)?;
        let alternate = match &request.alternate {
            Some(other) => {
                let target = super::target(&other.url, self.plaintext, &self.tls, problems)?;
                Some((other.on_status.clone(), Box::new(target)))
            }
            None => None,
        };
        // A public client's id has a place only where there is a body for it.
        let id = self.client_id.clone().filter(|_| style != Style::None || request.form.is_some());
        Some(Call {
            method,
            target,
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.as_header().clone(), value.clone()))
                .collect(),
            body,
            client: ClientAuth { style, id, secret: self.client_secret.clone() },
            alternate,
        })
    }
}
