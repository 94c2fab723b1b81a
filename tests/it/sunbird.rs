//! The story of Sunbird with the file that its users copy.

use std::sync::Arc;
use std::time::Duration;

use crate::doubles::keycloak::{Keycloak, REALM, USER};
use crate::doubles::sunbird::{APP, Sunbird, Words};
use crate::doubles::{Double, FOREIGN};
use crate::support::{Load, Process, eventually, example};

struct Stage {
    login: Arc<Double<Keycloak>>,
    sunbird: Double<Sunbird>,
}

fn stage(words: Words, seconds: u64) -> Stage {
    let login = Arc::new(Double::start(Keycloak::new(Duration::from_secs(300))));
    let sunbird = Sunbird::new(&login, words, Duration::from_secs(seconds));
    Stage { login, sunbird: Double::start(sunbird) }
}

impl Stage {
    fn start(&self) -> Process {
        let (url, login) = (self.sunbird.url(), format!("{}{REALM}/token", self.login.url()));
        let environment = [
            ("SUNBIRD_URL", url.as_str()),
            ("SUNBIRD_APP_KEY", APP.0),
            ("SUNBIRD_APP_SECRET", APP.1),
            ("SUNBIRD_DEVICE", "producer-device1"),
            ("SUNBIRD_LOGIN_URL", login.as_str()),
            ("SUNBIRD_USERNAME", USER.0),
            ("SUNBIRD_PASSWORD", USER.1),
            ("SUNBIRD_CHANNEL", "in.example"),
        ];
        Process::start(&example("sunbird"), &environment)
    }

    /// Registrations, refreshes of the user's token, logins.
    fn renewals(&self) -> (usize, usize, usize) {
        let logins = self.login.with(|login| login.asked("password"));
        self.sunbird.with(|s| (s.registered, s.refreshed, logins))
    }
}

fn load(process: &Process) -> Load {
    let lines = [
        &format!("GET /api/content/v1/read/x?a=1&jwt={FOREIGN} HTTP/1.1"),
        "Host: localhost",
        &format!("Authorization: Bearer {FOREIGN}"),
        &format!("Proxy-Authorization: Bearer {FOREIGN}"),
        &format!("X-Authenticated-User-Token: {FOREIGN}"),
        &format!("x-authenticated-for: {FOREIGN}"),
        &format!("X_Authenticated_Userid: {FOREIGN}"),
        &format!("X-Consumer-Username: {FOREIGN}"),
        &format!("X-Consumer-Groups: {FOREIGN}"),
        &format!("Cookie: jwt={FOREIGN}; a=b"),
    ];
    Load::start(process, &lines)
}

#[test]
fn an_expires_in_of_zero_renews_at_the_end_that_the_jwt_tells() {
    lifetimes(3, Duration::from_secs(9));
}

#[test]
#[ignore = "takes a minute"]
fn an_expires_in_of_zero_over_a_minute() {
    lifetimes(4, Duration::from_secs(60));
}

fn lifetimes(seconds: u64, period: Duration) {
    let stage = stage(Words::NotFound, seconds);
    let process = stage.start();
    let load = load(&process);
    load.go_on(period);
    load.all_ok();
    let about = usize::try_from(period.as_secs() / seconds).unwrap();
    let refreshed = stage.sunbird.with(|s| s.refreshed);
    assert!((about..about * 2 + 1).contains(&refreshed), "{refreshed} refreshes");
    assert!(process.replays() <= refreshed as f64, "{} replays", process.replays());
    // The parents live on.
    let (registered, _, logins) = stage.renewals();
    assert_eq!((registered, logins), (1, 1));
    stage.sunbird.assert_saw_no_foreign_credential();
    stage.sunbird.with(|s| {
        for (authorization, user, channel) in &s.seen {
            assert!(authorization.starts_with("Bearer ey"), "{authorization}");
            assert!(user.starts_with("ey"), "bare, without a scheme: {user}");
            assert_eq!(channel, "in.example");
        }
    });
    let log = process.stop();
    assert!(!log.contains(APP.1) && !log.contains(USER.1), "{log}");
}

