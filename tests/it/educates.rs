//! The story of the Educates portal with the file that its users copy.

use std::time::Duration;

use crate::doubles::educates::{CLIENT, Portal, USER};
use crate::doubles::{Double, FOREIGN};
use crate::support::{Answer, Load, Process, eventually, example};

const SESSIONS: &str = "/workshops/user/sessions/";

fn start(portal: &Double<Portal>) -> Process {
    let url = portal.url();
    let environment = [
        ("EDUCATES_URL", url.as_str()),
        ("EDUCATES_CLIENT_ID", CLIENT.0),
        ("EDUCATES_CLIENT_SECRET", CLIENT.1),
        ("EDUCATES_USERNAME", USER.0),
        ("EDUCATES_PASSWORD", USER.1),
    ];
    Process::start(&example("educates"), &environment)
}

fn portal(seconds: u64) -> Double<Portal> {
    Double::start(Portal::new(Duration::from_secs(seconds)))
}

fn load(process: &Process) -> Load {
    let foreign = format!("Bearer {FOREIGN}");
    let lines = [
        &format!("GET {SESSIONS}?a=1&access_token={FOREIGN}&b=2 HTTP/1.1"),
        "Host: localhost",
        &format!("Authorization: {foreign}"),
        &format!("Proxy-Authorization: {foreign}"),
        &format!("Cookie: sessionid={FOREIGN}"),
    ];
    Load::start(process, &lines)
}

fn get(process: &Process, target: &str) -> Answer {
    process.client().get(target)
}

#[test]
fn every_request_succeeds_over_some_lifetimes_and_none_carries_a_clients_credential() {
    lifetimes(2, Duration::from_secs(8));
}

#[test]
#[ignore = "takes a minute"]
fn every_request_succeeds_over_a_minute_and_none_carries_a_clients_credential() {
    lifetimes(4, Duration::from_secs(60));
}

fn lifetimes(seconds: u64, period: Duration) {
    let portal = portal(seconds);
    let process = start(&portal);
    let load = load(&process);
    load.go_on(period);
    load.all_ok();
    let (logins, refreshes) = portal.with(|p| (p.granted("password"), p.granted("refresh_token")));
    let about = period.as_secs() / seconds;
    assert_eq!(logins, 1);
    assert!((about..about * 2).contains(&(refreshes as u64)), "{refreshes} refreshes");
    // A refresh ends the old access token at once: what is under way just then is sent again.
    assert!(process.replays() <= refreshes as f64, "{} replays", process.replays());
    portal.assert_saw_no_foreign_credential();
    let log = process.stop();
    assert!(!log.contains(USER.1) && !log.contains(CLIENT.1), "{log}");
    // Withdrawing the refresh token withdraws the access token with it.
    assert_eq!(portal.with(|p| p.live()), 0);
}

#[test]
fn no_refresh_token_is_left_alive_even_if_a_login_has_taken_its_place() {
    let portal = portal(2);
    let process = start(&portal);
    process.ready();
    portal.with(|p| p.failing = 2);
    let load = load(&process);
    eventually(|| portal.with(|p| p.granted("password")) == 2, || process.log());
    load.more(25);
    load.all_ok();
    assert_eq!(portal.with(|p| p.live()), 2, "the first one was not used up");
    process.stop();
    assert_eq!(portal.with(|p| p.live()), 0);
}

#[test]
fn no_refresh_token_is_left_alive_even_if_the_end_comes_in_the_middle_of_a_refresh() {
    let portal = portal(2);
    let process = start(&portal);
    process.ready();
    portal.with(|p| p.slow = Duration::from_millis(400));
    eventually(|| portal.with(|p| p.granted("refresh_token")) == 1, || process.log());
    // The portal has rotated and has not answered yet.
    process.stop();
    assert_eq!(portal.with(|p| (p.granted("refresh_token"), p.live())), (1, 0));
}

