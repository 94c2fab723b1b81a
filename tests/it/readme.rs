//! The README tells the truth: its YAML loads, and it names every metric, slug and flag.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const README: &str = include_str!("../../README.md");

fn blocks(language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    README.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_yaml_block_is_a_sound_configuration() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("readme");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("client-secret"), "canary").unwrap();
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    for (index, block) in blocks.iter().enumerate() {
        let path = directory.join(format!("{index}.yaml"));
        fs::write(&path, block.replace("/run/secrets/idp", directory.to_str().unwrap())).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bearerd"))
            .args(["check", "--config", path.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_metric_is_named() {
    let metrics = bearerd::telemetry::metrics::Metrics::new().unwrap();
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
    for slug in bearerd::proxy::refusal::SLUGS {
        assert!(README.contains(&format!("`{slug}`")), "the README does not name {slug}");
    }
}

#[test]
fn every_command_and_flag_is_named() {
    for command in ["run", "check", "token", "demo", "health", "schema"] {
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
