//! Each file under deploy/examples is complete, loads with nothing but its variables, and says
//! in its head which those are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::example;

/// A value that suits a variable of this name.
fn value(name: &str) -> &'static str {
    if name.ends_with("URL") { "https://system.example.com" } else { "something" }
}

fn check(name: &str, variables: &BTreeSet<String>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["check", "--config"])
        .arg(example(name))
        .env_clear()
        .envs(variables.iter().map(|variable| (variable, value(variable))))
        .output()
        .unwrap()
}

/// The variables that the head of a file lists.
fn head(text: &str) -> BTreeSet<String> {
    text.lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("#   ")?.split(' ').next().map(str::to_owned))
        .collect()
}

fn names() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_example_loads_with_the_variables_of_its_head() {
    let known = ["caepe-service", "caepe-user", "educates", "lxhive", "sunbird"];
    for name in known {
        assert!(names().contains(name), "{name}");
        let text = std::fs::read_to_string(example(name)).unwrap();
        let output = check(name, &head(&text));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {errors}");
    }
}

#[test]
fn every_variable_of_the_head_is_needed_and_a_missing_one_is_named_with_its_line() {
    for name in ["caepe-service", "caepe-user", "educates", "lxhive", "sunbird"] {
        let text = std::fs::read_to_string(example(name)).unwrap();
        let all = head(&text);
        assert!(all.len() >= 4, "{name}: {all:?}");
        for variable in &all {
            let mut fewer = all.clone();
            fewer.remove(variable);
            let output = check(name, &fewer);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(64), "{name} without {variable}");
            assert!(errors.contains(variable) && errors.contains(".yaml:"), "{errors}");
        }
    }
}
