//! Everything that is wrong with a configuration is told at once, and nothing that only follows.

use bearerd::config::{Overrides, parse};
use proptest::prelude::*;

/// A configuration by its lines; beside each what may be wrong there and how that is told. `""`
/// stands for a line that is not there.
const LINES: [(&str, &str, &str); 33] = [
    ("exposed: true", "exposed: maybe", "expected `true` or `false`"),
    ("listen: 127.0.0.1:1", "listen: [127.0.0.1:1]", "expected a single value"),
    ("workers: 1", "workers: many", "expected a whole number from 0"),
    ("hosts: [api.internal]", "hosts: api.internal", "expected a list"),
    ("token_wait: 5s", "tokn_wait: 5s", "unknown key `tokn_wait`"),
    ("drain: 1s", "drain: soon", "`soon` is not a length of time"),
    ("via: true", "exposed: true", "the key `exposed` occurs twice in one map"),
    ("limits:", "limits:", ""),
    ("  head: 5s", "  head: {}", "expected a single value"),
    ("  streams: 5", "  stream: 5", "unknown key `stream`"),
    ("tokens:", "tokens:", ""),
    ("  first:", "  first:", ""),
    ("    oauth2:", "    oauth2:", ""),
    ("      token_url: https://a.example", "", "the key `token_url` is missing"),
    ("      client_id: a", "      client_id: [a]", "expected a text, `{file: PATH}`"),
    ("      client_secret: {env: HOME}", "      client_secret: hunter2", "a secret is never"),
    ("      scopes: [a]", "      scopes: {hunter2: hunter2}", "expected a list"),
    ("  second: {value: {from: {env: PATH}}}", "  second: hunter2", "this is not one of"),
    ("  third: {value: {from: {env: PATH}}}", "  third: {value: {}}", "the key `from` is missing"),
    ("  fourth:", "  fourth:", ""),
    ("    jwt:", "    jwt:", ""),
    ("      algorithm: HS256", "", "the key `algorithm` is missing"),
    ("      key: {env: HOME}", "", "the key `key` is missing"),
    ("      claims: {}", "", "the key `claims` is missing"),
    ("      lifetime: 60s", "      lifetime: [60s]", "expected a single value"),
    ("routes:", "routes:", ""),
    ("  - match: {path: /a}", "  - match: {path: /a, host: []}", "expected a single value"),
    ("    inject: {X: '${second}'}", "    inject: ['${second}']", "expected a map"),
    ("    upstream: https://b.example", "    upstream: [hunter2]", "expected a URL or"),
    ("  - match: {path: /b}", "  - match: {path: /b, pth: /c}", "unknown key `pth`"),
    (
        "    upstream: https://b.example",
        "    upstraem: https://b.example",
        "unknown key `upstraem`",
    ),
    ("    deny: [{path: /x}]", "    deny: [{path: /x, methods: {}}]", "expected a list"),
    ("  - {upstream: 'https://c.example', match: {path: /c}}", "  - 5", "expected a map"),
];

/// The configuration with the mistakes of these lines, and what is told of it.
fn told(wrong: &[usize]) -> Vec<(u64, String)> {
    let line = |(index, (right, mistaken, _)): (usize, &(&'static str, &'static str, &str))| {
        let is_wrong = wrong.contains(&index);
        if is_wrong { *mistaken } else { *right }
    };
    let yaml: Vec<&str> = LINES.iter().enumerate().map(line).collect();
    let problems = parse(&yaml.join("\n"), Overrides::default()).map(drop);
    let problems = problems.err().map(bearerd::vocab::Problems::sorted).unwrap_or_default();
    assert!(problems.is_sorted_by_key(|problem| problem.place));
    assert!(!problems.iter().any(|problem| problem.to_string().contains("hunter2")));
    let told = problems.into_iter().map(|p| (p.place.unwrap().line, p.mistake.what));
    told.collect()
}

/// What is to be told.
fn expected(wrong: &[usize]) -> Vec<(usize, &'static str)> {
    let mut expected: Vec<_> = wrong.iter().map(|index| (*index, LINES[*index].2)).collect();
    expected.retain(|(_, what)| !what.is_empty());
    expected
}

