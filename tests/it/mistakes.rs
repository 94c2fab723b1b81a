//! Mistakes of a configuration's form are told at once, and nothing that only follows from them.

use bearerd::config::{Overrides, parse};
use bearerd::vocab::Problem;
use proptest::prelude::*;

/// A configuration by its lines; beside each what may be wrong there and how that is told. `""`
/// stands for a line that is not there.
const LINES: [(&str, &str, &str); 39] = [
    ("exposed: true", "exposed: maybe", "expected `true` or `false`"),
    ("listen: 127.0.0.1:1", "listen: [127.0.0.1:1]", "expected a single value"),
    ("workers: 1", "workers: many", "expected a whole number from 0"),
    ("hosts: [api.internal]", "hosts: api.internal", "expected a list"),
    ("token_wait: 5s", "tokn_wait: 5s", "unknown key `tokn_wait`"),
    ("drain: 1s", "drain:", "a text is missing here"),
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
    (
        "      refresh_token: {env: HOME}",
        "      refresh_token: {hunter2: a, hunter2: b}",
        "a secret has",
    ),
    ("      scopes: [a]", "      scopes: {hunter2: hunter2}", "expected a list"),
    (
        "      grant: refresh_token",
        "      grant: hunter2",
        "this is not one of the possible values",
    ),
    ("      client_auth: body", "      client_auth: hunter2", "this is not one of the possible"),
    ("  second: {value: {from: {env: PATH}}}", "  second: hunter2", "this is not one of"),
    ("  third: {value: {from: {env: PATH}}}", "  third: {value: {}}", "the key `from` is missing"),
    ("  fourth:", "  fourth:", ""),
    ("    jwt:", "    jwt:", ""),
    ("      algorithm: HS256", "", "the key `algorithm` is missing"),
    ("      key: {env: HOME}", "", "the key `key` is missing"),
    ("      claims: {}", "", "the key `claims` is missing"),
    ("      lifetime: 60s", "      lifetime: [60s]", "expected a single value"),
    ("  fifth: {value: {from: {env: PATH}}}", "  fifth: {valu: hunter2}", "this is not one of"),
    ("  sixth: {value: {from: {env: PATH}}}", "  sixth: []", "expected a map with one key"),
    ("routes:", "routes:", ""),
    ("  - match: {path: /a}", "  - match: {path: /a, host: []}", "expected a single value"),
    ("    inject: {X: '${second}'}", "    inject: ['${second}']", "expected a map"),
    ("    upstream: https://b.example", "    upstream: [hunter2]", "expected a"),
    ("  - match: {path: /b}", "  - match: {path: /b, pth: /c}", "unknown key `pth`"),
    (
        "    upstream: https://b.example",
        "    upstraem: https://b.example",
        "unknown key `upstraem`",
    ),
    ("    inject: {X: a}", "    inject: {X: [hunter2]}", "expected a"),
    ("    deny: [{path: /x}]", "    deny: [{path: /x, methods: {}}]", "expected a list"),
    ("  - {upstream: 'https://c.example', match: {path: /c}}", "  - 5", "expected a map"),
];

fn problems(text: &str) -> Vec<Problem> {
    parse(text, Overrides::default())
        .err()
        .map(bearerd::vocab::Problems::sorted)
        .unwrap_or_default()
}

/// Of the configuration with the mistakes of these lines.
fn told(wrong: &[usize]) -> Vec<(u64, String)> {
    let line = |(index, (right, mistaken, _)): (usize, &(&'static str, &'static str, &str))| {
        let is_wrong = wrong.contains(&index);
        if is_wrong { *mistaken } else { *right }
    };
    let yaml: Vec<&str> = LINES.iter().enumerate().map(line).collect();
    let problems = problems(&yaml.join("\n"));
    assert!(problems.is_sorted_by_key(|problem| problem.place));
    assert!(!problems.iter().any(|problem| problem.to_string().contains("hunter2")));
    problems.into_iter().map(|p| (p.place.unwrap().line, p.mistake.what)).collect()
}

