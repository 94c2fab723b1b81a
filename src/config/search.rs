//! What else is wrong with a text that serde could not read: it ends at the first mistake of form.
//! The rest is held against the file's own schema.
//!
//! Where the schema leaves open what was meant, nothing is told: a mistake that is none would be
//! worse than one that is told a reading later.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_yaml::options::DuplicateKeyPolicy;

use super::form::{Form, Key, Node};
use super::{Config, fault};
use crate::vocab::{Mistake, Place, Problem, Problems, nearest};

/// Most mistakes that are told beside serde's own; who made more reads no further.
const MOST: usize = 100;

/// Deepest nesting that is searched, which spares the stack. No setting lies half as deep.
const DEEPEST: usize = 24;

/// What was `told` of the text so far, and what the schema tells beside that.
pub(super) fn with_the_rest(text: &str, told: Problems) -> Problems {
    let options = serde_yaml::options! {
        with_snippet: false,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        budget: serde_yaml::budget! { max_depth: DEEPEST },
        alias_limits: serde_yaml::alias_limits! { max_replay_stack_depth: DEEPEST },
    };
    // What is no YAML has no form to speak of, and is told already.
    let Ok(tree) = serde_yaml::from_str_with_options::<Node>(text, options) else { return told };
    let schema = schemars::schema_for!(Config).to_value();
    let mut search = Search { schema: &schema, found: Vec::new() };
    search.value(&tree, tree.place, &schema);
    let mut all = told.clone();
    let told = told.sorted();
    for Found { place, mistake, within } in search.found {
        let is_told = |problem: &Problem| {
            let is_there = |at: Place| within.is_some_and(|(from, to)| from <= at && at <= to);
            let is_same = problem.place == Some(place) && problem.mistake.what == mistake.what;
            is_same || problem.place.is_some_and(is_there)
        };
        if !told.iter().any(is_told) {
            all.add(place, mistake);
        }
    }
    all
}

struct Found {
    place: Place,
    mistake: Mistake,
    /// From where to where anything else that was told is this mistake in other words.
    within: Option<(Place, Place)>,
}

/// The forms that a value may have, each a schema without alternatives.
#[derive(Default)]
struct Forms<'s> {
    lists: Vec<&'s Value>,
    maps: Vec<&'s Value>,
    scalars: Vec<&'s Value>,
    /// The names that alone, or as a map's one key, say which form it is.
    names: Vec<&'s str>,
    takes_nothing: bool,
}

impl<'s> Forms<'s> {
    /// Nothing where anything will do.
    fn of(schema: &'s Value, root: &'s Value) -> Option<Self> {
        let mut forms = Self::default();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            if let Some(reference) = schema["$ref"].as_str() {
                open.push(root.pointer(reference.strip_prefix('#')?)?);
                continue;
            }
            let alternatives = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
            if let Some(alternatives) = alternatives {
                open.extend(alternatives.iter().rev());
                continue;
            }
            let types = types(schema);
            if types.is_empty() && !schema["enum"].is_array() {
                return None;
            }
            let is_scalar = |ty: &&str| ["string", "number", "integer", "boolean"].contains(ty);
            if types.is_empty() || types.iter().any(is_scalar) {
                forms.scalars.push(schema);
                forms.names.extend(schema["const"].as_str());
            }
            if types.contains(&"array") {
                forms.lists.push(schema);
            }
            if types.contains(&"object") {
                forms.maps.push(schema);
                forms.names.extend(only_key(schema));
            }
            forms.takes_nothing |= types.contains(&"null");
        }
        Some(forms)
    }

    fn are_names(&self) -> bool {
        !self.names.is_empty() && self.names.len() == self.scalars.len() + self.maps.len()
    }

    fn is_secret(&self) -> bool {
        self.maps.len() == 2 && self.maps.iter().all(|map| only_key(map).is_some_and(is_of_secret))
    }

    fn takes(&self, ty: &str) -> bool {
        self.scalars.iter().any(|form| types(form).contains(&ty) || form["enum"].is_array())
    }
}

