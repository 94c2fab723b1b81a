use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::proxy::headers::rules::folded;
use crate::proxy::route::Settings;
use crate::telemetry::spans::Span;
use crate::telemetry::tally;
use crate::token::present::Mode;

static ZERO: HeaderValue = HeaderValue::from_static("0");

const ROUTES: &str = "
- upstream: https://api.example:444/
  inject: {Authorization: Bearer ours, Organization: acme, X-Plain: {value: dflt, mode: default}}
  strip: {headers: [X-Api-Key], header_prefixes: [X-Secret-], cookies: [session], answer: [Server-Timing]}
- {upstream: 'https://b.example/', match: {path: /b}, inject: {X-Other-Token: theirs}}
";

fn rules(yaml: &str) -> (Rules, Vec<String>) {
    let settings: Vec<Settings> = serde_yaml::from_str(yaml).unwrap();
    Rules::new(&settings[0], &settings, Some(Via::new()), None, &[])
}

fn presented() -> Presented {
    let field = |name: &'static str, value: &'static str, mode| {
        let mut value = HeaderValue::from_static(value);
        value.set_sensitive(true);
        (HeaderName::from_static(name), value, mode)
    };
    let fields = vec![
        field("authorization", "Bearer ours-and-long", Mode::Set),
        field("organization", "acme", Mode::Set),
        field("x-plain", "dflt", Mode::Default),
    ];
    Presented::new(fields, None, Vec::new())
}

fn sent(fields: &[(&str, &str)]) -> HeaderMap {
    let (rules, places) = rules(ROUTES);
    let family = tally::counts("stripped", "help", &["place"]).unwrap();
    let counters: Vec<_> =
        (0..places.len()).map(|place| family.with_label_values(&[place.to_string()])).collect();
    let mut request = http::Request::builder();
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let peer = Peer::unwatched(SocketAddr::from(([10, 0, 0, 9], 1)));
    let found = crate::proxy::upgrade::asked(&head, Survey::of(&head.headers));
    let stripped = strip(&mut head, found, &rules, &peer, &counters).unwrap();
    assert!(head.headers.is_empty());
    written(&head, &stripped, found, &rules, &peer)
}

/// The fields as they go out for a request without a body.
fn written(
    head: &Parts,
    stripped: &Stripped,
    found: Survey,
    rules: &Rules,
    peer: &Peer,
) -> HeaderMap {
    let span = &Span::of_request(&head.method, &head.headers);
    let presented = &presented();
    let mut headers = HeaderMap::new();
    let outbound = Outbound { head, stripped, found, rules, peer, span, presented };
    outbound.write(true, &mut headers);
    let injected = stripped.injected(rules, peer, presented).map(|(name, _)| name);
    assert!(injected.into_iter().all(|name| headers.get_all(name).iter().count() == 1));
    headers
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
}

