//! gRPC over HTTP/2 from end to end: all four kinds of calls, trailers, trailers only (P14, P32).

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::support::http2::{Multiplexed, run, whole};
use crate::support::{Exchange, Http2, Sidecar, Upstream};

fn before(upstream: &Http2) -> Sidecar {
    let yaml = "limits: {upstream_body_idle: 300ms}\nroutes: [{upstream: {url: UPSTREAM, protocol: http2}, inject: {Authorization: Bearer secret-credential}}]";
    Sidecar::start(&Upstream::at(upstream.address), yaml)
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .header("authorization", "Bearer mine")
        .body(())
        .unwrap()
}

/// The next message of a conversation.
async fn message(body: &mut RecvStream) -> Option<Bytes> {
    let data = body.data().await?.ok()?;
    body.flow_control().release_capacity(data.len()).ok()?;
    Some(data)
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

/// Answers each message with the same, as it comes; `/error` with a status alone.
async fn serve(mut exchange: Exchange) {
    let headers = exchange.request.headers();
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["grpc-timeout"], "10S");
    assert_eq!(headers["authorization"], "Bearer secret-credential");
    if exchange.request.uri().path() == "/error" {
        let mut only = head();
        only.headers_mut().extend(status("5"));
        exchange.respond.send_response(only, true).unwrap();
        return;
    }
    let mut stream = exchange.respond.send_response(head(), false).unwrap();
    let body = exchange.request.body_mut();
    while let Some(data) = message(body).await {
        stream.send_data(data, false).unwrap();
    }
    stream.send_trailers(status("0")).unwrap();
}

#[test]
fn a_unary_call_has_its_trailers() {
    let sidecar = before(&Http2::run(serve));
    let client = Multiplexed::connect(sidecar.address);
    let reply = client.send(call("/unary"), Some(b"\0\0\0\0\x02hi"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"\0\0\0\0\x02hi".as_slice()));
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn a_call_that_fails_at_once_has_trailers_only() {
    let sidecar = before(&Http2::run(serve));
    let client = Multiplexed::connect(sidecar.address);
    let reply = client.send(call("/error"), Some(b"\0\0\0\0\x02hi"));
    assert_eq!((reply.status, reply.headers["grpc-status"].as_bytes()), (200, b"5".as_slice()));
    assert!(reply.body.is_empty() && reply.trailers.is_none());
}

#[test]
fn a_conversation_goes_both_ways_message_by_message() {
    let upstream = Http2::run(serve);
    let sidecar = before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    run(async {
        let mut calls = Vec::new();
        for _ in 0..50 {
            let (answer, sending) = client.begin(call("/talk"), false).await;
            calls.push((answer.await.expect("a head"), sending));
        }
        for round in 0..5 {
            for (index, (answer, sending)) in calls.iter_mut().enumerate() {
                let text = Bytes::from(format!("{index}-{round}"));
                sending.send_data(text.clone(), false).expect("a message");
                assert_eq!(message(answer.body_mut()).await, Some(text));
            }
            // Longer than other answers may pause.
            if round == 2 {
                tokio::time::sleep(Duration::from_millis(800)).await;
            }
        }
        for (answer, mut sending) in calls {
            sending.send_data(Bytes::new(), true).expect("an end");
            let reply = whole(answer).await.expect("a whole answer");
            assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
        }
    });
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_call_that_the_client_ends_is_ended_upstream_p21() {
    let (told, ended) = std::sync::mpsc::channel();
    let upstream = Http2::run(move |mut exchange| {
        let told = told.clone();
        async move {
            let mut stream = exchange.respond.send_response(head(), false).unwrap();
            stream.send_data(Bytes::from_static(b"one"), false).unwrap();
            std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
            told.send(()).ok();
        }
    });
    let sidecar = before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    run(async {
        let (answer, sending) = client.begin(call("/talk"), false).await;
        let mut answer = answer.await.expect("a head");
        assert_eq!(message(answer.body_mut()).await.unwrap(), "one");
        drop((answer, sending));
    });
    ended.recv_timeout(Duration::from_secs(1)).expect("an end within a second");
}

#[test]
fn a_call_that_breaks_off_upstream_is_no_success_p12() {
    for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
        let upstream = Http2::run(move |mut exchange| async move {
            let mut stream = exchange.respond.send_response(head(), false).unwrap();
            stream.send_data(Bytes::from_static(b"one"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            stream.send_reset(reason);
        });
        let sidecar = before(&upstream);
        let client = Multiplexed::connect(sidecar.address);
        run(async {
            let (answer, _sending) = client.begin(call("/talk"), false).await;
            let error = whole(answer.await.expect("a head")).await.expect_err("no whole answer");
            assert!(error.is_reset() && error.reason() != Some(h2::Reason::NO_ERROR), "{error}");
        });
    }
}

#[test]
fn an_answer_that_falls_silent_resets_only_its_stream() {
    let upstream = Http2::run(|mut exchange| async move {
        if exchange.request.uri().path() == "/ok" {
            return exchange.answer(Response::new(()), "ok");
        }
        let mut stream = exchange.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok();
    });
    let sidecar = before(&upstream);
    let client = Multiplexed::connect(sidecar.address);
    run(async {
        let (answer, _) = client.begin(crate::support::http2::get("/silent"), true).await;
        let error = whole(answer.await.expect("a head")).await.expect_err("no whole answer");
        assert!(error.is_reset(), "{error}");
    });
    assert_eq!(client.get("/ok").text(), "ok");
    sidecar.await_metric("bearerd_upstream_stalls_total{route=\"route-1\"}", 1.0);
}
