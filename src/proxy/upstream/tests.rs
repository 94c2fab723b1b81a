use std::time::Duration;

use http::Request;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::proxy::headers::{self, Rules, Survey};
use crate::proxy::route::Settings;
use crate::server::Peer;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Span;
use crate::token::present::Presented;
use crate::vocab::RouteName;

/// Returns when the upstream has been sent a request.
async fn asked(listener: &TcpListener, is_http2: bool) {
    let (mut tcp, _) = listener.accept().await.unwrap();
    if is_http2 {
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        connection.accept().await.unwrap().unwrap();
    } else {
        assert_ne!(tcp.read(&mut [0]).await.unwrap(), 0);
    }
}

/// The credential's time ends while the connection is opened.
async fn late(protocol: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = format!("[{{upstream: {{url: 'http://{address}/', protocol: {protocol}}}}}]");
    let routes: Vec<Settings> = serde_yaml::from_str(&route).unwrap();
    let (rules, _) = Rules::new(&routes[0], &routes, None, None, &[]);
    let metrics = Metrics::new().unwrap().route(&RouteName::parse("r").unwrap(), &[]);
    let (limits, shutdown, peer) = (Limits::default(), Shutdown::new(), Peer::unwatched(address));
    let (origin, tls) = (&routes[0].upstream.value, tls::Settings::default());
    let upstream = Upstream::new(origin, &tls, &limits, &metrics, &shutdown).unwrap();
    let request = Request::get("/").header("host", "a").body(()).unwrap();
    let (mut head, ()) = request.into_parts();
    let found = Survey::of(&head.headers);
    let span = Span::of_request(&head.method, &head.headers);
    let stripped = headers::strip(&mut head, found, &rules, &peer, &[]).unwrap();
    let presented = Presented::new(Vec::new(), None, Vec::new());
    let outbound = Outbound {
        head: &head,
        stripped: &stripped,
        found,
        rules: &rules,
        peer: &peer,
        span: &span,
        presented: &presented,
    };
    let mut asked = pin!(asked(&listener, protocol == "http2"));
    let now = Moment::now();
    let upload = Some(Upload::empty());
    let mut attempt = Attempt { upload, over: Over::Any, until: Some(now), now };
    let sending = upstream.send(&outbound, &mut attempt);
    let outcome = tokio::select! {
        () = &mut asked => panic!("{protocol}: sent"),
        outcome = sending => outcome,
    };
    assert!(matches!(outcome, Err(Failure::Stale)), "{protocol}: {outcome:?}");
    assert!(attempt.upload.is_some(), "{protocol}: it can be sent with another credential");
    let later = tokio::time::timeout(Duration::from_millis(50), asked).await;
    assert!(later.is_err(), "{protocol}: sent later");
    shutdown.close();
}

#[test]
fn nothing_is_sent_once_the_credentials_time_is_over() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for protocol in ["http1", "http2"] {
        runtime.block_on(late(protocol));
    }
}