/// Each is told, where it is, and nothing else. A key's lack is told with its map.
fn holds(wrong: &[usize]) {
    let mut told = told(wrong);
    let all = format!("{wrong:?}: {told:#?}");
    for index in wrong.iter().filter(|index| !LINES[**index].2.is_empty()) {
        let (_, mistaken, what) = LINES[*index];
        let is_it = |(line, text): &(u64, String)| {
            let is_here = usize::try_from(*line).unwrap() == index + 1;
            // In two ways: serde's visitor has words of its own for a text.
            let is_secret = mistaken.contains("client_secret:") && text.contains("`{env: NAME}`");
            (text.starts_with(what) || is_secret) && (is_here || mistaken.is_empty())
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

#[test]
fn what_is_no_yaml_is_told_with_the_bad_values_before_it() {
    let problems = problems("drain: soon\nroutes: [\n  - ]\ntoken_wait: [5s]\n");
    let lines: Vec<u64> = problems.iter().map(|problem| problem.place.unwrap().line).collect();
    assert!(lines.len() == 2 && lines[0] == 1 && lines[1] >= 2, "{problems:?}");
}

#[test]
fn a_mistake_behind_an_anchor_is_told_once_and_a_wrong_use_of_it_where_it_is_used() {
    let text = "
tokens:
  api: {value: {from: {env: PATH}}}
routes:
  - &one
    upstream: https://a.example
    via: 1
    strip: &strip {query: [a], cookie: []}
  - <<: *one
    match: {path: [], pth: x}
  - *one
  - upstream: https://b.example
    match: *strip
    inject: *strip
    hosts: 5
    deny: *strip
";
    let told: Vec<(u64, String)> = problems(text)
        .into_iter()
        .map(|problem| (problem.place.unwrap().line, problem.mistake.what))
        .collect();
    let expected = [
        (7, "unknown key `via`"),
        (8, "unknown key `cookie`"),
        (10, "expected a single value"),
        (10, "unknown key `pth`"),
        (15, "unknown key `hosts`"),
        (16, "expected a list"),
    ];
    let expected: Vec<_> = expected.map(|(line, what)| (line, what.to_owned())).into();
    assert_eq!(told, expected);
}

#[test]
fn a_misspelt_key_is_told_and_not_that_it_is_missing() {
    let whats = |text: &str| -> Vec<String> {
        problems(text).into_iter().map(|problem| problem.mistake.what).collect()
    };
    assert_eq!(whats("routs: []\nvai: true\n"), ["unknown key `routs`", "unknown key `vai`"]);
    let told = whats("vai: true\nexpose: true\n");
    assert_eq!(told, ["unknown key `vai`", "unknown key `expose`", "the key `routes` is missing"]);
}

#[test]
fn a_variable_may_stand_for_any_name_and_a_claim_for_any_value() {
    let text = "
via: [1]
tokens:
  api:
    jwt:
      algorithm: ${env.SURELY_UNSET}
      key: {env: PATH}
      claims: {file: [a], env: {a: {}}, a: ~}
routes: [{upstream: 'https://a.example', inject: {X: 1, Y: {value: true}}, name: ~}]
";
    assert_eq!(problems(text).len(), 1, "{:?}", problems(text));
}

#[test]
fn no_text_is_too_long_or_too_deep_to_be_searched() {
    let many = problems(&format!("routes:\n{}", "  - [{}]\n".repeat(100_000)));
    assert!((100..=101).contains(&many.len()), "{}", many.len());
    for deep in ["[", "{a: ", "- "] {
        let text = format!("via: 1\nroutes: \n  {}", deep.repeat(20_000));
        assert!(!problems(&text).is_empty());
    }
    let doubled: String =
        (1..40).map(|n| format!("  - &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
    assert!(!problems(&format!("via: []\nroutes:\n  - &a0 [5]\n{doubled}")).is_empty());
}

#[test]
fn what_people_do_to_yaml_is_told_with_what_to_do() {
    let hints = [
        (
            "tokens:\n  api:\n    oauth2:\n      token_url: https://a\n     client_id: a\n",
            "same column",
        ),
        ("routes:\n  - upstream: https://a.example\n  inject: {X: y}\n", "same column"),
        (
            "routes:\n  - upstream: https://a.example\n    inject: {X: Bearer ${api}, Y: z}\n",
            "in quotes",
        ),
        ("routes:\n  - upstream: https://a.example\n    inject:\n\tX: y\n", "spaces"),
        ("routes:\n  - upstream: https://a.example\n    name: @a\n", "in quotes"),
        ("routes:\n  upstream: https://a.example\n", "begin with `- `"),
        (
            "tokens:\n  api:\n    oauth2:\n      token_url:https://a\nroutes: []\n",
            "behind the colon",
        ),
        ("# nothing\n", "the least"),
    ];
    for (text, hint) in hints {
        let problems = problems(text);
        let told = |problem: &Problem| problem.mistake.hint.iter().any(|told| told.contains(hint));
        assert!(problems.iter().any(told), "no {hint} in {problems:?} of {text}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_told_with_what_to_do_about_it() {
    let place = std::env::temp_dir().join(format!("bearerd-unread-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("empty"), "\n").unwrap();
    std::fs::write(place.join("binary"), [0xff, 0xfe]).unwrap();
    let file = |name: &str| format!("file: {}", place.join(name).display());
    for (from, hint) in [
        ("env: BEARERD_TEST_NEVER_SET".to_owned(), "set it before"),
        (file("missing"), "create it"),
        (file("empty"), "put the secret there"),
        (file("binary"), "the secret alone"),
    ] {
        let problems =
            problems(&format!("tokens: {{t: {{value: {{from: {{{from}}}}}}}}}\nroutes: []\n"));
        let told = |problem: &Problem| problem.mistake.hint.iter().any(|told| told.contains(hint));
        assert!(problems.iter().any(told), "no {hint} in {problems:?}");
    }
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn a_state_file_whose_directory_is_not_there_is_a_mistake_of_the_configuration() {
    let text = |path: &str| {
        format!(
            "tokens: {{t: {{oauth2: {{token_url: 'https://a.example', grant: refresh_token, \
             client_id: a, refresh_token: {{env: PATH}}, state: {{file: {path}}}}}}}}}\n\
             routes: [{{upstream: 'https://b.example'}}]\n"
        )
    };
    let problems = problems(&text("/no-such-volume/state.json"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].mistake.what.contains("/no-such-volume"), "{problems:?}");
    assert!(problems[0].place.is_some());
    assert!(parse(&text("state.json"), Overrides::default()).is_ok(), "the working directory is");
}