fn types(schema: &Value) -> Vec<&str> {
    let types = &schema["type"];
    let several = types.as_array().into_iter().flatten();
    several.chain([types]).filter_map(Value::as_str).collect()
}

fn only_key(schema: &Value) -> Option<&str> {
    match schema["required"].as_array()?.as_slice() {
        [key] if schema["properties"].as_object()?.len() == 1 => key.as_str(),
        _ => None,
    }
}

fn is_of_secret(key: &str) -> bool {
    key == "file" || key == "env"
}

struct Search<'s> {
    schema: &'s Value,
    found: Vec<Found>,
}

impl<'s> Search<'s> {
    fn tell(&mut self, place: Place, mistake: Mistake, within: Option<(Place, Place)>) {
        if self.found.len() < MOST {
            self.found.push(Found { place, mistake, within });
        }
    }

    /// Judges the value after `key`, or in a list, by the schema of its place.
    fn value(&mut self, node: &Node, key: Place, schema: &'s Value) {
        let Some(forms) = Forms::of(schema, self.schema) else { return };
        let wrong = match &node.form {
            Form::Nothing if forms.takes_nothing => None,
            Form::List(items) if !forms.lists.is_empty() => {
                if let ([list], false) = (forms.lists.as_slice(), node.is_alias)
                    && let Some(schema) = list.get("items")
                {
                    items.iter().for_each(|item| self.value(item, item.place, schema));
                }
                None
            }
            Form::Map(_) if !forms.maps.is_empty() && node.is_alias => None,
            Form::Map(entries) if !forms.maps.is_empty() => {
                // A secret's map quotes no key: it may be the secret.
                if !forms.is_secret() {
                    self.repeated(entries);
                }
                match forms.maps.as_slice() {
                    [map] => {
                        self.map(node.place, entries, map);
                        None
                    }
                    _ => self.one_of(node, key, entries, &forms),
                }
            }
            Form::List(_) | Form::Map(_) => misplaced(node, &forms),
            _ if forms.scalars.is_empty() => misplaced(node, &forms),
            _ => scalar(node, &forms),
        };
        if let Some(mistake) = wrong {
            self.tell(node.place, mistake, Some((key, node.end())));
        }
    }

    fn repeated(&mut self, entries: &[(Key, Node)]) {
        let mut known = BTreeSet::new();
        for (key, _) in entries.iter().filter(|(key, _)| !key.is_alias) {
            if !known.insert(key.name.as_str()) {
                self.tell(key.place, fault::repeated(&key.name), None);
            }
        }
    }

    fn map(&mut self, place: Place, entries: &[(Key, Node)], schema: &'s Value) {
        let known = schema["properties"].as_object();
        let other = match schema["patternProperties"].as_object() {
            Some(patterns) => patterns.values().next(),
            None => schema.get("additionalProperties"),
        };
        let mut unknown = Vec::new();
        for (key, value) in entries.iter().filter(|(key, _)| !key.is_alias) {
            match (known.and_then(|known| known.get(&key.name)), other) {
                (Some(schema), _) => self.value(value, key.place, schema),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known.into_iter().flatten().map(|(n, _)| &**n).collect();
                    self.tell(key.place, fault::unknown_key(&key.name, &names), None);
                    unknown.push(key.name.as_str());
                }
                (None, Some(schema)) => self.value(value, key.place, schema),
                (None, None) => {}
            }
        }
        // Where serde tells of it.
        let place = entries.last().map_or(place, |(key, _)| key.place);
        let required =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required {
            let is_here = entries.iter().any(|(key, _)| key.name == name);
            // A misspelt key is told as such.
            if !is_here && !unknown.iter().any(|typed| nearest(typed, [name]).is_some()) {
                self.tell(place, fault::missing(name), None);
            }
        }
    }

    /// Judges a map whose one key says which form it is.
    fn one_of(
        &mut self,
        node: &Node,
        before: Place,
        entries: &[(Key, Node)],
        forms: &Forms<'s>,
    ) -> Option<Mistake> {
        let (key, value) = entries.first()?;
        let second = entries.get(1).filter(|(second, _)| second.name != key.name);
        let meant = forms.maps.iter().find(|map| only_key(map) == Some(&key.name));
        match (meant, second) {
            (None, _) if forms.is_secret() && !forms.scalars.is_empty() => misplaced(node, forms),
            (None, _) | (_, Some(_)) if forms.is_secret() => Some(fault::no_secret()),
            (None, _) if forms.are_names() => {
                let there = (key.place, key.place);
                self.tell(key.place, fault::none_of(&forms.names), Some(there));
                None
            }
            (None, _) => None,
            (Some(form), second) => {
                // serde tells of some at the last key that it passed, which this one is not.
                self.value(value, before, form.get("properties")?.get(&key.name)?);
                if let Some((second, _)) = second {
                    self.tell(second.place, fault::several_kinds(), None);
                }
                None
            }
        }
    }
}

