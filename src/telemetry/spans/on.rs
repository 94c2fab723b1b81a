//! A build with traces.

use std::sync::OnceLock;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

use crate::telemetry::series::METHODS;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Has spans made from now on. A second call in one process changes nothing.
pub fn start(tracer: SdkTracer) {
    drop(TRACER.set(tracer));
}

/// A span, which ends when it is dropped; nothing unless traces are on.
#[derive(Debug)]
pub struct Span(Option<Context>);

impl Span {
    /// Of a client's request, whose own span is the parent if it names one.
    #[must_use]
    pub fn of_request(method: &Method, headers: &HeaderMap) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        Self::begin(tracer, SpanKind::Server, known(method), &parent, vec![of_method(method)])
    }

    /// Of a call to an upstream on behalf of this request.
    #[must_use]
    pub fn call(&self, method: &Method) -> Self {
        let (Some(tracer), Some(parent)) = (TRACER.get(), &self.0) else { return Self(None) };
        Self::begin(tracer, SpanKind::Client, known(method), parent, vec![of_method(method)])
    }

    /// Of an attempt to obtain a token by `means`.
    #[must_use]
    pub fn of_token(token: &str, means: &'static str) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let fields = vec![
            KeyValue::new("bearerd.token", token.to_owned()),
            KeyValue::new("bearerd.means", means),
        ];
        Self::begin(tracer, SpanKind::Client, "token", &Context::new(), fields)
    }

    fn begin(
        tracer: &SdkTracer,
        kind: SpanKind,
        name: &'static str,
        parent: &Context,
        fields: Vec<KeyValue>,
    ) -> Self {
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(fields);
        Self(Some(parent.with_span(tracer.build_with_context(builder, parent))))
    }

    /// Whether a field of this name would be told by [`Self::announce`].
    #[must_use]
    pub fn owns(&self, name: &HeaderName) -> bool {
        self.0.is_some() && (*name == TRACEPARENT || *name == TRACESTATE)
    }

    /// Has the receiver of the fields that are `put` continue this span.
    pub fn announce(&self, mut put: impl FnMut(&HeaderName, &HeaderValue)) {
        let Some(context) = &self.0 else { return };
        let mut fields = HeaderMap::new();
        TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(&mut fields));
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            put(name, value);
        }
    }

    /// It belongs to a route.
    pub fn route(&self, name: &str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("bearerd.route", name.to_owned()));
        }
    }

    /// It ended with a status; 0 if there was none.
    pub fn status(&self, code: u16) {
        let Some(context) = &self.0 else { return };
        match code {
            0 => self.failed("client-left"),
            500.. => self.failed("status"),
            _ => {}
        }
        context.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(code)));
    }

    /// It failed for a reason of a closed set.
    pub fn failed(&self, reason: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", reason));
            context.span().set_status(Status::error(reason));
        }
    }
}

fn of_method(method: &Method) -> KeyValue {
    KeyValue::new("http.request.method", known(method))
}

/// A method of the closed set.
fn known(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}
