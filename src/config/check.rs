//! What no field can know by itself: names exist, tokens form no circle, secrets can be read,
//! listeners and upstreams do not bite each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use super::Config;
use crate::net::certificate;
use crate::proxy::route;
use crate::server::Endpoint;
use crate::token::Plan;
use crate::token::source::Source;
use crate::token::state::{StateFile, Store};
use crate::token::template::Template;
use crate::vocab::{Exposure, Mistake, Place, Problems, TokenName, nearest};

/// A configuration without known mistakes.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The tokens, ready to be started.
    pub plans: Vec<Plan>,
    /// What works and should be otherwise.
    pub warnings: Vec<String>,
}

/// Checks everything and reports everything. `problems` are those found while reading; scalars
/// with a problem are placeholders, so nothing is used if there is one.
pub(super) fn check(config: Config, mut problems: Problems) -> Result<Loaded, Problems> {
    let mut plans = Vec::new();
    let mut warnings = Vec::new();
    if problems.is_empty() {
        for (name, kind) in &config.tokens {
            if let Some(source) = kind.value.plan(kind.place, &mut problems) {
                plans.push(Plan { name: name.clone(), kind: kind.value.clone(), source });
            }
        }
        secrets(&config, &plans, &mut warnings, &mut problems);
        written_credentials(&config, &mut warnings);
        references(&config, &plans, &mut problems);
        cycles(&config, &plans, &mut problems);
        states(&config, &plans, &mut problems);
        listeners(&config, &mut problems);
        placed(&config, &config.listen.value, config.tls.as_ref(), &mut problems);
        proof(&config, &mut problems);
        route::check(&config.routes, &mut problems);
    }
    if problems.is_empty() { Ok(Loaded { config, plans, warnings }) } else { Err(problems) }
}

