//! The story of CAEPE behind Keycloak, with the two files that its users copy.

use std::sync::Arc;
use std::time::Duration;

use bearerd::vocab::Moment;

use crate::doubles::caepe::{Caepe, ORGANIZATION};
use crate::doubles::keycloak::{Keycloak, REALM, SERVICE, USER};
use crate::doubles::{Double, FOREIGN};
use crate::support::{Load, Process, eventually, example, lateness, watch};

struct Stage {
    issuer: Arc<Double<Keycloak>>,
    api: Double<Caepe>,
}

fn stage(keycloak: Keycloak) -> Stage {
    let issuer = Arc::new(Double::start(keycloak));
    let api = Double::start(Caepe::new(&issuer));
    Stage { issuer, api }
}

fn keycloak(seconds: u64) -> Keycloak {
    Keycloak::new(Duration::from_secs(seconds))
}

impl Stage {
    fn start(&self, name: &str, own: &[(&str, &str)]) -> Process {
        let (api, token) = (self.api.url(), format!("{}{REALM}/token", self.issuer.url()));
        let mut environment = vec![
            ("CAEPE_URL", api.as_str()),
            ("CAEPE_TOKEN_URL", token.as_str()),
            ("CAEPE_ORGANIZATION", ORGANIZATION),
        ];
        environment.extend(own);
        Process::start(&example(name), &environment)
    }

    fn user(&self) -> Process {
        self.start("caepe-user", &[("CAEPE_USERNAME", USER.0), ("CAEPE_PASSWORD", USER.1)])
    }

    fn asked(&self, grant: &str) -> usize {
        self.issuer.with(|issuer| issuer.asked(grant))
    }
}

fn load(process: &Process) -> Load {
    let lines = [
        &format!("GET /api/clusters?access_token={FOREIGN} HTTP/1.1"),
        "Host: localhost",
        &format!("Authorization: Bearer {FOREIGN}"),
        &format!("Authentication: Bearer {FOREIGN}"),
        &format!("Proxy-Authorization: Bearer {FOREIGN}"),
        &format!("Organization: {FOREIGN}"),
        &format!("Cookie: KEYCLOAK_IDENTITY={FOREIGN}"),
    ];
    Load::start(process, &lines)
}

#[test]
fn a_user_is_served_over_some_lifetimes_and_logged_out_at_the_end() {
    user_lifetimes(2, Duration::from_secs(8));
}

#[test]
#[ignore = "takes a minute"]
fn a_user_is_served_over_a_minute() {
    user_lifetimes(4, Duration::from_secs(60));
}

fn user_lifetimes(seconds: u64, period: Duration) {
    let stage = stage(keycloak(seconds));
    let process = stage.user();
    let load = load(&process);
    load.go_on(period);
    load.all_ok();
    let about = usize::try_from(period.as_secs() / seconds).unwrap();
    let refreshes = stage.asked("refresh_token");
    assert!((about..about * 2).contains(&refreshes), "{refreshes} refreshes");
    assert_eq!(stage.asked("password"), 1);
    assert!(process.replays() <= refreshes as f64, "{} replays", process.replays());
    stage.api.assert_saw_no_foreign_credential();
    assert_eq!(stage.issuer.with(|issuer| issuer.sessions()), 1);
    let log = process.stop();
    assert!(!log.contains(USER.1), "{log}");
    assert_eq!(stage.issuer.with(|issuer| issuer.sessions()), 0);
}

#[test]
fn a_service_account_is_served_over_some_lifetimes() {
    service_lifetimes(2, Duration::from_secs(8));
}

#[test]
#[ignore = "takes a minute"]
fn a_service_account_is_served_over_a_minute() {
    service_lifetimes(4, Duration::from_secs(60));
}

fn service_lifetimes(seconds: u64, period: Duration) {
    let stage = stage(keycloak(seconds));
    let own = [("CAEPE_CLIENT_ID", SERVICE.0), ("CAEPE_CLIENT_SECRET", SERVICE.1)];
    let process = stage.start("caepe-service", &own);
    let load = load(&process);
    load.go_on(period);
    load.all_ok();
    let about = usize::try_from(period.as_secs() / seconds).unwrap();
    let logins = stage.asked("client_credentials");
    assert!((about..about * 2).contains(&logins), "{logins} logins");
    assert_eq!(stage.asked("refresh_token") + stage.asked("password"), 0);
    assert!(process.replays() <= logins as f64, "{} replays", process.replays());
    stage.api.assert_saw_no_foreign_credential();
    assert!(!process.stop().contains(SERVICE.1));
}

#[test]
fn a_one_time_refresh_token_is_never_sent_twice_even_if_the_answer_is_cut() {
    let stage = stage(keycloak(3).revoking());
    let process = stage.user();
    let load = load(&process);
    // The lost answer is followed by a login; then refreshes go on.
    eventually(|| stage.asked("refresh_token") >= 3, || process.log());
    load.more(5);
    load.all_ok();
    assert_eq!(stage.asked("password"), 2, "{}", process.log());
    assert_eq!(stage.issuer.with(|issuer| issuer.most_uses_of_a_refresh_token()), 1);
    process.stop();
    // The session that the lost answer belongs to is ended too, as far as it can be.
    assert_eq!(stage.issuer.with(|issuer| issuer.sessions()), 0);
}

