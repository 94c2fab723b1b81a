//! The plan of the house, held to the `use` lines.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module may import those behind it, and itself.
const ORDER: [&[&str]; 9] = [
    &["cli"],
    &["demo"],
    &["app"],
    &["config"],
    &["admin", "proxy"],
    &["token"],
    &["server", "net"],
    &["shutdown", "stream", "telemetry"],
    &["vocab"],
];

fn rank(module: &str) -> usize {
    let rank = ORDER.iter().position(|layer| layer.contains(&module));
    rank.unwrap_or_else(|| panic!("`{module}` has no place in the order of layers"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The modules that a text names by `crate::`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(list) = rest.strip_prefix('{') {
            // `use crate::{a::.., b}`: the top-level names of the list.
            let mut depth = 0;
            let mut start = true;
            for (index, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && c.is_alphabetic() => {
                        found.push(word(&list[index..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(word(rest));
        }
    }
    found.retain(|name: &String| !name.is_empty());
    found
}

#[test]
fn layers_import_downward_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let own = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let own = own.trim_end_matches(".rs");
        if own == "lib" || own == "main" {
            continue;
        }
        for name in imports(&fs::read_to_string(&path).unwrap()) {
            if rank(&name) < rank(own) || name != own && rank(&name) == rank(own) {
                wrong.push(format!("{} imports {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_two_places_name_the_yaml_crate() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        // Tests may read settings from YAML; the code before them may not.
        let tests = ["/tests.rs", "/fuzz.rs"];
        let code = text.split("#[cfg(test)]").next().unwrap();
        if code.contains("serde_yaml") && !tests.iter().any(|end| inside.ends_with(end)) {
            assert!(inside.starts_with("config/") || inside == "vocab/at.rs", "{inside}");
        }
    }
}

#[test]
fn tasks_are_born_only_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&src) {
        let inside = path.strip_prefix(&src).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        assert!(!code.contains("tokio::spawn(") || inside == "shutdown.rs", "{inside}");
    }
}

#[test]
fn in_the_proxy_only_refusals_choose_a_status() {
    let proxy = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy");
    for path in files(&proxy) {
        let inside = path.strip_prefix(&proxy).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        // The codec tells by the status where an answer ends.
        let reads = inside == "refusal.rs" || inside.starts_with("http1/");
        assert!(reads || !code.contains("StatusCode::"), "{inside}");
        assert!(inside == "refusal.rs" || !code.contains("status_mut() = StatusCode"), "{inside}");
    }
}

#[test]
fn every_layer_is_named_in_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in ORDER.iter().flat_map(|layer| layer.iter()) {
        assert!(map.contains(&format!("pub mod {module};")), "{module}");
    }
}
