//! Sends spans to a collector by OTLP over HTTP, if the environment names one
//! (`OTEL_EXPORTER_OTLP_ENDPOINT`). The SDK reads the rest of its variables itself: the sampler, the
//! service's name and attributes, the batches. Connections are our own: no second HTTP client and
//! no second TLS come with it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use http_body_util::Full;
use opentelemetry::Key;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::{mpsc, oneshot};

use crate::net::dial::Dialer;
use crate::net::fetch::{Answer, Bounds, FetchFault, fetch};
use crate::net::tls;
use crate::shutdown::Shutdown;
use crate::telemetry::spans;
use crate::vocab::HttpUrl;

const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(10), body: 64 * 1024 };

/// For the last spans to go out at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The endpoint's variables, the first that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Spans on their way to a collector.
pub(super) struct Export {
    provider: SdkTracerProvider,
    tasks: Shutdown,
}

impl Export {
    /// Begins to make and send spans, if the environment says where to. Telemetry that cannot be
    /// set up is told of and keeps nothing from running. Needs a runtime.
    pub(super) fn start() -> Option<Self> {
        let endpoint = endpoint()?;
        match Self::towards(&endpoint) {
            Ok(export) => {
                tracing::info!("spans go to {endpoint}");
                Some(export)
            }
            Err(why) => {
                tracing::error!("no spans are sent to {endpoint}: {why}");
                None
            }
        }
    }

    fn towards(endpoint: &HttpUrl) -> Result<Self, String> {
        let dialer =
            Dialer::new(endpoint, &tls::Settings::default(), &[b"http/1.1"], BOUNDS.deadline)
                .map_err(|error| error.to_string())?;
        let (post, inbox) = mpsc::channel(1);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(post))
            .build()
            .map_err(|error| error.to_string())?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        let tasks = Shutdown::new();
        drop(tasks.spawn(carry(dialer, inbox, tasks.clone())));
        spans::start(provider.tracer("bearerd"));
        Ok(Self { provider, tasks })
    }

    /// Sends what is left.
    pub(super) async fn end(self) {
        let Self { provider, tasks } = self;
        // The SDK blocks until this thread has carried its last request.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not sent");
        }
        tasks.close();
    }
}

/// Where spans go; nowhere without a variable that says so, or with `OTEL_SDK_DISABLED`.
fn endpoint() -> Option<HttpUrl> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let (name, text) = ENDPOINTS.iter().find_map(|name| Some((name, set(name)?)))?;
    HttpUrl::parse(&text)
        .inspect_err(|mistake| tracing::error!("`{name}`: {}; no spans are sent", mistake.what))
        .ok()
}

/// What the spans come from: what the environment says, and our name where it says none.
fn resource() -> Resource {
    let told = Resource::builder().build();
    let name = told.get(&Key::from_static_str("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder();
    if is_named { builder } else { builder.with_service_name("bearerd") }.build()
}

/// One request of the exporter, and where its answer goes.
type Posted = (Request<Bytes>, oneshot::Sender<Result<Response<Bytes>, FetchFault>>);

/// The exporter's end: it runs on a thread of the SDK, which has no runtime.
#[derive(Debug)]
struct Client(mpsc::Sender<Posted>);

impl HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            self.0.send((request, sender)).await?;
            Ok(answer.await??)
        })
    }
}

/// Our end: carries one request after the other.
async fn carry(dialer: Dialer, mut inbox: mpsc::Receiver<Posted>, tasks: Shutdown) {
    let mut failing = false;
    loop {
        let (request, sender) = tokio::select! {
            posted = inbox.recv() => match posted {
                Some(posted) => posted,
                None => return,
            },
            () = tasks.closing() => return,
        };
        let outcome = fetch(&dialer, originated(request), BOUNDS, &tasks).await;
        let fault = match &outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(fault) => Some(fault.to_string()),
        };
        // Once, and not for each batch.
        if let Some(why) = fault.as_ref().filter(|_| !failing) {
            tracing::warn!("the collector takes no spans: {why}");
        }
        failing = fault.is_some();
        let answer = outcome.map(|Answer { head, body }| Response::from_parts(head, body));
        // The exporter may have given up.
        sender.send(answer).ok();
    }
}

/// With a target as a server wants it, and `Host`.
fn originated(request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    if let Some(host) = head.uri.authority().and_then(|host| host.as_str().parse().ok()) {
        head.headers.insert(HOST, host);
    }
    head.uri = head.uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    Request::from_parts(head, Full::new(body))
}