/// Each is told, where it is, and nothing else. A key's lack is told with its map.
fn holds(wrong: &[usize]) {
    let mut told = told(wrong);
    let all = format!("{wrong:?}: {told:#?}");
    for (index, what) in expected(wrong) {
        let is_it = |(line, text): &(u64, String)| {
            let is_here = usize::try_from(*line).unwrap() == index + 1;
            text.starts_with(what) && (is_here || LINES[index].1.is_empty())
        };
        let found = told.iter().position(is_it);
        told.remove(found.unwrap_or_else(|| panic!("line {}, {what}: {all}", index + 1)));
    }
    assert!(told.is_empty(), "{told:?} follows in {all}");
}

#[test]
fn a_configuration_with_every_mistake_tells_them_all_and_no_other() {
    let every: Vec<usize> = (0..LINES.len()).collect();
    holds(&[]);
    for index in &every {
        holds(&[*index]);
    }
    holds(&every);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_mistakes_together_are_told_as_each_alone(
        wrong in proptest::sample::subsequence((0..LINES.len()).collect::<Vec<_>>(), 0..LINES.len()),
    ) {
        holds(&wrong);
    }
}

/// What a file's parts say together is judged of those that are sound.
#[test]
fn a_wrong_type_hides_no_mistake_of_another_token_or_route() {
    let text = |via: &str, second: &str| {
        format!(
            "listen: 127.0.0.1:1
admin: 127.0.0.1:1
{via}
tokens:
  first: {{value: {{from: {{env: BEARERD_SURELY_UNSET}}}}}}
  second: {second}
routes:
  - upstream: http://api.example.com
    match: {{path: [/a]}}
  - upstream: http://api.example.com
    inject: {{X: '${{secnd}}'}}
    match: {{path: /b}}
  - {{upstream: 'https://api.example.com', match: {{path: /b}}}}
"
        )
    };
    let sound = "{value: {from: {env: PATH}}}";
    let told = |text: &str| -> Vec<u64> {
        let problems = parse(text, Overrides::default()).unwrap_err().sorted();
        problems.iter().map(|problem| problem.place.unwrap().line).collect()
    };
    // The same address twice, an unset variable, a type, plain text, no such token, the same match.
    assert_eq!(told(&text("via: true", sound)), [2, 5, 9, 10, 11, 13]);
    // It might be the one that is missing.
    assert_eq!(told(&text("via: true", "[]")), [2, 5, 6, 9, 10, 13]);
    assert_eq!(told(&text("via: 1", sound)), [3, 5, 9, 10, 11, 13]);
    // It might say anything.
    assert_eq!(told(&text("vai: true", sound)), [3, 5, 9, 10, 13]);
}

#[test]
fn what_is_no_yaml_is_told_with_the_mistakes_before_it() {
    let text = "drain: soon\nexposed: maybe\nroutes: [\n  - ]\ntoken_wait: [5s]\n";
    let problems = parse(text, Overrides::default()).unwrap_err().sorted();
    let lines: Vec<u64> = problems.iter().map(|problem| problem.place.unwrap().line).collect();
    assert_eq!(lines.len(), 3, "{problems:?}");
    assert!(lines.starts_with(&[1, 2]) && lines[2] >= 3, "{problems:?}");
}

#[test]
fn a_mistake_behind_an_anchor_is_told_once_and_those_beside_its_aliases_too() {
    let text = "
tokens:
  api: {value: {from: {env: PATH}}}
routes:
  - &one
    upstream: https://a.example
    via: 1
  - <<: *one
    match: {path: 5, pth: x}
  - *one
";
    let problems = parse(text, Overrides::default()).unwrap_err().sorted();
    let whats: Vec<&str> = problems.iter().map(|problem| problem.mistake.what.as_str()).collect();
    assert!(
        whats.contains(&"unknown key `via`") && whats.contains(&"unknown key `pth`"),
        "{whats:?}"
    );
}

#[test]
fn the_search_for_thousands_of_mistakes_ends() {
    let text = format!("routes:\n{}", "  - [{}]\n".repeat(2000));
    let problems = parse(&text, Overrides::default()).unwrap_err().sorted();
    assert!(problems.len() > 100, "{}", problems.len());
}
