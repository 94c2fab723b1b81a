//! From answers to the text of a configuration. What a person gave is quoted, so that it is text
//! and nothing else whatever it holds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::client::{ClientAuth, Grant};
use super::google::{self, Account, Wanted};
use super::provider::Provider;

/// A token endpoint and how its clients send their secrets, if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) auth: Option<ClientAuth>,
}

/// Where the client's secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    None,
    File(PathBuf),
    Env(String),
}

/// All that the text is made from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) provider: Provider,
    pub(super) source: Source,
    pub(super) upstream: String,
}

/// Where the token comes from.
#[derive(Debug)]
pub(super) enum Source {
    OAuth2(Box<OAuth2>),
    /// The last is where the account's key is.
    Google(Account, Wanted, PathBuf),
}

/// A client of a token endpoint.
#[derive(Debug)]
pub(super) struct OAuth2 {
    pub(super) endpoint: Endpoint,
    pub(super) secret: Proof,
    pub(super) grant: Grant,
    pub(super) client_id: String,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) username: Option<String>,
    pub(super) password: Option<PathBuf>,
    pub(super) refresh_token: Option<PathBuf>,
    pub(super) scopes: Vec<String>,
    pub(super) audience: Option<String>,
}

/// The configuration.
pub(super) fn configuration(plan: &Plan) -> String {
    let mut out = String::from(
        "# Written by `bearerd init`. config.example.yaml of the project shows every key; `bearerd check`
# tells what a file would do. A secret is never written here: {file: PATH} or {env: NAME}.

tokens:
",
    );
    if let Some(remark) = plan.provider.remark() {
        line(&mut out, format_args!("  # {remark}"));
    }
    match &plan.source {
        Source::OAuth2(client) => oauth2(&mut out, client),
        Source::Google(account, wanted, key) => google::tokens(&mut out, account, wanted, key),
    }
    line(
        &mut out,
        format_args!(
            "
routes:
  - name: api                   # its name in metrics and logs
    upstream: {}
    inject:
      Authorization: \"Bearer ${{api}}\"
    # A page of a browser may call it only if its origin is listed:
    # cors: {{origins: [\"http://localhost:5173\"]}}",
            quoted(&plan.upstream)
        ),
    );
    out
}

fn oauth2(out: &mut String, plan: &OAuth2) {
    out.push_str(
        "  api:                          # the name by which `inject` refers to it\n    oauth2:\n",
    );
    let mut key = |name: &str, value: &str| line(out, format_args!("      {name}: {value}"));
    key("token_url", &quoted(&plan.endpoint.url));
    key(
        "grant",
        match plan.grant {
            Grant::ClientCredentials => "client_credentials",
            Grant::Password => "password",
            Grant::RefreshToken => "refresh_token",
        },
    );
    key("client_id", &quoted(&plan.client_id));
    match &plan.secret {
        Proof::None => {}
        Proof::File(path) => key("client_secret", &file(path)),
        Proof::Env(name) => key("client_secret", &format!("{{env: {}}}", quoted(name))),
    }
    if plan.secret != Proof::None
        && let Some(auth) = plan.client_auth.or(plan.endpoint.auth)
    {
        key("client_auth", auth.as_str());
    }
    if let Some(username) = &plan.username {
        key("username", &quoted(username));
    }
    if let Some(path) = &plan.password {
        key("password", &file(path));
    }
    if let Some(path) = &plan.refresh_token {
        key("refresh_token", &file(path));
    }
    if !plan.scopes.is_empty() {
        let scopes: Vec<String> = plan.scopes.iter().map(|scope| quoted(scope)).collect();
        key("scopes", &format!("[{}]", scopes.join(", ")));
    }
    if let Some(audience) = &plan.audience {
        key("params", &format!("{{audience: {}}}", quoted(audience)));
    }
}

pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

pub(super) fn file(path: &Path) -> String {
    format!("{{file: {}}}", quoted(&path.display().to_string()))
}

/// A JSON string, which is a YAML string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    #[test]
    fn whatever_is_given_is_text() {
        let client = |text: &str| OAuth2 {
            endpoint: Endpoint { url: "https://idp.example.com/token".to_owned(), auth: None },
            secret: Proof::Env("PATH".to_owned()),
            grant: Grant::ClientCredentials,
            client_id: text.to_owned(),
            client_auth: Some(ClientAuth::Body),
            username: None,
            password: None,
            refresh_token: None,
            scopes: vec![text.to_owned()],
            audience: Some(text.to_owned()),
        };
        let plan = |text: &str| Plan {
            provider: Provider::Generic,
            source: Source::OAuth2(Box::new(client(text))),
            upstream: "https://api.example.com".to_owned(),
        };
        for text in
            ["plain", "a: b", "\"', [x]", "- #", "yes", "1e3", "a\nb: c", "\u{2028}\u{85}", "*x &y"]
        {
            let loaded = config::parse(&configuration(&plan(text)), Overrides::default());
            let loaded = loaded.unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"));
            assert_eq!((loaded.plans.len(), loaded.config.routes.len()), (1, 1), "{text:?}");
        }
    }
}
