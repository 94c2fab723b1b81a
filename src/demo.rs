//! `bearerd demo`: an issuer with 30-second tokens and an API that checks them, both on loopback
//! ports of this process, and the real proxy in front. The proxy runs as it always does, from a
//! configuration text; only its neighbours live here.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use crate::app::{self, Bound, StartError};
use crate::config::{self, Overrides};
use crate::net::body::Body;
use crate::server::{self, Handler, Incoming, Limits, Listener, Peer};
use crate::shutdown::Shutdown;
use crate::token::template::uuid;
use crate::vocab::Moment;

/// How long the demo's tokens hold.
const LIFETIME: Duration = Duration::from_secs(30);

const CLIENT: &str = "demo";

/// The tokens that the issuer gave and when they end.
type Issued = Arc<Mutex<HashMap<String, Moment>>>;

/// Runs the demo until it is told to stop. `print` shows what to try.
///
/// # Errors
/// No free port, no place for the demo's secret, or a fault of the proxy's own start.
pub fn run(overrides: Overrides, print: impl FnOnce(&str) + Send) -> Result<(), StartError> {
    let secret = uuid();
    let file = SecretFile::create(&secret).map_err(StartError::Demo)?;
    let neighbours = Neighbours::start(secret).map_err(StartError::Demo)?;
    let text = configuration(&neighbours, &file.0);
    let loaded = config::parse(&text, overrides.clone())
        .map_err(|problems| StartError::Demo(io::Error::other(format!("{problems:?}"))))?;
    let outcome = app::run_then(loaded, None, overrides, |bound| print(&greeting(bound, &text)));
    neighbours.shutdown.close();
    outcome
}

/// The client secret's file, gone when the demo ends.
struct SecretFile(PathBuf);

impl SecretFile {
    fn create(secret: &str) -> io::Result<Self> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = std::env::temp_dir().join(format!("bearerd-demo-{}", uuid()));
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(secret.as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// The issuer and the API.
struct Neighbours {
    issuer: SocketAddr,
    api: SocketAddr,
    shutdown: Shutdown,
}

impl Neighbours {
    fn start(secret: String) -> io::Result<Self> {
        let issued = Issued::default();
        let shutdown = Shutdown::new();
        let issuer = Issuer { secret, issued: Arc::clone(&issued) };
        Ok(Self {
            issuer: serve(Arc::new(issuer), &shutdown)?,
            api: serve(Arc::new(Api { issued }), &shutdown)?,
            shutdown,
        })
    }
}

/// Serves `handler` on a free loopback port and a thread of its own.
fn serve<H: Handler>(handler: Arc<H>, shutdown: &Shutdown) -> io::Result<SocketAddr> {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.address().inet().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let workers = server::workers(1, Limits::default(), None, shutdown.clone());
    for worker in workers {
        let (handler, listener) = (Arc::clone(&handler), listener.try_clone()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("demo".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(worker.serve(vec![listener], handler)) {
                tracing::error!(%error, "a part of the demo has ended");
            }
        })?;
    }
    Ok(address)
}

fn configuration(neighbours: &Neighbours, secret: &std::path::Path) -> String {
    format!(
        "tokens:
  api:
    oauth2:
      token_url: http://{}/token
      client_id: {CLIENT}
      client_secret: {{file: {}}}
routes:
  - name: demo
    upstream: http://{}
    inject: {{Authorization: \"Bearer ${{api}}\", Organization: acme}}
",
        neighbours.issuer,
        secret.display(),
        neighbours.api
    )
}

fn greeting(bound: Bound, configuration: &str) -> String {
    let Bound { proxy, admin } = bound;
    let indented: String = configuration.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "
The demo runs: an issuer whose tokens live {} seconds, an API that checks them, and bearerd in
front of it with this configuration:

{indented}
Try in another terminal:

    curl http://{proxy}/hello                    the API sees a valid token that curl never had
    curl -H 'Authorization: Bearer mine' http://{proxy}/hello
                                                 your credential is removed, not forwarded
    curl -H 'Host: evil.example' http://{proxy}/ refused: not a name that this proxy answers to
    curl http://{admin}/status                   the token's age, expiry and next renewal
    curl -s http://{admin}/metrics | grep bearerd_token_

Watch the log below: a token is renewed about every {} seconds. Stop with Ctrl-C.

",
        LIFETIME.as_secs(),
        LIFETIME.as_secs() * 3 / 4,
    )
}

/// A token endpoint that knows one client (RFC 6749 section 4.4).
struct Issuer {
    secret: String,
    issued: Issued,
}

impl Handler for Issuer {
    type Body = Body;

    async fn handle(&self, head: &mut Parts, body: Incoming, _: &Peer) -> Response<Body> {
        let expected = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{}", self.secret)));
        let known = head
            .headers
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes() == expected.as_bytes());
        let asked = head.method == Method::POST && head.uri.path() == "/token";
        let form = Limited::new(body, 8 * 1024).collect().await;
        let form = form.map(|body| body.to_bytes()).unwrap_or_default();
        let granted = form.split(|b| *b == b'&').any(|m| m == b"grant_type=client_credentials");
        match (asked, known, granted) {
            (false, _, _) => answer(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
            (_, false, _) => {
                answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" }))
            }
            (_, _, false) => {
                answer(StatusCode::BAD_REQUEST, &json!({ "error": "unsupported_grant_type" }))
            }
            (true, true, true) => answer(StatusCode::OK, &self.issue()),
        }
    }
}

impl Issuer {
    fn issue(&self) -> Value {
        let token = format!("demo-{}", uuid());
        let now = Moment::now();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, end| *end > now);
        issued.insert(token.clone(), now + LIFETIME);
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME.as_secs() })
    }
}

/// An API that wants a valid token and an organization, and tells what it was sent.
struct Api {
    issued: Issued,
}

impl Handler for Api {
    type Body = Body;

    async fn handle(&self, head: &mut Parts, _: Incoming, _: &Peer) -> Response<Body> {
        let token = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .unwrap_or_default();
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        let Some(end) = issued.get(token).filter(|end| **end > now) else {
            return answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token" }));
        };
        let left = now.until(*end).as_secs();
        let shown = format!("Bearer {}.. (valid, {left} s left)", &token[..token.len().min(13)]);
        let headers: serde_json::Map<String, Value> = head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = if name == AUTHORIZATION {
                    shown.clone()
                } else {
                    String::from_utf8_lossy(value.as_bytes()).into_owned()
                };
                (name.to_string(), value.into())
            })
            .collect();
        answer(
            StatusCode::OK,
            &json!({
                "you_called": format!("{} {}", head.method, head.uri),
                "the_api_received": headers,
            }),
        )
    }
}

fn answer(status: StatusCode, document: &Value) -> Response<Body> {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
