//! What a sound configuration would do, in words, without a secret.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Loaded;

impl Loaded {
    /// The plan, for `bearerd check`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut out = String::new();
        let config = &self.config;
        let mut line = |text: std::fmt::Arguments<'_>| {
            let written = writeln!(out, "{text}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        };
        line(format_args!("ok: {} token(s), {} route(s)", self.plans.len(), config.routes.len()));
        line(format_args!("listen {}, admin {}", config.listen.value, config.admin.value.0));
        if config.tls.is_some() {
            line(format_args!("clients speak TLS"));
        }
        if !config.listen.value.is_local() {
            let shows = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
            let proof = match &config.caller {
                Some(caller) => format!("and sends `{}`", caller.header.value.as_header()),
                None if shows => "and shows a certificate".to_owned(),
                None => "and needs no proof".to_owned(),
            };
            line(format_args!(
                "warning: `listen` is not a loopback address; whoever reaches it {proof} has the tokens' authority"
            ));
        }
        for warning in &self.warnings {
            line(format_args!("warning: {warning}"));
        }
        for plan in &self.plans {
            let used =
                config.routes.iter().any(|route| {
                    let mut templates = route.inject.values().map(|field| field.template());
                    templates.any(|template| template.tokens().any(|(name, _)| *name == plan.name))
                }) || self.plans.iter().any(|other| other.source.parents().contains(&plan.name));
            let note = if used { "" } else { " (warning: nothing uses it)" };
            line(format_args!(
                "token {}: {} from {}{note}",
                plan.name,
                plan.kind.name(),
                plan.source.describe()
            ));
            let secrets: BTreeSet<String> =
                plan.source.secrets().iter().map(|secret| secret.source().describe()).collect();
            for secret in secrets {
                line(format_args!("  secret from {secret}"));
            }
        }
        for (index, route) in config.routes.iter().enumerate() {
            let host = route.matches.host.as_ref().map_or("any host", |host| host.as_str());
            let path = route.matches.path.as_ref().map_or("/", |path| path.as_str());
            let upstream = &route.upstream.value;
            line(format_args!("route {}: {host} {path} -> {upstream}", route.name(index)));
            for (name, field) in &route.inject {
                let tokens: Vec<&str> =
                    field.template().tokens().map(|(name, _)| name.as_str()).collect();
                let name = name.as_header();
                if tokens.is_empty() {
                    line(format_args!("  sets {name}"));
                } else {
                    line(format_args!("  sets {name} from {}", tokens.join(", ")));
                }
            }
        }
        out
    }
}
