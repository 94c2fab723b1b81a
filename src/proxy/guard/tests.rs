use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const LOCAL: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)));

fn guard() -> Guard {
    let mut guard = Guard::new();
    guard.add(["Api.Local", "10.1.1.1"]);
    guard
}

fn allowed(host: &str) -> Option<bool> {
    let (host, _) = Host::parse(host.as_bytes())?;
    Some(guard().hosts.allows(host, LOCAL))
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn only_known_hosts_are_let_in() {
    for host in [
        "localhost",
        "LOCALHOST:80",
        "localhost.",
        "localhost.:1",
        "127.0.0.1:8080",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:9",
        "[::ffff:127.0.0.1]",
        "api.local",
        "API.local:1",
        "10.1.1.1",
        "10.0.0.5:80",
        "localhost:",
    ] {
        assert_eq!(allowed(host), Some(true), "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "xlocalhost",
        "a.localhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "[::]",
        "127.0.0.2",
        "10.0.0.6",
        "localhost..",
    ] {
        assert_eq!(allowed(host), Some(false), "{host}");
    }
}

#[test]
fn what_is_no_host_is_refused() {
    for host in [
        "",
        ":80",
        "localhost:x",
        "localhost:99999",
        "localhost:80:80",
        "user@localhost",
        "localhost/",
        "local host",
        "localhost,evil",
        "[::1",
        "::1",
        "[::1%25eth0]",
        "[localhost]",
        ".",
        "\u{e9}",
    ] {
        assert_eq!(Host::parse(host.as_bytes()), None, "{host}");
    }
}

#[test]
fn a_list_of_ten_thousand_is_matched_as_one_of_one() {
    let names: Vec<String> = (0..10_000).map(|i| format!("Host-{i}.Example")).collect();
    let mut guard = Guard::new();
    guard.add(names.iter().map(String::as_str));
    for name in &names {
        assert!(guard.hosts.allows(Host::Name(&name.to_ascii_uppercase()), LOCAL), "{name}");
    }
    assert!(!guard.hosts.allows(Host::Name("host-10000.example"), LOCAL));
}

#[test]
fn what_is_spelled_as_listed_is_let_in_without_reading_it_and_nothing_else_is() {
    let hosts = guard().hosts;
    for spelled in ["localhost", "localhost:8080", "api.local:", "10.1.1.1:65535", "127.0.0.1"] {
        assert!(hosts.spells(spelled.as_bytes()), "{spelled}");
        assert_eq!(allowed(spelled), Some(true), "{spelled}");
    }
    for other in ["", ":80", "LOCALHOST", "localhost.", "localhost:65536", "localhost:8x", "10.1"] {
        assert!(!hosts.spells(other.as_bytes()), "{other}");
    }
}

#[test]
fn one_host_and_no_more() {
    let of = |fields: &[_], version| host_of(&headers(fields), version).map(|h| h.is_some());
    assert!(matches!(of(&[("host", "a")], Version::HTTP_11), Ok(true)));
    assert!(matches!(of(&[], Version::HTTP_11), Err(Refusal::Host(_))));
    assert!(matches!(of(&[], Version::HTTP_10), Ok(false)));
    assert!(of(&[("host", "a"), ("host", "a")], Version::HTTP_11).is_err());
    assert!(of(&[("host", "a"), ("host", "b")], Version::HTTP_10).is_err());
    assert!(of(&[("host", "")], Version::HTTP_11).is_err());
}

#[test]
fn targets_have_the_form_of_their_method() {
    let own = HeaderValue::from_static("localhost");
    let own = Some(&own);
    let form = |uri: &str, method: Method| {
        origin_form(&uri.parse().unwrap(), &method, own, false)
            .map(|new| new.map(|u| u.to_string()))
    };
    assert!(matches!(form("/a?b", Method::GET), Ok(None)));
    assert!(matches!(form("*", Method::OPTIONS), Ok(None)));
    assert!(matches!(form("*", Method::GET), Err(Refusal::Target)));
    assert_eq!(form("http://localhost/a?", Method::GET).unwrap().unwrap(), "/a?");
    assert_eq!(form("http://LOCALHOST:80", Method::GET).unwrap().unwrap(), "/");
    assert_eq!(form("http://localhost?a", Method::GET).unwrap().unwrap(), "/?a");
    assert!(matches!(form("http://evil.example/", Method::GET), Err(Refusal::Host(_))));
    assert!(matches!(form("http://localhost:81/", Method::GET), Err(Refusal::Host(_))));
    assert!(matches!(form("http://u@localhost/", Method::GET), Err(Refusal::Target)));
    assert!(matches!(form("https://localhost/", Method::GET), Err(Refusal::Target)));
    assert!(matches!(form("localhost:80", Method::GET), Err(Refusal::Target)));
}

#[test]
fn framing_that_would_not_be_repeated_is_refused() {
    let framed = |fields: &[_]| well_framed(&headers(fields));
    assert!(framed(&[("transfer-encoding", "Chunked"), ("expect", "100-Continue")]).is_ok());
    for coding in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", ""] {
        let outcome = framed(&[("transfer-encoding", coding)]);
        assert!(matches!(outcome, Err(Refusal::TransferCoding)), "{coding}");
    }
    assert!(framed(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]).is_err());
    assert!(matches!(framed(&[("expect", "the-unexpected")]), Err(Refusal::Expectation)));
}

proptest! {
    #[test]
    fn no_random_host_is_let_in(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let let_in = Host::parse(&bytes).is_some_and(|(host, _)| guard().hosts.allows(host, LOCAL));
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let known = ["localhost", "api.local", "127.0.0.1", "10.", "["];
        prop_assert!(!let_in || known.iter().any(|known| text.starts_with(known)));
        prop_assert!(let_in || !guard().hosts.spells(&bytes));
    }

    #[test]
    fn to_be_spelled_as_listed_is_to_be_let_in(
        host in "(localhost|api\\.local|10\\.1\\.1\\.1|127\\.0\\.0\\.1|::1)?[.0]?", rest in ":?[0-9x:]{0,6}",
    ) {
        let field = format!("{host}{rest}");
        let read = Host::parse(field.as_bytes());
        let let_in = read.is_some_and(|(host, _)| guard().hosts.allows(host, None));
        prop_assert!(let_in || !guard().hosts.spells(field.as_bytes()), "{}", field);
    }
}
