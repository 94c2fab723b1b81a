//! What takes minutes: ten of an outage (F7), and one of idleness with fifty tokens. Ignored by a
//! plain `cargo test`; `cargo test --test faults -- --ignored soak --nocapture` runs it.

use bearerd::vocab::Moment;

use crate::support::{Issuer, Relay, Sidecar, Upstream, eventually, pass, simple, until};

const MIB: f64 = 1024.0 * 1024.0;

/// F7 for its ten minutes, with callers who want the token all the while.
#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_without_the_issuer_leave_memory_and_log_flat_f7() {
    let (issuer, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let relay = Relay::refusing(issuer.address);
    let config = format!("token_wait: 100ms\n{}", simple(&relay.url(), &upstream, ""));
    let sidecar = Sidecar::start(&config);
    let start = Moment::now();
    let load = sidecar.load(20);
    // Buffers and threads are there after a minute.
    pass(60.0);
    let memory = || sidecar.metric("process_resident_memory_bytes") / MIB;
    let first = memory();
    let mut seen = vec![first];
    for minute in 2..=10 {
        until(start, 60.0 * f64::from(minute));
        seen.push(memory());
    }
    eprintln!("MiB after each minute: {seen:.1?}");
    let tries = sidecar.failures("connect");
    eprintln!("{tries} tries");
    assert!(seen.iter().all(|now| (now - first).abs() <= 2.0), "{seen:?}");
    assert!((40.0..=90.0).contains(&tries), "{tries} tries");
    let loud = sidecar.log().lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).count();
    assert!(loud <= 120, "{loud} lines at WARN or above");
    assert!(load.end().iter().all(crate::support::Answer::is_missing_token));
    relay.up();
    eventually("readiness", || sidecar.is_ready());
}

#[test]
#[ignore = "takes two minutes"]
fn fifty_idle_tokens_cost_less_than_a_hundredth_of_a_cpu() {
    let (issuer, upstream) = (Issuer::giving(300.0), Upstream::ok());
    let token = |number: usize| {
        format!(
            "t{number}: {{oauth2: {{token_url: \"{}\", client_id: me, \
             client_secret: {{file: DIR/secret}}}}}}",
            issuer.url()
        )
    };
    let tokens: Vec<String> = (0..50).map(token).collect();
    let config = format!(
        "tokens: {{{}}}\nroutes: [{{upstream: \"{}\", inject: {{Authorization: \"Bearer ${{t0}}\"}}}}]\n",
        tokens.join(", "),
        upstream.url()
    );
    let sidecar = Sidecar::start(&config);
    sidecar.await_ready();
    pass(5.0);
    let used = || sidecar.metric("process_cpu_seconds_total");
    let (start, before) = (Moment::now(), used());
    pass(90.0);
    let share = (used() - before) / Moment::now().since(start).as_secs_f64();
    let memory = sidecar.metric("process_resident_memory_bytes") / MIB;
    eprintln!("{:.3} % of a CPU, {memory:.1} MiB", share * 100.0);
    assert!(share < 0.01, "{share}");
    assert_eq!(issuer.count(), 50);
}
