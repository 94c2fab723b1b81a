//! `bearerd init`: writes a configuration that works, from flags and from questions about what the
//! flags leave open. A secret that is typed goes into a file of its own.

mod ask;
mod compose;
mod discovery;
mod files;
mod provider;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::compose::{Endpoint, Plan, Proof};
use self::files::NewFile;
use self::provider::Provider;
use super::{BAD_CONFIG, complain, print, tell};
use crate::config::{self, Overrides};
use crate::vocab::{HttpUrl, Secret};

/// The arguments of `bearerd init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// Whose token endpoint it is
    #[arg(long, value_enum, default_value_t)]
    provider: Provider,
    /// The issuer; its token endpoint is found by /.well-known/openid-configuration
    #[arg(long, value_name = "URL", conflicts_with = "token_url")]
    issuer: Option<String>,
    /// The token endpoint
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// How the token is obtained
    #[arg(long, value_enum, default_value_t)]
    grant: Grant,
    /// The client's identifier
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A file that holds the client's secret
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// An environment variable that holds the client's secret
    #[arg(long, value_name = "NAME", conflicts_with = "client_secret_file")]
    client_secret_env: Option<String>,
    /// A public client: it has no secret
    #[arg(long, conflicts_with_all = ["client_secret_file", "client_secret_env"])]
    public_client: bool,
    /// How the client sends its secret
    #[arg(long, value_enum)]
    client_auth: Option<ClientAuth>,
    /// The user, for the password grant
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file that holds the user's password, for the password grant
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A file that holds the first refresh token, for the refresh-token grant
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
    /// A scope to ask for; may be repeated
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The audience to ask for
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// The API to which requests go
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "bearerd.yaml")]
    output: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Never ask; what is missing is an error. So it is where nobody is at a terminal
    #[arg(long)]
    no_input: bool,
}

/// The grants that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Grant {
    #[default]
    #[value(alias = "client_credentials")]
    ClientCredentials,
    Password,
    #[value(alias = "refresh_token")]
    RefreshToken,
}

/// How a client sends its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClientAuth {
    Basic,
    #[value(name = "basic_raw", alias = "basic-raw")]
    BasicRaw,
    Body,
}

impl ClientAuth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::BasicRaw => "basic_raw",
            Self::Body => "body",
        }
    }
}