/// Every secret can be read now. A secret that vanishes later is another matter: the last good
/// value is kept.
fn secrets(config: &Config, plans: &[Plan], warnings: &mut Vec<String>, problems: &mut Problems) {
    let mut guarded = Vec::new();
    for secret in plans.iter().flat_map(|plan| plan.source.secrets()) {
        // The first is what is kept where the secret vanishes, the second says what is wrong.
        if let (Err(_), Err(error)) = (secret.read(), secret.source().read()) {
            problems.add(secret.place(), Mistake::from(error));
        }
        guarded.push((secret.source(), secret.place()));
    }
    if let Some(caller) = &config.caller {
        if let Err(error) = caller.secret.read() {
            problems.add(caller.secret.place, Mistake::from(error));
        }
        guarded.push((&caller.secret.value, caller.secret.place));
    }
    if let Some(tls) = &config.tls {
        if let Err((place, mistake)) = tls.load() {
            problems.add(place, mistake);
        }
        guarded.push((&tls.key.value, tls.key.place));
    }
    let spoken = config.tokens.values().flat_map(|kind| kind.value.tls());
    let spoken = spoken.chain(config.routes.iter().map(|route| &route.tls));
    guarded.extend(spoken.filter_map(|tls| tls.key.as_ref()).map(|key| (&key.value, key.place)));
    for (secret, place) in guarded {
        match secret.exposure() {
            Exposure::None => {}
            Exposure::Readable => {
                let warning = format!("the secret in {} is readable by others", secret.describe());
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
            Exposure::Writable => {
                let what = format!("the secret in {} is writable by everybody", secret.describe());
                problems.add(place, Mistake::new(what).hint("take the permission away: chmod o-w"));
            }
        }
    }
}

/// A credential that stands in the file itself is in every copy of it, and nothing renews it.
fn written_credentials(config: &Config, warnings: &mut Vec<String>) {
    let fields = config.routes.iter().flat_map(|route| &route.inject);
    for (name, field) in fields {
        let Some(text) = field.value.template().written() else { continue };
        let name = name.as_header();
        if is_credential(name.as_str(), text) {
            warnings.push(format!(
                "the value of `{name}` in line {} looks like a credential that stands in the \
                 configuration; keep it in a file and inject it as a token of the kind `value`",
                field.place.line
            ));
        }
    }
}

/// By the field's name, or by the value's scheme or form.
fn is_credential(name: &str, value: &str) -> bool {
    const NAMES: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
    const WORDS: [&str; 6] = ["token", "secret", "password", "apikey", "api-key", "access-key"];
    const SCHEMES: [&str; 3] = ["bearer ", "basic ", "token "];
    let lower = value.to_ascii_lowercase();
    !value.is_empty()
        && (NAMES.contains(&name)
            || WORDS.iter().any(|word| name.contains(word))
            || SCHEMES.iter().any(|scheme| lower.starts_with(scheme))
            // The head of a JWT, `{"` in base64url.
            || value.starts_with("eyJ"))
}

/// Whether the configuration may serve at `listen`, which is the address that it names or the one
/// that is really bound, with this `tls`.
///
/// Who reaches it has the tokens' authority, so others than this machine's programs must prove
/// something, or be kept away by something that the configuration answers for (S8). `admin` lends
/// out no authority and may be bound to a Pod's address.
pub(super) fn placed(
    config: &Config,
    listen: &Endpoint,
    tls: Option<&certificate::Settings>,
    problems: &mut Problems,
) {
    let place = config.listen.place;
    if tls.is_some() && matches!(listen, Endpoint::Unix(_)) {
        problems.add(place, Mistake::new("a Unix socket has no TLS").hint("remove `tls`"));
    }
    let shows = tls.is_some_and(|tls| tls.client_ca_file.is_some());
    if !listen.is_local() && config.caller.is_none() && !shows && !config.exposed {
        let what = format!("whoever reaches {listen} would have the tokens' authority");
        let mistake = Mistake::new(what).hint(
            "listen at a loopback address, have callers prove themselves by `caller` or by a \
             certificate (`tls: {client_ca_file: ..}`), or say \
             `exposed: true` if the network lets none but the intended callers through",
        );
        problems.add(place, mistake);
    }
    let own: Vec<SocketAddr> = listen
        .inet()
        .into_iter()
        .chain([config.admin.value.0])
        .filter(|address| address.port() != 0)
        .collect();
    for route in &config.routes {
        if let Some(own) = own.iter().find(|own| route.upstream.is_at(own.ip(), own.port())) {
            let what = format!("the upstream is this program's own listener {own}");
            problems
                .add(route.upstream.place, Mistake::new(what).hint("name the API's own address"));
        }
    }
}

/// A caller's proof stands in a field of its own.
fn proof(config: &Config, problems: &mut Problems) {
    if let Some(caller) = &config.caller
        && route::is_untouchable(caller.header.value.as_header())
    {
        let what = format!(
            "`{}` routes or frames a request and cannot hold a proof",
            caller.header.value.as_header()
        );
        problems.add(caller.header.place, Mistake::new(what).hint("use another field"));
    }
}

/// Every token and field that a template names exists.
fn references(config: &Config, plans: &[Plan], problems: &mut Problems) {
    let known: BTreeMap<&TokenName, &Source> =
        plans.iter().map(|plan| (&plan.name, &plan.source)).collect();
    let injected = config
        .routes
        .iter()
        .flat_map(|route| route.inject.values())
        .map(|field| (field.value.template(), field.place));
    let requested = plans
        .iter()
        .flat_map(|plan| plan.source.templates())
        .map(|template| (template, template.place()));
    for (template, place) in injected.chain(requested) {
        reference(template, place, config, &known, problems);
    }
    for plan in plans {
        let place = config.tokens[&plan.name].place;
        for name in plan.source.blamable().into_iter().filter(|name| !known.contains_key(name)) {
            problems.add(place, unknown_token(name, config));
        }
        let parents = plan.source.parents();
        let known = |name: &&TokenName| known.contains_key(*name) && !parents.contains(name);
        for name in plan.source.blamable().into_iter().filter(known) {
            let what = format!("`renew: {name}` blames a token that no request here is made from");
            let hint = format!("use `${{{name}}}` in the request, or blame another token");
            problems.add(place, Mistake::new(what).hint(hint));
        }
    }
}

fn reference(
    template: &Template,
    place: Place,
    config: &Config,
    known: &BTreeMap<&TokenName, &Source>,
    problems: &mut Problems,
) {
    for (name, field) in template.tokens() {
        match (known.get(name), field) {
            (None, _) if config.tokens.contains_key(name) => {}
            (None, _) => problems.add(place, unknown_token(name, config)),
            (Some(source), Some(field)) if !source.has_field(field) => {
                let mistake = Mistake::new(format!("the token `{name}` has no field `{field}`"));
                problems.add(
                    place,
                    mistake.hint("declare it under the token's `fields`, or use `${NAME}` alone"),
                );
            }
            (Some(_), _) => {}
        }
    }
}

fn unknown_token(name: &TokenName, config: &Config) -> Mistake {
    let mistake = Mistake::new(format!("no token is named `{name}`"));
    let names = || config.tokens.keys().map(TokenName::as_str);
    match nearest(name.as_str(), names()) {
        Some(meant) => mistake.hint(format!("did you mean `{meant}`?")),
        None if config.tokens.is_empty() => mistake.hint("declare it under `tokens`"),
        None => {
            let all: Vec<&str> = names().collect();
            mistake.hint(format!("declared under `tokens`: {}", all.join(", ")))
        }
    }
}

/// No token is made from itself by way of others.
fn cycles(config: &Config, plans: &[Plan], problems: &mut Problems) {
    let parents: BTreeMap<&TokenName, BTreeSet<TokenName>> = plans
        .iter()
        .map(|plan| (&plan.name, plan.source.parents().into_iter().collect()))
        .collect();
    let mut reported = BTreeSet::new();
    for start in parents.keys() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&TokenName> = parents[*start].iter().collect();
        while let Some(name) = open.pop() {
            if name == *start && reported.insert((*start).clone()) {
                let what = format!("the token `{start}` is made from itself");
                let mistake = Mistake::new(what).hint(
                    "follow the `${..}` references of its requests; they must form no circle",
                );
                problems.add(config.tokens[*start].place, mistake);
                break;
            }
            if seen.insert(name) {
                open.extend(parents.get(name).into_iter().flatten());
            }
        }
    }
}

