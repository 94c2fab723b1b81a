use bytes::Bytes;

use super::*;

fn reading() -> Reading {
    Reading {
        success: Vec::new(),
        value: ValueRule::At(Pointer::parse("/access_token").unwrap()),
        fields: Vec::new(),
        refresh_token: Some(Pointer::parse("/refresh_token").unwrap()),
        expiry: serde_yaml::from_str("[{seconds: /expires_in}, {jwt: exp}]").unwrap(),
        assume: Duration::from_secs(300),
        refresh_expiry: Vec::new(),
        errors: Vec::new(),
        parent_faults: Vec::new(),
        oauth: true,
    }
}

fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut builder = http::Response::builder().status(status);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let (head, body) = builder.body(Bytes::from(body.to_owned())).unwrap().into_parts();
    Answer { head, body }
}

fn reason(status: u16, body: &str) -> Reason {
    reading().read(&answer(status, &[], body)).unwrap_err().reason
}

#[test]
fn a_plain_answer_is_a_grant() {
    let body =
        r#"{"access_token":"abc","token_type":"Bearer","expires_in":20,"refresh_token":"r"}"#;
    let grant = reading().read(&answer(200, &[], body)).unwrap();
    assert_eq!(grant.value.expose(), "abc");
    assert_eq!(grant.lifetime, Some(Duration::from_secs(20)));
    assert_eq!(grant.refresh_token.unwrap().expose(), "r");
}

#[test]
fn a_scope_of_several_words_is_no_fault_of_the_token() {
    let mut reading = reading();
    reading.fields = vec![
        ("scope".to_owned(), Pointer::parse("/scope").unwrap()),
        ("odd".to_owned(), Pointer::parse("/odd").unwrap()),
    ];
    let body = r#"{"access_token":"abc","scope":"read write","odd":"a\r\nb"}"#;
    let grant = reading.read(&answer(200, &[], body)).unwrap();
    assert_eq!(grant.fields["scope"].expose(), "read write");
    assert!(!grant.fields.contains_key("odd"));
}

#[test]
fn every_unusable_answer_has_its_reason() {
    for (status, body, expected) in [
        (200, "", Reason::BadResponse),
        (200, "<html>", Reason::BadResponse),
        (200, r#"{"access_token":"ab"#, Reason::BadResponse),
        (200, r#"{"access_token":"a\r\nX: y"}"#, Reason::Malformed),
        (200, r#"{"access_token":"a b"}"#, Reason::Malformed),
        (200, r#"{"access_token":null}"#, Reason::BadResponse),
        (200, r#"{"access_token":false}"#, Reason::BadResponse),
        (200, r#"{"access_token":{"a":1}}"#, Reason::BadResponse),
        (200, r#"{"access_token":"a","token_type":"mac"}"#, Reason::BadResponse),
        (200, r#"{"error":"invalid_grant"}"#, Reason::InvalidGrant),
        (302, "", Reason::Redirect),
        (400, r#"{"error":"invalid_grant"}"#, Reason::InvalidGrant),
        (400, r#"{"error":"odd"}"#, Reason::OtherOauthError),
        (401, r#"{"error":"invalid_client"}"#, Reason::InvalidClient),
        (401, "<html>denied by firewall</html>", Reason::BadResponse),
        (404, "", Reason::BadResponse),
        (429, "", Reason::RateLimited),
        (500, r#"{"error":"oops"}"#, Reason::ServerError),
        (503, "", Reason::ServerError),
    ] {
        assert_eq!(reason(status, body), expected, "{status} {body}");
    }
    let patient = reading().read(&answer(429, &[("retry-after", "7")], "")).unwrap_err();
    assert_eq!(patient.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(
        reason(200, &format!(r#"{{"access_token":"{}"}}"#, "x".repeat(20_000))),
        Reason::TooLarge
    );
}

#[test]
fn an_answer_after_which_a_refresh_token_may_be_gone_is_ambiguous() {
    let of = |status, body: &str| reading().read(&answer(status, &[], body)).unwrap_err().ambiguous;
    assert!(of(200, "") && of(200, "{\"x\":1}") && of(504, ""));
    assert!(!of(400, r#"{"error":"invalid_grant"}"#) && !of(503, "") && !of(429, ""));
}

#[test]
fn a_200_that_says_failed_is_a_failure() {
    let mut reading = reading();
    reading.success =
        serde_yaml::from_str("[{pointer: /params/status, equals: successful}]").unwrap();
    let body = r#"{"params":{"status":"failed"},"access_token":"x"}"#;
    assert_eq!(reading.read(&answer(200, &[], body)).unwrap_err().reason, Reason::Refused);
}

proptest::proptest! {
    #[test]
    fn fuzz_no_answer_panics_and_what_is_granted_fits_a_header_s21_s44(
        status in 200_u16..600,
        start in "[ {\\[\"]{0,2}",
        value in r#"(canary-[ -~]{8,40}|[\x00-\xff]{0,40})"#,
        body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        plain in proptest::prelude::any::<bool>(),
    ) {
        let quoted = serde_json::to_string(&value).unwrap();
        let text = if plain {
            format!(r#"{{"access_token":{quoted},"error":{quoted},"expires_in":1e999}}"#)
        } else {
            start + &String::from_utf8_lossy(&body)
        };
        match reading().read(&answer(status, &[("retry-after", &status.to_string())], &text)) {
            Ok(grant) => {
                let token = grant.value.expose();
                proptest::prop_assert!(token.bytes().all(|b| (0x21..=0x7e).contains(&b)));
            }
            Err(failure) => {
                let detail = failure.detail;
                proptest::prop_assert!(detail.bytes().all(|b| (0x20..=0x7e).contains(&b)));
            }
        }
    }
}