/// Each token is withdrawn once; only it is renewed, at the price of one replay.
fn withdrawals(words: Words) {
    let stage = stage(words, 600);
    let process = stage.start();
    let load = load(&process);
    load.more(20);
    assert_eq!(stage.renewals(), (1, 1, 1));
    stage.sunbird.with(Sunbird::withdraw_devices);
    load.more(20);
    assert_eq!(stage.renewals(), (2, 1, 1), "only the device\n{}", process.log());
    assert!((process.replays() - 1.0).abs() < 0.5, "{} replays", process.replays());
    stage.sunbird.with(Sunbird::withdraw_users);
    load.more(20);
    assert_eq!(stage.renewals(), (2, 2, 1), "only the user\n{}", process.log());
    assert!((process.replays() - 2.0).abs() < 0.5, "{} replays", process.replays());
    load.all_ok();
    assert_eq!(stage.sunbird.with(|s| s.rejected), 2);
    stage.sunbird.assert_saw_no_foreign_credential();
}

#[test]
fn a_credential_that_kong_does_not_find_and_a_user_that_a_service_refuses() {
    withdrawals(Words::NotFound);
}

#[test]
fn a_credential_that_kong_cannot_decode_and_a_user_that_opa_refuses() {
    withdrawals(Words::Undecodable);
}

#[test]
fn a_closed_service_renews_nothing() {
    let stage = stage(Words::NotFound, 600);
    let process = stage.start();
    process.ready();
    let answer = process.client().get("/api/acl/closed");
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("You cannot consume this service"));
    assert_eq!(stage.renewals(), (1, 1, 1));
}

#[test]
fn the_older_registration_is_used_where_the_new_one_says_so() {
    for status in [447, 404] {
        let stage = stage(Words::NotFound, 600);
        stage.sunbird.with(|s| s.moved = Some(status));
        let process = stage.start();
        process.ready();
        assert_eq!(process.client().get("/api/x").status(), 200);
        assert_eq!(stage.renewals(), (1, 1, 1));
    }
}

#[test]
fn a_refused_refresh_renews_the_token_that_it_was_made_from() {
    // The user's token ends within seconds; meanwhile the login behind it is ended.
    let stage = stage(Words::NotFound, 3);
    let process = stage.start();
    let load = load(&process);
    load.more(5);
    stage.login.with(Keycloak::end_sessions);
    eventually(|| stage.renewals().2 == 2, || process.log());
    let before = stage.renewals().1;
    eventually(|| stage.renewals().1 > before, || process.log());
    load.all_ok();
    assert_eq!(stage.renewals().0, 1, "the device is not to blame");
}

#[test]
fn a_gateway_that_refuses_the_device_at_the_refresh_renews_the_device() {
    let stage = stage(Words::Undecodable, 3);
    let process = stage.start();
    process.ready();
    stage.sunbird.with(Sunbird::withdraw_devices);
    // No client asks: the refresh itself meets the rejection.
    eventually(|| stage.renewals().0 == 2, || process.log());
    let before = stage.renewals().1;
    eventually(|| stage.renewals().1 > before, || process.log());
    assert_eq!(stage.renewals().2, 1, "the login is not to blame");
    assert_eq!(process.client().get("/api/x").status(), 200);
}

#[test]
fn registration_and_refresh_cannot_be_reached_through_the_proxy() {
    let stage = stage(Words::NotFound, 600);
    let process = stage.start();
    process.ready();
    for target in [
        "/api/api-manager/v2/consumer/mobile_device/credential/register",
        "/auth/v1/refresh/token",
        "/api/auth/v1/refresh/token",
        "/API/api-manager/v1/consumer",
    ] {
        let answer = process.client().get(target);
        assert_eq!((answer.status(), answer.refusal().as_str()), (403, "denied"), "{target}");
    }
}

#[test]
fn a_limit_that_is_used_up_is_met_with_patience_and_the_old_token_serves() {
    let stage = stage(Words::NotFound, 6);
    let process = stage.start();
    let load = load(&process);
    load.more(5);
    stage.sunbird.with(|s| s.limited = true);
    eventually(|| stage.sunbird.with(|s| s.refused) > 0, || process.log());
    load.more(20);
    stage.sunbird.with(|s| s.limited = false);
    let before = stage.renewals().1;
    eventually(|| stage.renewals().1 > before, || process.log());
    load.all_ok();
    assert!(stage.sunbird.with(|s| s.refused) <= 4);
    assert_eq!((stage.renewals().0, stage.renewals().2), (1, 1), "nobody else is to blame");
}