#[test]
fn requests_that_meet_a_rotation_are_sent_again_and_ask_for_no_token() {
    let portal = portal(2);
    let process = start(&portal);
    process.ready();
    // Long enough for every client to meet the gap between the rotation and its answer.
    portal.with(|p| p.slow = Duration::from_millis(150));
    let loads: Vec<Load> = (0..6).map(|_| load(&process)).collect();
    eventually(|| portal.with(|p| p.granted("refresh_token")) >= 3, || process.log());
    loads[0].more(10);
    for load in loads {
        load.all_ok();
    }
    let (grants, rejected) = portal.with(|p| (p.grants.clone(), p.rejected));
    assert!(rejected > 0, "no request met a rotation");
    assert!(grants.iter().all(|(_, status)| *status == 200), "{grants:?}");
    assert!(grants.len() <= 5, "rejections have driven renewals: {grants:?}");
    assert!(process.replays() <= (6 * (grants.len() - 1)) as f64);
}

#[test]
fn a_refresh_that_answers_500_for_ever_leads_to_the_password_within_seconds() {
    let portal = portal(600);
    let process = start(&portal);
    process.ready();
    portal.with(Portal::revoke_access_tokens);
    // One request pays for it, and not with its answer.
    let began = bearerd::vocab::Moment::now();
    assert_eq!(get(&process, SESSIONS).status(), 200, "{}", process.log());
    let took = bearerd::vocab::Moment::now().since(began);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let grants = portal.with(|p| p.grants.clone());
    assert_eq!(grants.first(), Some(&("password".to_owned(), 200)));
    assert_eq!(grants.last(), Some(&("password".to_owned(), 200)));
    let failed = grants.iter().filter(|(_, status)| *status == 500).count();
    assert!((1..=2).contains(&failed) && grants.len() == failed + 2, "{grants:?}");
}

#[test]
fn an_empty_403_renews_and_one_with_a_text_does_not() {
    let portal = portal(600);
    let process = start(&portal);
    process.ready();
    let missing = "/workshops/environment/missing/request/";
    let answer = get(&process, missing);
    assert_eq!((answer.status(), answer.text().as_str()), (403, "Environment does not exist"));
    assert_eq!(portal.with(|p| p.grants.len()), 1);
    assert!(process.replays() < 0.5);
    portal.with(Portal::forget_access_tokens);
    assert_eq!(get(&process, SESSIONS).status(), 200);
    assert_eq!(portal.with(|p| p.granted("refresh_token")), 1);
    assert!((process.replays() - 1.0).abs() < 0.5);
    // Both at once: the new token is good, the request is refused all the same.
    assert_eq!(get(&process, missing).status(), 403);
    assert_eq!(portal.with(|p| p.grants.len()), 2);
}

#[test]
fn the_token_endpoints_cannot_be_reached_through_the_proxy() {
    let portal = portal(600);
    let process = start(&portal);
    process.ready();
    for target in
        ["/oauth2/token/", "/oauth2/revoke-token/", "/oauth2", "/OAuth2/token/", "/admin/"]
    {
        let answer = get(&process, target);
        assert_eq!((answer.status(), answer.refusal().as_str()), (403, "denied"), "{target}");
    }
    assert_eq!(portal.with(|p| p.grants.len()), 1);
    // Redirects are the client's to follow.
    let answer = get(&process, "/workshops/user/sessions");
    assert_eq!((answer.status(), answer.head.one("location").as_str()), (301, SESSIONS));
}

#[test]
fn a_portal_that_is_not_up_yet_is_waited_for() {
    let portal = portal(600);
    portal.with(|p| p.starting = true);
    let process = start(&portal);
    eventually(|| process.log().contains("server_error"), || process.log());
    let lines = [&*format!("GET {SESSIONS} HTTP/1.1"), "Host: localhost"];
    let mut early = process.client();
    early.request(&lines);
    portal.with(|p| p.starting = false);
    // Who came early has waited.
    assert_eq!(early.answer().status(), 200);
    process.ready();
}