#[test]
fn the_end_of_a_session_leads_to_one_login_each_and_no_storm() {
    let session_max = Duration::from_secs(5);
    let stage = stage(keycloak(2).ending(session_max));
    let process = stage.user();
    let load = load(&process);
    eventually(|| stage.asked("password") >= 3, || process.log());
    load.more(5);
    load.all_ok();
    let log = stage.issuer.with(|issuer| issuer.log.clone());
    let logins: Vec<Moment> =
        log.iter().filter(|(grant, ..)| grant == "password").map(|(.., at)| *at).collect();
    for pair in logins.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!((3.0..8.0).contains(&gap.as_secs_f64()), "{gap:?}: {log:?}");
    }
    // A refused refresh is followed by the login at once; nothing else comes close.
    for pair in log.windows(2) {
        let gap = pair[1].2.since(pair[0].2);
        let refused = pair[0].1 != 200;
        assert!(refused || gap >= Duration::from_millis(300), "{gap:?}: {log:?}");
    }
    let refused = log.iter().filter(|(_, status, _)| *status != 200).count();
    assert!(refused <= logins.len(), "{log:?}");
}

#[test]
fn a_refresh_that_yields_the_end_of_a_session_is_followed_by_the_login_at_once() {
    watch();
    // The refresh, at 2.8 to 3.2 s, leaves a token for one second.
    let stage = stage(keycloak(4).ending(Duration::from_millis(4800)));
    let process = stage.user();
    eventually(|| stage.asked("password") >= 2, || process.log());
    let log = stage.issuer.with(|issuer| issuer.log.clone());
    let asked: Vec<_> = log.iter().map(|(grant, status, _)| (grant.as_str(), *status)).collect();
    assert_eq!(asked, [("password", 200), ("refresh_token", 200), ("password", 200)]);
    let gap = log[2].2.since(log[1].2).as_secs_f64();
    assert!(gap < 0.4 + lateness(), "{gap} s");
}

#[test]
#[ignore = "takes a minute"]
fn a_session_of_twelve_seconds_leads_to_a_login_about_every_twelve_seconds() {
    let stage = stage(keycloak(5).ending(Duration::from_secs(12)));
    let process = stage.user();
    let load = load(&process);
    load.go_on(Duration::from_secs(60));
    load.all_ok();
    let logins = stage.asked("password");
    assert!((5..=7).contains(&logins), "{logins} logins");
    let all = stage.issuer.with(|issuer| issuer.log.len());
    assert!(all <= 5 * logins, "{all} token requests");
}

#[test]
fn sessions_that_an_administrator_ends_cost_one_replay() {
    let stage = stage(keycloak(300));
    let process = stage.user();
    process.ready();
    stage.issuer.with(Keycloak::end_sessions);
    assert_eq!(process.client().get("/api/clusters").status(), 200);
    assert!((process.replays() - 1.0).abs() < 0.5);
    assert_eq!((stage.asked("refresh_token"), stage.asked("password")), (1, 2));
}

#[test]
fn an_api_whose_clock_is_behind_causes_one_renewal_and_no_loop() {
    let stage = stage(keycloak(300));
    let process = stage.user();
    process.ready();
    stage.api.with(|api| api.behind = true);
    for _ in 0..20 {
        assert_eq!(process.client().get("/api/clusters").status(), 401);
    }
    assert_eq!(stage.asked("refresh_token") + stage.asked("password"), 2);
    stage.api.with(|api| api.behind = false);
    assert_eq!(process.client().get("/api/clusters").status(), 200);
}

#[test]
fn a_wrong_password_is_tried_rarely() {
    let stage = stage(keycloak(300));
    let own = [("CAEPE_USERNAME", USER.0), ("CAEPE_PASSWORD", "wrong")];
    let process = stage.start("caepe-user", &own);
    eventually(|| process.log().contains("invalid_grant"), || process.log());
    // Requests do not drive it on.
    let began = Moment::now();
    while Moment::now().since(began) < Duration::from_secs(3) {
        let answer = process.client().get("/api/clusters");
        assert_eq!((answer.status(), answer.refusal().as_str()), (503, "no-token"));
    }
    assert_eq!(stage.asked("password"), 1, "{}", process.log());
    // A minute at least until the next.
    let next = process.metric("bearerd_token_next_refresh_timestamp_seconds");
    let now = crate::doubles::unix() as f64;
    assert!(next - now > 50.0, "in {} s", next - now);
    assert!(!process.log().contains("wrong"), "{}", process.log());
}

#[test]
fn a_wrong_password_causes_at_most_twelve_tries_in_ten_minutes() {
    use bearerd::token::failure::{Failure, Reason};
    use bearerd::token::schedule::{Renew, Schedule};

    for dice in [0.0, 0.999] {
        let mut schedule = Schedule::new(Renew::default());
        let began = Moment::now();
        let (mut now, mut tries) = (began, 0);
        while now.since(began) < Duration::from_secs(600) {
            tries += 1;
            let failure = Failure::new(Reason::InvalidGrant, "Invalid user credentials");
            now = schedule.failed(&failure, None, now, dice);
        }
        assert!(tries <= 12, "{tries} tries");
    }
}

#[test]
fn the_organization_and_the_realm_are_out_of_the_clients_hands() {
    let stage = stage(keycloak(300));
    let process = stage.user();
    process.ready();
    let mut client = process.client();
    let body = "name=a&size=1";
    client.request(&[
        "POST /api/clusters HTTP/1.1",
        "Host: localhost",
        "organization: other",
        "Content-Type: application/x-www-form-urlencoded",
        &format!("Content-Length: {}", body.len()),
    ]);
    assert_eq!(client.send(body).answer().status(), 200);
    let answer = process.client().get("/realms/acme/protocol/openid-connect/token");
    assert_eq!((answer.status(), answer.refusal().as_str()), (403, "denied"));
}
