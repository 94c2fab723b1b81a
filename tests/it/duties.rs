//! `docs/duties.md` names a test for each duty (P1-P42), and the tests are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".work") {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

#[test]
fn every_duty_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/duties.md")).unwrap();
    let mut sources = Vec::new();
    files(&root.join("tests"), &mut sources);
    files(&root.join("src"), &mut sources);
    let rust = sources.iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let text: String = rust.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut rows = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| P")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, duty, proofs] = cells.as_slice() else { panic!("three cells: {row}") };
        assert!(duty.len() > 10 && rows.insert((*number).to_owned()), "{row}");
        let proofs: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(!proofs.is_empty(), "{number} names no test");
        for proof in proofs {
            let is_there = if proof.contains('/') {
                root.join(proof.split(' ').next().unwrap()).is_file()
            } else {
                text.contains(&format!("fn {proof}("))
            };
            assert!(is_there, "{number} names `{proof}`, which is not there");
        }
    }
    let expected: BTreeSet<String> = (1..=42).map(|number| format!("P{number}")).collect();
    assert_eq!(rows, expected);
}
