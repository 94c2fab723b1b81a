//! One declared request to an issuer, and how it is put together for a try.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;

use super::super::failure::{Failure, Reason};
use super::super::template::{Scope, Template};
use super::client_auth::{ClientAuth, push_form};
use super::value::{JsonBody, KeptSecret, RequestValue};
use crate::net::dial::Dialer;
use crate::net::fetch::{Answer, Bounds, fetch};
use crate::net::tls::{self, TlsError};
use crate::shutdown::Shutdown;
use crate::vocab::{HttpUrl, Mistake, Moment, TokenName};

/// Largest answer that is read.
const MOST_BYTES: usize = 64 * 1024;

/// Longest time to wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// What the request carries.
#[derive(Debug, Clone, PartialEq)]
pub enum CallBody {
    /// Nothing.
    None,
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, RequestValue)>),
    /// `application/json`.
    Json(JsonBody),
}

/// A request, as declared.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// Fields beyond those that the body and the client's proof bring.
    pub headers: Vec<(HeaderName, RequestValue)>,
    /// The body.
    pub body: CallBody,
    /// The client.
    pub client: ClientAuth,
    /// Where to instead, when the first answer has one of these statuses.
    pub alternate: Option<(Vec<u16>, Box<Target>)>,
}

/// A URL whose path and query may hold references; scheme, host and port are fixed.
#[derive(Debug, Clone)]
pub struct Target {
    template: Template,
    fixed: HttpUrl,
    dialer: Dialer,
}

impl Target {
    /// The URL that a template comes to with every reference replaced by `x`; the check of the
    /// configuration and [`Self::new`] both judge this one.
    ///
    /// # Errors
    /// A text that is no URL, or a host that depends on a token.
    pub fn probe(template: &Template) -> Result<HttpUrl, Mistake> {
        let literal = template.with_all("x");
        let url = HttpUrl::parse(&literal)?;
        let authority = literal.find("://").map_or(0, |at| at + 3);
        let origin =
            literal[authority..].find(['/', '?']).map_or(literal.len(), |at| at + authority);
        // All of the origin must stand before the first reference.
        if template.head().len() >= origin {
            Ok(url)
        } else {
            Err(Mistake::new("the host of a URL must not depend on a token")
                .hint("references may stand in the path and the query"))
        }
    }

    /// Prepares requests to a URL.
    ///
    /// # Errors
    /// A bad URL, or TLS settings that cannot work.
    pub fn new(template: Template, tls: &tls::Settings) -> Result<Self, TargetError> {
        let fixed = Self::probe(&template)?;
        let dialer = Dialer::new(&fixed, tls, &[b"http/1.1"], CONNECT)?.with_last_descriptors();
        Ok(Self { template, fixed, dialer })
    }

    /// The URL for this try. The host is the configured one whatever the references hold.
    fn render(&self, scope: &Scope<'_>) -> Result<HttpUrl, Failure> {
        let text = self
            .template
            .render(scope)
            .map_err(|error| Failure::new(Reason::Parent, error.to_string()))?;
        let url = HttpUrl::parse(text.expose())
            .map_err(|mistake| Failure::new(Reason::Config, mistake.what))?;
        if url.host() == self.fixed.host()
            && url.port() == self.fixed.port()
            && url.scheme() == self.fixed.scheme()
        {
            Ok(url)
        } else {
            Err(Failure::new(Reason::Config, "a reference changed the host of the URL"))
        }
    }

    /// The URL for people, without its query.
    #[must_use]
    pub fn shown(&self) -> String {
        self.fixed.to_string()
    }
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Its URL is wrong.
    #[error("{}", .0.what)]
    Url(Mistake),
    /// Its TLS settings are.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl From<Mistake> for TargetError {
    fn from(mistake: Mistake) -> Self {
        Self::Url(mistake)
    }
}

/// What a try runs with.
#[derive(Debug)]
pub struct Setting<'s> {
    /// Values to render with.
    pub scope: Scope<'s>,
    /// For the whole try.
    pub deadline: Duration,
    /// Who drives the connection.
    pub tasks: &'s Shutdown,
}

