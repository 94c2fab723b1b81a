//! One bounded request to an issuer: one connection, one deadline, a cap on the answer, no
//! redirects, nothing from the environment's proxy variables.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::dial::{DialError, Dialer};
use crate::shutdown::Shutdown;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status and header fields.
    pub head: http::response::Parts,
    /// The body, at most the cap.
    pub body: Bytes,
}

impl Answer {
    /// The status code.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// No connection; the server never saw the request.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke after the request had begun: the server may have acted on it.
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(#[source] hyper::Error),
    /// The body's end never came or it was cut.
    #[error("the answer's body could not be read: {0}")]
    Body(String),
    /// The answer is larger than the cap.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The deadline passed after the request had begun.
    #[error("no complete answer within {:?}", to_the_millisecond(*.0))]
    Timeout(Duration),
}

/// What is left of a deadline falls short of it by what was done before.
fn to_the_millisecond(span: Duration) -> Duration {
    Duration::from_millis(
        (span + Duration::from_micros(500)).as_millis().try_into().unwrap_or(u64::MAX),
    )
}

impl FetchFault {
    /// Whether the server may have acted on the request although no usable answer came.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        !matches!(self, Self::Dial(_))
    }
}

/// The bounds of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For everything from the connection's first byte to the answer's last.
    pub deadline: Duration,
    /// Most bytes of the answer's body.
    pub body: usize,
}

/// Sends `request` (origin-form target, `Host` set) and reads the whole answer.
///
/// # Errors
/// See [`FetchFault`]. Redirects are answers like any other.
pub async fn fetch(
    dialer: &Dialer,
    request: Request<Full<Bytes>>,
    bounds: Bounds,
    tasks: &Shutdown,
) -> Result<Answer, FetchFault> {
    let started = crate::vocab::Moment::now();
    let io = match tokio::time::timeout(bounds.deadline, dialer.dial()).await {
        Ok(io) => io?,
        Err(_) => return Err(FetchFault::Timeout(bounds.deadline)),
    };
    let left = bounds.deadline.saturating_sub(crate::vocab::Moment::now().since(started));
    match tokio::time::timeout(left, exchange(io, request, bounds.body, tasks)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(FetchFault::Timeout(bounds.deadline)),
    }
}

async fn exchange(
    io: super::io::Io,
    request: Request<Full<Bytes>>,
    cap: usize,
    tasks: &Shutdown,
) -> Result<Answer, FetchFault> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(FetchFault::Broken)?;
    let driver = tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "issuer connection ended");
        }
    });
    let outcome = async {
        let response: Response<_> =
            sender.send_request(request).await.map_err(FetchFault::Broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, cap).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                FetchFault::TooLarge(cap)
            } else {
                FetchFault::Body(error.to_string())
            }
        })?;
        Ok(Answer { head, body: body.to_bytes() })
    }
    .await;
    driver.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_told_as_it_was_set() {
        let told = |nanos| FetchFault::Timeout(Duration::from_nanos(nanos)).to_string();
        assert_eq!(told(9_999_991_620), "no complete answer within 10s");
        assert_eq!(told(249_990_000), "no complete answer within 250ms");
    }
}
