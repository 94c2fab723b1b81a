//! The README tells the truth: its YAML loads, and it names every metric, slug and flag.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bearerd::telemetry::metrics::Metrics;

const README: &str = include_str!("../../README.md");

/// The README and the pages of docs/.
fn pages() -> Vec<(String, String)> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let pages = fs::read_dir(docs).unwrap().map(|page| page.unwrap().path());
    let pages = pages.filter(|page| page.extension() == Some("md".as_ref()));
    let named = pages.map(|page| (page.display().to_string(), fs::read_to_string(page).unwrap()));
    named.chain([("README.md".to_owned(), README.to_owned())]).collect()
}

fn yaml_blocks(text: &str) -> Vec<&str> {
    text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A block as a whole configuration: without a route it gets one. None for an excerpt of a file
/// that has a test of its own: what is shortened by `..`, or begins within a token.
fn configuration(block: &str) -> Option<String> {
    let shortened = |line: &str| [": ..", "\"..", "{.."].iter().any(|gap| line.contains(gap));
    let within = ["oauth2:", "http:", "jwt:", "value:"];
    if block.lines().any(shortened) || within.iter().any(|kind| block.starts_with(kind)) {
        return None;
    }
    let routed = block.lines().any(|line| line.starts_with("routes:"));
    let route = if routed { "" } else { "\nroutes: [{upstream: \"https://api.example.com\"}]\n" };
    Some(format!("{block}{route}"))
}

#[test]
fn every_yaml_block_is_a_sound_configuration() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("readme");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("client-secret"), "canary").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    for (name, content) in
        [("tls.crt", &certificate), ("ca.crt", &certificate), ("tls.key", &key.serialize_pem())]
    {
        fs::write(directory.join(name), content).unwrap();
    }
    let mut count = 0;
    for (page, text) in pages() {
        for text in yaml_blocks(&text).into_iter().filter_map(configuration) {
            count += 1;
            let path = directory.join(format!("{count}.yaml"));
            fs::write(&path, text.replace("/run/secrets/idp", directory.to_str().unwrap()))
                .unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_bearerd"))
                .args(["check", "--config", path.to_str().unwrap()])
                .output()
                .unwrap();
            assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(count > 0);
}

#[test]
fn every_metric_is_named() {
    let metrics = Metrics::new().unwrap();
    let token = bearerd::vocab::TokenName::parse("t").unwrap();
    let route = bearerd::vocab::RouteName::parse("r").unwrap();
    let _token = metrics.token(&token, &["x"]);
    let _route = metrics.route(&route, &["authorization".to_owned()]);
    let _rejected = metrics.rejected("x");
    let text = metrics.render();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE bearerd_")?.split(' ').next())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(README.contains(&format!("`{name}`")), "the README does not name {name}");
    }
}

#[test]
fn every_slug_is_named() {
    let metrics = Metrics::new().unwrap();
    // The server has answers of its own.
    let _own = bearerd::server::Counters::new(&metrics);
    let rendered = metrics.render();
    let reasons = rendered.lines().filter_map(|line| {
        line.strip_prefix("bearerd_rejected_total{reason=\"")?.split('"').next()
    });
    let slugs: Vec<&str> = reasons.chain(bearerd::proxy::refusal::SLUGS).collect();
    assert!(slugs.len() > bearerd::proxy::refusal::SLUGS.len() + 5, "{slugs:?}");
    // The first table that has the column, as other words stand in backquotes too.
    let table = README.split("| slug | status | |").nth(1).unwrap().split("\n\n").next().unwrap();
    for slug in slugs {
        assert!(table.contains(&format!("`{slug}`")), "the README does not name {slug}");
    }
}

#[test]
fn every_command_and_flag_is_named() {
    for command in ["run", "init", "check", "token", "demo", "health", "schema"] {
        assert!(README.contains(&format!("bearerd {command}")), "{command}");
        let output =
            Command::new(env!("CARGO_BIN_EXE_bearerd")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for word in help.split([' ', '[', ']', ':', '\n']) {
            let flag =
                word.strip_prefix("--").is_some_and(|name| !["help", "workers"].contains(&name));
            let variable = word.starts_with("BEARERD_");
            let word = word.trim_end_matches(['=', ',', '.']);
            if flag || variable {
                assert!(README.contains(word), "the README does not name {word} of {command}");
            }
        }
    }
}