/// Why nothing was written.
enum Fault {
    /// Something is missing or wrong with what was asked for.
    Usage(Vec<String>),
    /// Something failed.
    Failed(String),
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl Init {
    pub(super) fn run(mut self) -> ExitCode {
        match self.write() {
            Ok(told) if self.output == Path::new("-") => {
                tell(&told);
                ExitCode::SUCCESS
            }
            Ok(told) => print(&told),
            Err(Fault::Failed(text)) => {
                complain(&text);
                ExitCode::FAILURE
            }
            Err(Fault::Usage(problems)) => {
                for problem in problems {
                    complain(&problem);
                }
                ExitCode::from(BAD_CONFIG)
            }
        }
    }

    /// Writes the file; the words are for who asked for it.
    fn write(&mut self) -> Result<String, Fault> {
        let to_stdout = self.output == Path::new("-");
        if !to_stdout && !self.force && self.output.symlink_metadata().is_ok() {
            let path = self.output.display();
            return Err(Fault::Usage(vec![format!(
                "{path} is there already\n    hint: choose another by --output, or replace it by --force"
            )]));
        }
        if !self.no_input && ask::is_possible() {
            self.ask()?;
        }
        self.check()?;
        let endpoint = self.endpoint()?;
        let (secret, typed) = self.client_secret()?;
        let plan = self.plan(endpoint, secret)?;
        let text = compose::configuration(&plan);
        let loaded = config::parse(&text, Overrides::default()).map_err(|problems| {
            let file = self.output.display().to_string();
            let told = problems.sorted().iter().map(|problem| problem.render(&file)).collect();
            Fault::Usage(told)
        })?;
        if to_stdout {
            if let Some(secret) = typed {
                secret.keep();
            }
            print(&text);
            return Ok(String::new());
        }
        NewFile::create(&self.output, text.as_bytes(), self.force)?.keep();
        let mut told = String::new();
        if let Some(secret) = typed {
            told += &format!("wrote the client's secret to {}\n", secret.path().display());
            secret.keep();
        }
        Ok(told + &self.farewell(&plan, &loaded.describe()))
    }

    /// Asks for what no flag says.
    fn ask(&mut self) -> Result<(), Fault> {
        if self.issuer.is_none() && self.token_url.is_none() {
            let (question, example) = self.provider.question();
            let url = ask::line(question, example)?;
            if self.provider.is_discovered() { self.issuer = url } else { self.token_url = url }
        }
        if self.client_id.is_none() {
            self.client_id = ask::line("Client id", "")?;
        }
        if self.grant == Grant::Password && self.username.is_none() {
            self.username = ask::line("User name", "")?;
        }
        if self.provider.wants_scope() && self.scope.is_empty() {
            let scopes = ask::line("Scopes, separated by spaces", self.provider.scope_example())?;
            self.scope =
                scopes.iter().flat_map(|s| s.split_whitespace()).map(str::to_owned).collect();
        }
        if self.provider.wants_audience() && self.audience.is_none() {
            self.audience = ask::line("Audience of the API", "https://api.example.com")?;
        }
        if self.upstream.is_none() {
            self.upstream = ask::line("Upstream, the API's URL", "https://api.example.com")?;
        }
        Ok(())
    }

    /// Everything that is missing, at once.
    fn check(&self) -> Result<(), Fault> {
        let of_password = self.grant == Grant::Password;
        let of_refresh = self.grant == Grant::RefreshToken;
        let missing = [
            (self.issuer.is_none() && self.token_url.is_none(), "--issuer or --token-url"),
            (self.client_id.is_none(), "--client-id"),
            (
                !self.has_secret() && !self.may_ask(),
                "--client-secret-file, --client-secret-env or --public-client",
            ),
            (of_password && self.username.is_none(), "--username"),
            (of_password && self.password_file.is_none(), "--password-file"),
            (of_refresh && self.refresh_token_file.is_none(), "--refresh-token-file"),
            (self.provider.wants_scope() && self.scope.is_empty(), "--scope"),
            (self.provider.wants_audience() && self.audience.is_none(), "--audience"),
            (self.upstream.is_none(), "--upstream"),
        ];
        let missing: Vec<String> = missing
            .iter()
            .filter(|(is_missing, _)| *is_missing)
            .map(|(_, flag)| format!("{flag} is missing"))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Fault::Usage(missing)) }
    }

    const fn has_secret(&self) -> bool {
        self.public_client || self.client_secret_file.is_some() || self.client_secret_env.is_some()
    }

    fn may_ask(&self) -> bool {
        !self.no_input && ask::is_possible()
    }

    /// The token endpoint, found by the issuer if need be.
    fn endpoint(&self) -> Result<Endpoint, Fault> {
        if let Some(url) = &self.token_url {
            let given = HttpUrl::parse(url)
                .map_err(|mistake| Fault::Usage(vec![format!("--token-url: {}", mistake.what)]))?;
            return Ok(Endpoint { url: given.to_string(), auth: self.provider.auth() });
        }
        let issuer = self.issuer.as_deref().unwrap_or_default();
        discovery::find(issuer).map_err(|why| {
            Fault::Failed(format!(
                "cannot find the token endpoint of {issuer}: {why}\n    hint: check the URL, or name \
                 the endpoint by --token-url"
            ))
        })
    }

    /// Where the client's secret is; a typed one goes beside the configuration.
    fn client_secret(&self) -> Result<(Proof, Option<NewFile>), Fault> {
        if self.public_client {
            return Ok((Proof::None, None));
        }
        if let Some(name) = &self.client_secret_env {
            return Ok((Proof::Env(name.clone()), None));
        }
        if let Some(path) = &self.client_secret_file {
            return Ok((Proof::File(absolute(path)?), None));
        }
        let secret: Secret = ask::secret("Client secret")?;
        if secret.is_empty() {
            return Err(Fault::Usage(vec![
                "a client without a secret is a --public-client".to_owned(),
            ]));
        }
        let beside = if self.output == Path::new("-") { Path::new("") } else { &self.output };
        let path = absolute(&beside.with_file_name("bearerd-client-secret"))?;
        let file = NewFile::create(&path, secret.expose().as_bytes(), self.force)?;
        Ok((Proof::File(path), Some(file)))
    }

    fn plan(&self, endpoint: Endpoint, secret: Proof) -> Result<Plan, Fault> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        Ok(Plan {
            endpoint,
            secret,
            provider: self.provider,
            grant: self.grant,
            client_id: self.client_id.clone().unwrap_or_default(),
            client_auth: self.client_auth,
            username: self.username.clone(),
            password: file(&self.password_file)?,
            refresh_token: file(&self.refresh_token_file)?,
            scopes: self.scope.clone(),
            audience: self.audience.clone(),
            upstream: self.upstream.clone().unwrap_or_default(),
        })
    }

    fn farewell(&self, plan: &Plan, described: &str) -> String {
        let path = self.output.display();
        format!(
            "wrote {path}, readable by you alone; it holds no secret\n\n{described}\nNext:\n\n    bearerd \
             token api --config {path}      # can the token be had?\n    bearerd run --config {path}            \
             # http://127.0.0.1:8080 -> {}\n",
            plan.upstream
        )
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path).map_err(|error| Fault::Failed(format!("{}: {error}", path.display())))
}
