//! What lies in deploy/ fits the program: the configurations within manifests, the names of
//! metrics. (That the schema does is tested with the command line.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn bearerd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bearerd")).args(arguments).output().unwrap()
}

/// Every file below a directory, but for the chart's templates.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    directories.iter().flat_map(|path| self::files(path)).chain(files).collect()
}

/// The text under `KEY: |` or in a file of its own, without its indentation.
fn configurations(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    if path.file_name().is_some_and(|name| name == "bearerd.yaml") {
        return vec![text];
    }
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !matches!(line.trim_start(), "bearerd.yaml: |" | "content: |") {
            continue;
        }
        let depth = line.len() - line.trim_start().len();
        let mut block = String::new();
        while let Some(line) =
            lines.next_if(|line| line.is_empty() || line.len() - line.trim_start().len() > depth)
        {
            block.push_str(line.get(depth + 2..).unwrap_or_default());
            block.push('\n');
        }
        // Compose wants a dollar sign doubled.
        found.push(block.replace("$$", "$"));
    }
    found
}

#[test]
fn every_configuration_in_a_manifest_is_sound() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("manifests");
    fs::create_dir_all(&directory).unwrap();
    for name in ["client-secret", "token", "redis-password"] {
        fs::write(directory.join(name), "canary").unwrap();
    }
    fs::write(directory.join("store-key"), "canary".repeat(6)).unwrap();
    let authority = rcgen::generate_simple_self_signed(["redis.example.com".to_owned()]).unwrap();
    fs::write(directory.join("redis-ca.pem"), authority.cert.pem()).unwrap();
    let mut count = 0;
    for path in files(&deploy()).iter().filter(|path| path.extension() == Some("yaml".as_ref())) {
        // Templates are no YAML yet, and examples want variables: they have a test of their own.
        let elsewhere = |part: &std::ffi::OsStr| part == "templates" || part == "examples";
        if path.components().any(|part| elsewhere(part.as_os_str())) {
            continue;
        }
        for text in configurations(path) {
            let mut text = text;
            for place in ["/run/secrets/bearerd/", "/run/secrets/identity/", "/run/secrets/"] {
                text = text.replace(place, &format!("{}/", directory.display()));
            }
            let file = directory.join(format!("{count}.yaml"));
            fs::write(&file, text).unwrap();
            let output = bearerd(&["check", "--config", file.to_str().unwrap()]);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {complaint}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} configurations were found");
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_exist() {
    let metrics = bearerd::telemetry::metrics::Metrics::new().unwrap();
    let token = bearerd::vocab::TokenName::parse("t").unwrap();
    let route = bearerd::vocab::RouteName::parse("r").unwrap();
    let _token = metrics.token(&token, &["x"]);
    let _store = metrics.token_store(&token);
    let _route = metrics.route(&route, &["authorization".to_owned()]);
    let _rejected = metrics.rejected("x");
    let text = metrics.render();
    let known: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["prometheus/alerts.yaml", "prometheus/alerts_test.yaml", "grafana/dashboard.json"]
    {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut seen = 0;
        for word in words.filter(|w| w.starts_with("bearerd_") || w.starts_with("process_")) {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix).filter(|name| known.contains(name)))
                .unwrap_or(word);
            assert!(known.contains(name), "{file} names {word}");
            seen += 1;
        }
        assert!(seen > 10, "{file} names only {seen} metrics");
    }
}

#[test]
fn the_charts_alerts_are_the_alerts() {
    let read = |name: &str| fs::read_to_string(deploy().join(name)).unwrap();
    assert_eq!(read("helm/bearerd/alerts.yaml"), read("prometheus/alerts.yaml"));
}
