//! Clocks: set, suspended, stopped (F31–F33).

use std::sync::mpsc;
use std::time::Duration;

use bearerd::shutdown::Shutdown;
use bearerd::telemetry::metrics::Metrics;
use bearerd::token::present::{Inject, Presentation, Waited};
use bearerd::token::source::Kind;
use bearerd::token::{Plan, Tokens};
use bearerd::vocab::{Moment, Place, Problems, TokenName};

use crate::support::{Dir, Issuer, Sidecar, Upstream, pass, tolerance, until};

/// F31: what decides about expiry has no way to learn the wall clock's time.
#[test]
fn nothing_that_decides_about_time_reads_the_wall_clock_f31() {
    let source = |path: &str| {
        let path = format!("{}/src/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap()
    };
    for path in [
        "token/schedule.rs",
        "token/purse.rs",
        "token/handle/mod.rs",
        "token/handle/demand.rs",
        "token/present.rs",
        "token/grant.rs",
    ] {
        let text = source(path);
        for clock in ["Wall", "SystemTime", "Instant::now", "to_wall"] {
            assert!(!text.contains(clock), "{path} names {clock}");
        }
    }
    // The task shows times to people, and that is all it does with them.
    let refresher = source("token/refresher.rs");
    for line in refresher.lines().filter(|line| line.contains("to_wall")) {
        assert!(line.contains("metrics") || line.contains(".set("), "{line}");
    }
    assert!(!refresher.contains("Wall::now") && !refresher.contains("SystemTime"));
    let clock = source("vocab/clock.rs");
    assert!(clock.contains("ClockId::Boottime"));
    assert_eq!(clock.matches("SystemTime::now").count(), 1, "only `Wall` reads it");
}

/// F32: the runtime's clock stands still, as it does in suspend, while boot time goes on.
#[test]
fn after_a_suspend_the_first_request_renews_the_token_at_once_f32() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(suspended());
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(15)).expect("it holds and comes to an end");
}

async fn suspended() {
    // Without this the paused clock would jump from timer to timer.
    let (wake, sleep) = mpsc::channel::<()>();
    let stands_still = tokio::task::spawn_blocking(move || sleep.recv().is_err());
    let (issuer, dir) = (Issuer::giving(2.0), Dir::new());
    let secret = dir.write("secret", "client-secret");
    let yaml = format!(
        "oauth2: {{token_url: \"{}\", client_id: me, client_secret: {{file: \"{}\"}}}}",
        issuer.url(),
        secret.display()
    );
    let kind: Kind = serde_yaml::from_str(&yaml).unwrap();
    let (mut problems, name) = (Problems::new(), TokenName::parse("api").unwrap());
    let source = kind.plan(Place::default(), &mut problems).unwrap();
    let (metrics, tasks) = (Metrics::new().unwrap(), Shutdown::new());
    let plans = vec![Plan { name: name.clone(), kind, source }];
    let tokens = Tokens::new(plans, &Tokens::default(), &metrics, &tasks);
    let inject: Inject = serde_yaml::from_str("{Authorization: \"Bearer ${api}\"}").unwrap();
    let presentation = Presentation::new(&inject, |name| tokens.handle(name));
    tokens.start();
    let longest = Duration::from_secs(3600);
    let Waited::Ready(before) = presentation.wait(longest).await else { panic!("no first token") };
    assert_eq!((before.generations[0], issuer.count()), (1, 1));

    // The machine sleeps: nothing here runs, no timer moves.
    std::thread::sleep(Duration::from_millis(2200));

    let resumed = Moment::now();
    assert!(!before.is_usable(resumed), "an expired token would be injected");
    let Waited::Ready(after) = presentation.wait(longest).await else { panic!("no second token") };
    assert_eq!((after.generations[0], issuer.count()), (2, 2));
    let took = Moment::now().since(resumed);
    assert!(took.as_secs_f64() < 0.75 + tolerance(), "{took:?}");
    drop(wake);
    assert!(stands_still.await.unwrap());
}

/// F33, 4 s instead of 30.
#[test]
fn a_stopped_process_goes_on_with_one_post_and_no_expired_token_f33() {
    let (issuer, upstream) = (Issuer::giving(3.0), Upstream::ok());
    let sidecar = Sidecar::before(&issuer, &upstream);
    sidecar.await_ready();
    let start = issuer.posts()[0].at;
    let mut clients: Vec<_> = (0..50).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    sidecar.signal("STOP");
    // Threads stop one after the other.
    pass(0.3);
    let before = upstream.seen().len();
    for client in &mut clients {
        client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    until(start, 6.0);
    assert_eq!((issuer.count(), upstream.seen().len()), (1, before));
    let resumed = Moment::now();
    sidecar.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status, 200);
    }
    assert_eq!(issuer.count(), 2);
    let took = issuer.posts()[1].at.since(resumed).as_secs_f64();
    assert!(took < 0.75 + tolerance(), "{took} s");
    for seen in &upstream.seen()[before..] {
        assert_eq!(seen.credential, "Bearer token-1");
    }
    pass(1.5);
    assert_eq!(issuer.count(), 2, "a burst");
}