/// The mistake of a value of a form that its place does not know.
fn misplaced(node: &Node, forms: &Forms<'_>) -> Option<Mistake> {
    Some(match (forms.lists.is_empty(), forms.maps.len(), forms.scalars.is_empty()) {
        (_, _, true) if forms.is_secret() => {
            fault::unfit("`{file: PATH}` or `{env: NAME}`", node.kind())
        }
        (_, _, false) if forms.is_secret() => {
            fault::expected("a text, `{file: PATH}` or `{env: NAME}`")
        }
        (_, 2.., _) if matches!(node.form, Form::List(_)) => fault::no_kind(),
        (true, 2.., _) => fault::none_of(&forms.names),
        (false, 0, true) => fault::expected("a list"),
        (true, 1, true) => fault::expected("a map"),
        (true, 0, false) => fault::expected("a single value"),
        (true, _, false) => fault::unfit("a single value or a map", node.kind()),
        _ => return None,
    })
}

/// The mistake of a single value, where there may be one, if its form shows any.
fn scalar(node: &Node, forms: &Forms<'_>) -> Option<Mistake> {
    match &node.form {
        // A variable may say anything.
        Form::Text(text) if text.contains("${") => None,
        Form::Text(text) if forms.are_names() => {
            let is_known = forms.names.contains(&text.as_str());
            (!is_known).then(|| fault::none_of(&forms.names))
        }
        Form::Nothing if forms.takes("string") && !forms.maps.is_empty() => misplaced(node, forms),
        Form::Nothing if forms.takes("string") => Some(fault::no_text()),
        _ if forms.takes("string") => None,
        Form::Text(text) if forms.takes("boolean") => {
            const TRUTHS: [&str; 8] = ["true", "false", "yes", "no", "y", "n", "on", "off"];
            let text = text.trim().to_ascii_lowercase();
            (!TRUTHS.contains(&text.as_str())).then(|| fault::expected_type("boolean"))
        }
        Form::Nothing | Form::Number if forms.takes("boolean") => {
            Some(fault::expected_type("boolean"))
        }
        // There are many ways to write a number; none is without a digit.
        Form::Text(text) if text.contains(|c: char| c.is_ascii_digit()) => None,
        Form::Text(_) | Form::Truth | Form::Nothing if forms.takes("integer") => {
            Some(fault::expected_type("u64"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::deserialized;

    /// By each line of the example, which holds every key, with other values.
    #[test]
    fn what_serde_takes_has_no_mistake_and_what_it_refuses_has_one() {
        let text = include_str!("../../config.example.yaml");
        for (at, line) in text.lines().enumerate() {
            let Some((key, _)) = line.split_once(": ").filter(|(key, _)| !key.contains('#')) else {
                continue;
            };
            for value in ["[x]", "x", ""] {
                let wrong = format!("{key}: {value}");
                let lines: Vec<&str> = text.lines().collect();
                let text = [&lines[..at], &[&wrong], &lines[at + 1..]].concat().join("\n");
                let (read, mut told) = deserialized(&text);
                if let Err(error) = read {
                    told.push(fault::problem(&error));
                }
                let all = with_the_rest(&text, told.clone()).sorted();
                assert_eq!(all, told.sorted(), "line {}: {wrong}", at + 1);
            }
        }
    }
}
