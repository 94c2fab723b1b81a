use super::*;

fn scope() -> Scope<'static> {
    let mut grant = Grant::of(Secret::from("abc/def"));
    grant.fields.insert("org".to_owned(), Secret::from("acme"));
    Scope {
        tokens: BTreeMap::from([(TokenName::parse("api").unwrap(), Arc::new(grant))]),
        own: None,
    }
}

fn rendered(text: &str) -> Result<String, Unresolved> {
    Template::parse(text).unwrap().render(&scope()).map(|secret| secret.expose().to_owned())
}

#[test]
fn values_fields_filters_and_escapes_render() {
    assert_eq!(rendered("Bearer ${api}").unwrap(), "Bearer abc/def");
    assert_eq!(rendered("${api.org}-${api|urlencode}").unwrap(), "acme-abc%2Fdef");
    assert_eq!(rendered("$${api}").unwrap(), "${api}");
    assert_eq!(rendered("${api.none}").unwrap_err(), Unresolved("api.none".to_owned()));
}

#[test]
fn a_relative_reference_replaces_the_last_segment() {
    let base = Template::literal("https://idp.example/realms/x/token");
    let of = |text: &str| Template::literal(text).beside(&base).with_all("");
    assert_eq!(of("revoke"), "https://idp.example/realms/x/revoke");
    assert_eq!(of("https://other.example/r"), "https://other.example/r");
}

#[test]
fn time_and_uuid_render_in_their_forms() {
    let unix: i64 = rendered("${now+15m|unix}").unwrap().parse().unwrap();
    assert!((unix - Wall::now().secs() - 900).abs() <= 1);
    let ms: i64 = rendered("${now|unix_ms}").unwrap().parse().unwrap();
    assert!(ms / 1000 - Wall::now().secs() <= 1);
    assert!(rendered("${now|rfc3339}").unwrap().ends_with('Z'));
    let id = rendered("${uuid}").unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "4"));
    assert_ne!(id, rendered("${uuid}").unwrap());
}

#[test]
fn what_is_no_reference_is_a_mistake() {
    for bad in [
        "${}",
        "${a b}",
        "${api|shout}",
        "${now}",
        "${now*2|unix}",
        "${api",
        "${self.}",
        "${env.BEARERD_UNSET_X}",
    ] {
        assert!(Template::parse(bad).is_err(), "{bad}");
    }
}