impl Call {
    /// Sends the request, and the alternate one where the answer asks for it.
    ///
    /// # Errors
    /// An unreadable secret, a reference without a value, or no answer.
    pub async fn send(&self, setting: &Setting<'_>) -> Result<Answer, Failure> {
        let end = Moment::now() + setting.deadline;
        let answer = self.send_to(&self.target, setting, end).await?;
        match &self.alternate {
            Some((statuses, target)) if statuses.contains(&answer.status().as_u16()) => {
                self.send_to(target, setting, end).await
            }
            _ => Ok(answer),
        }
    }

    async fn send_to(
        &self,
        target: &Target,
        setting: &Setting<'_>,
        end: Moment,
    ) -> Result<Answer, Failure> {
        let url = target.render(&setting.scope)?;
        let request = self.request(&url, &setting.scope)?;
        let bounds = Bounds { deadline: Moment::now().until(end), body: MOST_BYTES };
        Ok(fetch(&target.dialer, request, bounds, setting.tasks).await?)
    }

    fn request(&self, url: &HttpUrl, scope: &Scope<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let proof = self.client.prove(scope, &url.to_string())?;
        let mut fields = HeaderMap::with_capacity(8);
        fields.insert(header::HOST, url.host_value());
        fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // An answer of 64 KiB must not unfold to more.
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        fields.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("bearerd/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(value) = &proof.authorization {
            fields.insert(header::AUTHORIZATION, sensitive(value.expose())?);
        }
        let body = match &self.body {
            CallBody::None => Bytes::new(),
            CallBody::Form(members) => {
                fields.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                );
                let mut out = String::new();
                for (name, value) in members {
                    push_member(&mut out, name, value.render(scope)?.expose());
                }
                for (name, value) in &proof.body {
                    push_member(&mut out, name, value.expose());
                }
                Bytes::from(out)
            }
            CallBody::Json(json) => {
                fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let mut document = json.render(scope)?;
                if let serde_json::Value::Object(members) = &mut document {
                    for (name, value) in &proof.body {
                        members.insert((*name).to_owned(), value.expose().into());
                    }
                }
                Bytes::from(document.to_string())
            }
        };
        for (name, value) in &self.headers {
            fields.insert(name.clone(), sensitive(value.render(scope)?.expose())?);
        }
        let target = url.target();
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(target)
            .body(Full::new(body))
            .map_err(|_| Failure::new(Reason::Config, "the URL does not fit a request line"))?;
        *request.headers_mut() = fields;
        Ok(request)
    }

    /// Every value in it, for checks.
    pub fn values(&self) -> Vec<&RequestValue> {
        let mut values: Vec<_> = self.headers.iter().map(|(_, value)| value).collect();
        match &self.body {
            CallBody::None => {}
            CallBody::Form(members) => values.extend(members.iter().map(|(_, value)| value)),
            CallBody::Json(json) => values.extend(json.values()),
        }
        values.extend(&self.client.id);
        values
    }

    /// The secrets whose change is worth a new try.
    pub fn secrets(&self) -> Vec<&KeptSecret> {
        let mut secrets = self.client.secrets();
        secrets.extend(self.values().into_iter().filter_map(RequestValue::secret));
        secrets
    }

    /// The secrets that say for whom it asks.
    pub fn credentials(&self) -> Vec<&KeptSecret> {
        let mut secrets = self.client.credentials();
        secrets.extend(self.values().into_iter().filter_map(RequestValue::secret));
        secrets
    }

    /// Every template in it.
    pub fn templates(&self) -> Vec<&Template> {
        let mut templates: Vec<&Template> =
            self.values().into_iter().filter_map(RequestValue::template).collect();
        templates.push(&self.target.template);
        templates.extend(self.alternate.iter().map(|(_, target)| &target.template));
        templates
    }

    /// The tokens that it is made from.
    pub fn parents(&self) -> impl Iterator<Item = TokenName> {
        self.templates().into_iter().flat_map(|t| t.tokens().map(|(name, _)| name.clone()))
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(
            Reason::Config,
            "a header of the token request holds a line break or control character",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn push_member(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    push_form(out, name);
    out.push('=');
    push_form(out, value);
}
