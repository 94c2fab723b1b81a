//! The upstream rejects a token (F34–F38).

use std::io::Write;
use std::time::Duration;

use crate::support::{
    Issuer, Load, Reply, Sidecar, Upstream, eventually, lateness, pass, reply, secs,
};

fn setting(upstream: Upstream, lifetime: f64) -> (Issuer, Upstream, Sidecar) {
    let issuer = Issuer::giving(lifetime);
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    (issuer, upstream, sidecar)
}

/// F34.
#[test]
fn a_revoked_token_costs_one_post_and_no_error_f34() {
    let revoking = Upstream::answering(|seen| match seen.credential.as_str() {
        "Bearer token-0" if seen.number >= 10 => 401,
        _ => 200,
    });
    let (issuer, upstream, sidecar) = setting(revoking, 600.0);
    let load = Load::on(sidecar.proxy, "/", 100);
    pass(2.0);
    load.end_without_errors();
    assert_eq!(issuer.count(), 2);
    assert_eq!(upstream.credentials(), ["Bearer token-0", "Bearer token-1"]);
}

/// F35 for 33 of its 60 s: the first rejection, the one after 30 s, and none between.
#[test]
fn a_token_that_is_always_rejected_is_renewed_every_thirty_seconds_at_most_f35() {
    let (issuer, upstream, sidecar) = setting(Upstream::answering(|_| 401), 600.0);
    let load = Load::on(sidecar.proxy, "/", 40);
    pass(33.0);
    let answers = load.end();
    assert!(answers.iter().all(|answer| answer.status == 401));
    assert_eq!(issuer.count(), 3, "{:?}", issuer.gaps());
    assert!(issuer.gaps()[1] >= 29.95 - lateness(), "{:?}", issuer.gaps());
    // One replay for each request that waited for a renewal, none for the others.
    let replays = upstream.seen().len() - answers.len();
    assert!(replays <= 2 * 4, "{replays} replays");
}

/// A renewal that is due all but at once may be brought forward, whatever was asked for before.
/// Here every one is: the issuer takes so long that it is to be asked again when it has answered.
#[test]
fn a_slow_issuer_has_half_a_second_of_rest_though_every_token_is_rejected() {
    const TAKES: f64 = 1.5;
    let issuer =
        Issuer::run(|post| Reply::token(&format!("token-{}", post.number), 5.0).after(secs(TAKES)));
    let upstream = Upstream::answering(|_| 401);
    let sidecar = Sidecar::before(&issuer, &upstream);
    let load = Load::on(sidecar.proxy, "/", 40);
    issuer.await_posts(4);
    load.end();
    let gaps = issuer.gaps();
    let least = TAKES + 0.48 - lateness();
    assert!(gaps.iter().all(|gap| *gap >= least), "{gaps:?}");
}

/// F36 with 4 MiB instead of 1 GiB: the limit is 64 KiB.
#[test]
fn a_large_upload_is_not_replayed_and_the_next_request_has_a_new_token_f36() {
    let revoking = Upstream::answering(|seen| match seen.credential.as_str() {
        "Bearer token-0" => 401,
        _ => 200,
    });
    let (issuer, upstream, sidecar) = setting(revoking, 600.0);
    let mut client = sidecar.client();
    client
        .ask("POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x1_0000], b"\r\n"].concat();
    for _ in 0..64 {
        client.stream.write_all(&chunk).unwrap();
    }
    client.ask("0\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 401);
    assert_eq!(upstream.seen().len(), 1, "replayed");
    assert_eq!(upstream.seen()[0].body, 4 << 20);
    eventually("a renewal", || sidecar.generation() == 2);
    assert_eq!(sidecar.get("/").status, 200);
    assert_eq!(upstream.seen()[1].credential, "Bearer token-1");
    assert_eq!(issuer.count(), 2);
}

/// F37.
#[test]
fn a_rejection_of_a_replaced_token_asks_nobody_f37() {
    let slow = Upstream::run(|seen, stream| {
        if seen.target == "/slow" && seen.credential == "Bearer token-0" {
            std::thread::sleep(Duration::from_millis(2600));
            return reply(stream, 401);
        }
        reply(stream, 200)
    });
    // The second token comes while the first one's request is under way, and holds for long.
    let issuer = Issuer::run(|post| {
        let lifetime = if post.number == 0 { 3.0 } else { 600.0 };
        Reply::token(&format!("token-{}", post.number), lifetime)
    });
    let sidecar = Sidecar::before(&issuer, &slow);
    sidecar.await_ready();
    let answer = sidecar.get("/slow");
    assert_eq!(issuer.count(), 2, "the answer came after the renewal");
    assert_eq!(answer.status, 200);
    assert!(answer.took > secs(2.5));
    let used: Vec<String> = slow.seen().into_iter().map(|seen| seen.credential).collect();
    assert_eq!(used, ["Bearer token-0", "Bearer token-1"]);
    pass(1.0);
    assert_eq!(issuer.count(), 2);
}

/// F38.
#[test]
fn a_403_is_no_rejection_f38() {
    let (issuer, _upstream, sidecar) = setting(Upstream::answering(|_| 403), 600.0);
    let load = Load::on(sidecar.proxy, "/", 200);
    pass(2.0);
    assert!(load.end().iter().all(|answer| answer.status == 403));
    assert_eq!(issuer.count(), 1);
}