#[test]
fn connection_cannot_remove_the_credential_and_removes_what_it_names() {
    let headers = sent(&[
        ("connection", ""),
        ("Connection", "keep-alive,\tAUTHORIZATION , x-a"),
        ("connection", "Organization, x-b"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-c", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "Basic x"),
        ("proxy", "http://evil.example"),
    ]);
    assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
    assert_eq!(all(&headers, "organization"), ["acme"]);
    assert_eq!(all(&headers, "x-c"), ["3"]);
    for gone in [
        "connection",
        "x-a",
        "x-b",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "te",
        "transfer-encoding",
        "proxy-authorization",
        "proxy",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn client_credentials_go_in_every_spelling() {
    let headers = sent(&[
        ("authorization", "Bearer a"),
        ("Authorization", "Bearer b"),
        ("ORGANIZATION", "evil"),
        ("x_api_key", "k"),
        ("X-API-KEY", "k"),
        ("x-secret-a", "s"),
        ("X_Secret_B", "s"),
        ("x_other-token", "t"),
        ("x-other-token", "t"),
        ("x_forwarded_for", "1.2.3.4"),
        ("x_harmless", "stays"),
        ("x-plain", "client's"),
        ("cookie", "a=1; session=x; b=2"),
        ("cookie", "session=y"),
    ]);
    assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
    assert_eq!(all(&headers, "organization"), ["acme"]);
    assert_eq!(all(&headers, "x-plain"), ["client's"]);
    assert_eq!(all(&headers, "x_harmless"), ["stays"]);
    assert_eq!(all(&headers, "cookie"), ["a=1; b=2"]);
    for gone in [
        "x_api_key",
        "x-api-key",
        "x-secret-a",
        "x_secret_b",
        "x_other-token",
        "x-other-token",
        "x_forwarded_for",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn a_name_with_underscores_is_protected_in_its_other_spelling_too_s16() {
    let (rules, _) = rules(
        "
- upstream: https://api.example/
  inject: {X_Org_Id: ours}
  strip: {headers: [X_Own.Key]}
",
    );
    for name in ["x_org_id", "x-org-id", "x_org-id", "x-own-key", "x_own_key", "x_own.key"] {
        assert!(!matches!(rules.fate(&HeaderName::from_static(name)), Fate::Stay), "{name}");
    }
    assert!(matches!(rules.fate(&HeaderName::from_static("x-org")), Fate::Stay));
}

#[test]
fn what_a_route_removes_is_not_believed_of_a_trusted_proxy_either_s47() {
    let yaml = "
- {upstream: 'https://api.example/', strip: {headers: [X-Forwarded-For]}}
- {upstream: 'https://b.example/', match: {path: /b}, inject: {X-Forwarded-Host: b.example}}
";
    let settings: Vec<Settings> = serde_yaml::from_str(yaml).unwrap();
    let trusted = serde_yaml::from_str::<Vec<_>>("[10.0.0.0/8]").unwrap();
    let (rules, _) = Rules::new(&settings[0], &settings, None, None, &trusted);
    let mut request = http::Request::builder().header("host", "localhost:8080");
    for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"] {
        request = request.header(name, "claimed");
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let peer = Peer::unwatched(SocketAddr::from(([10, 0, 0, 9], 1)));
    let found = Survey::of(&head.headers);
    let stripped = strip(&mut head, found, &rules, &peer, &[]).unwrap();
    let headers = written(&head, &stripped, found, &rules, &peer);
    assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["localhost:8080"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["claimed"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["claimed"]);
}

#[test]
fn what_only_proxies_say_of_a_client_no_client_says_s47_s19() {
    for name in [
        "x-forwarded",
        "X-Forwarded-User",
        "x-forwarded-client-cert",
        "x_forwarded_access_token",
        "x-forwarded-uri",
        "x-original-url",
        "X_Rewrite_URL",
        "CF-Connecting-IP",
        "fastly-client-ip",
        "true-client-ip",
        "True_Client_IP",
        "x-client-ip",
        "x-cluster-client-ip",
    ] {
        assert!(!sent(&[(name, "evil")]).contains_key(name), "{name}");
    }
    for name in ["x-forwardedness", "client-ip-count"] {
        assert!(sent(&[(name, "1")]).contains_key(name), "{name}");
    }
}

#[test]
fn the_client_is_named_by_its_socket_and_not_by_itself() {
    let headers = sent(&[
        ("host", "localhost:8080"),
        ("connection", "host"),
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x-forwarded-host", "evil.example"),
        ("via", "1.0 first"),
    ]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["localhost:8080"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "host"), ["api.example:444"]);
    let via = all(&headers, "via");
    assert_eq!((via.len(), via[0].as_str()), (2, "1.0 first"));
    assert!(via[1].starts_with("1.1 bearerd-"));
    assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"));
}

#[test]
fn te_trailers_goes_on_as_an_option_of_our_connection() {
    let headers = sent(&[("te", "deflate, Trailers"), ("connection", "te, close")]);
    assert_eq!(all(&headers, "te"), ["trailers"]);
    assert_eq!(all(&headers, "connection"), ["te"]);
}

#[test]
fn a_request_that_has_been_here_is_a_loop() {
    let (rules, _) = rules(ROUTES);
    let own = rules.via.as_ref().unwrap().http_11.clone();
    let request = http::Request::builder().header("via", "1.1 a, 1.1 bearerd").header("via", own);
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let found = Survey::of(&head.headers);
    let peer = Peer::unwatched(SocketAddr::from(([10, 0, 0, 9], 1)));
    assert!(matches!(strip(&mut head, found, &rules, &peer, &[]), Err(Refusal::Loop)));
}

fn answered(fields: &[(&str, &str)], rejected: bool) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let found = Survey::of(&headers);
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    let outcome = to_client(&mut response, found, &rules(ROUTES).0, &presented(), rejected);
    outcome.map(|()| response.into_parts().0.headers)
}

#[test]
fn answers_lose_what_is_between_us_and_the_upstream() {
    let headers = answered(
        &[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("alt-svc", "h3=\":443\""),
            ("proxy-authenticate", "Basic"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("www-authenticate", "Bearer"),
        ],
        false,
    )
    .unwrap();
    assert_eq!(all(&headers, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(headers.len(), 3);
    let headers = answered(&[("www-authenticate", "Bearer")], true).unwrap();
    assert!(headers.is_empty());
}

#[test]
fn an_answer_that_holds_the_credential_is_not_passed_on() {
    let echo = [("x-echo", "got Bearer ours-and-long, thanks")];
    assert!(matches!(answered(&echo, false), Err(Refusal::Leak)));
    assert!(matches!(answered(&[("x", "ours-and-long")], false), Err(Refusal::Leak)));
    assert!(answered(&[("x", "acme and a long enough text")], false).is_ok());
}

#[test]
fn trailers_hold_nothing_that_must_come_early() {
    let (rules, _) = rules(ROUTES);
    let mut trailers = HeaderMap::new();
    for name in [
        "authorization",
        "organization",
        "x_api_key",
        "content-length",
        "transfer-encoding",
        "host",
        "if-match",
        "cookie",
        "grpc-status",
        "x-checksum",
        "x-forwarded-for",
    ] {
        trailers.insert(HeaderName::from_static(name), ZERO.clone());
    }
    let mut answers = trailers.clone();
    filter_request_trailers(&mut trailers, &rules);
    assert_eq!(
        trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["grpc-status", "x-checksum"]
    );
    answers.insert("set-cookie", ZERO.clone());
    answers.insert("server-timing", ZERO.clone());
    filter_answer_trailers(&mut answers, &rules);
    for gone in ["authorization", "set-cookie", "content-length", "host", "server-timing"] {
        assert!(!answers.contains_key(gone), "{gone}");
    }
    assert!(answers.contains_key("grpc-status"));
}

fn any_name() -> impl Strategy<Value = String> {
    let pool = prop::sample::select(vec![
        "authorization",
        "organization",
        "connection",
        "te",
        "host",
        "cookie",
        "x-api-key",
        "x-plain",
        "via",
        "x-forwarded-for",
    ]);
    let respelled = (pool, any::<u32>()).prop_map(|(name, bits)| {
        let change = |(i, c): (usize, char)| match (bits >> (i % 32)) & 1 {
            0 => c,
            _ if c == '-' => '_',
            _ => c.to_ascii_uppercase(),
        };
        name.chars().enumerate().map(change).collect()
    });
    prop_oneof![respelled, "[a-zA-Z_-]{1,12}"]
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        proptest::collection::vec(any_name(), 0..4).prop_map(|names| names.join(", ")),
    ]
}

proptest! {
    #[test]
    fn the_upstream_sees_exactly_one_of_each_injected_field_and_it_is_ours(
        fields in proptest::collection::vec((any_name(), any_value()), 0..20),
    ) {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
        let headers = sent(&fields);
        prop_assert_eq!(all(&headers, "authorization"), ["Bearer ours-and-long"]);
        prop_assert_eq!(all(&headers, "organization"), ["acme"]);
        prop_assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.9"]);
        prop_assert_eq!(all(&headers, "host"), ["api.example:444"]);
        for name in headers.keys() {
            let folded = folded(name.as_str());
            let ours = ["authorization", "organization", "host", "x-forwarded-for"];
            prop_assert!(folded == name.as_str() || !ours.contains(&folded.as_str()), "{}", name);
            prop_assert!(!["x-api-key", "proxy-authorization", "x-other-token"].contains(&folded.as_str()));
        }
    }
}