/// No two tokens keep their state in one file: each would take the other's refresh token for its
/// own.
fn states(config: &Config, plans: &[Plan], problems: &mut Problems) {
    let mut known: BTreeMap<&Path, &TokenName> = BTreeMap::new();
    for plan in plans {
        let file = plan.source.state().and_then(Store::file);
        let Some(path) = file.map(StateFile::path) else { continue };
        if let Some(missing) = file.map(StateFile::directory).filter(|place| !place.is_dir()) {
            let what = format!(
                "the directory {} of the state file of `{}` is not there",
                missing.display(),
                plan.name
            );
            problems.add(
                config.tokens[&plan.name].place,
                Mistake::new(what).hint(
                    "create or mount it: a refresh token that is kept nowhere is lost at the end",
                ),
            );
        }
        if let Some(other) = known.insert(path, &plan.name) {
            let what = format!("`{}` and `{other}` keep their state in the same file", plan.name);
            problems.add(
                config.tokens[&plan.name].place,
                Mistake::new(what).hint("name a file of its own for each token"),
            );
        }
    }
}

/// The two listeners differ, and there is something to do.
fn listeners(config: &Config, problems: &mut Problems) {
    let (listen, admin) = (config.listen.inet(), config.admin.value.0);
    if listen == Some(admin) && admin.port() != 0 {
        problems.add(
            config.admin.place,
            Mistake::new("`listen` and `admin` are the same address")
                .hint("metrics and probes have a listener of their own; choose another port"),
        );
    }
    if config.routes.is_empty() {
        let mistake = Mistake::new("`routes` is empty").hint("add `- upstream: https://..`");
        problems.add(Place { line: 1, column: 1 }, mistake);
    }
    if let Some(workers) = config.workers.as_ref().filter(|workers| workers.value == 0) {
        let mistake = Mistake::new("`workers` must be at least 1");
        problems
            .add(workers.place, mistake.hint("remove the line for one worker on each CPU allowed"));
    }
}
