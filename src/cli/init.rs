//! `bearerd init`: writes a configuration that works, from flags and from questions about what the
//! flags leave open. A secret that is typed goes into a file of its own.

mod ask;
mod client;
mod compose;
mod discovery;
mod files;
mod google;
mod provider;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::client::{ClientAuth, Grant};
use self::compose::{Endpoint, OAuth2, Plan, Proof, Source};
use self::files::NewFile;
use self::google::Wanted;
use self::provider::Provider;
use super::{BAD_CONFIG, complain, print, tell};
use crate::config::{self, Overrides};
use crate::vocab::{HttpUrl, Mistake, Problem, Secret};

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
    /// How the token is obtained; client-credentials unless said
    #[arg(long, value_enum)]
    grant: Option<Grant>,
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
    /// The JSON file with a service account's key, for Google
    #[arg(long, value_name = "FILE")]
    service_account_file: Option<PathBuf>,
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

/// A file with a secret, and what is in it.
type Written = (&'static str, NewFile);

/// Why nothing was written.
enum Fault {
    /// Something is missing or wrong with what was asked for.
    Usage(Vec<String>),
    /// Something failed.
    Failed(String),
    /// This signal came.
    Ended(i32),
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
            // As a shell tells of one that a signal has ended.
            Err(Fault::Ended(signal)) => {
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
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
        let (source, written) =
            if self.is_google() { self.service_account()? } else { self.client()? };
        let upstream = self.upstream.clone().unwrap_or_default();
        let plan = Plan { provider: self.provider, source, upstream };
        let text = compose::configuration(&plan);
        let loaded = config::parse(&text, Overrides::default()).map_err(|problems| {
            let told = problems.sorted().iter().map(|problem| unsound(&text, problem)).collect();
            Fault::Usage(told)
        })?;
        if to_stdout {
            if let Some((_, secret)) = written {
                secret.keep();
            }
            print(&text);
            return Ok(String::new());
        }
        NewFile::create(&self.output, text.as_bytes(), self.force)?.keep();
        let mut told = String::new();
        if let Some((what, secret)) = written {
            told += &format!("wrote {what} to {}\n", secret.path().display());
            secret.keep();
        }
        Ok(told + &self.farewell(&plan, &loaded.describe()))
    }

    /// Asks for what no flag says.
    fn ask(&mut self) -> Result<(), Fault> {
        if self.is_google() {
            if self.service_account_file.is_none() {
                let path = ask::line("File with the service account's key", "./key.json")?;
                self.service_account_file = path.map(PathBuf::from);
            }
        } else {
            self.ask_of_the_client()?;
        }
        if self.wants_scope() && self.scope.is_empty() {
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

    fn ask_of_the_client(&mut self) -> Result<(), Fault> {
        if self.issuer.is_none() && self.token_url.is_none() {
            let (question, example) = self.provider.question();
            let url = ask::line(question, example)?;
            if self.provider.is_discovered() { self.issuer = url } else { self.token_url = url }
        }
        if self.client_id.is_none() {
            self.client_id = ask::line("Client id", "")?;
        }
        if self.grant() == Grant::Password && self.username.is_none() {
            self.username = ask::line("User name", "")?;
        }
        Ok(())
    }

    /// Everything that is missing or out of place, at once.
    fn check(&self) -> Result<(), Fault> {
        let client = !self.is_google();
        let of_password = self.grant() == Grant::Password;
        let of_refresh = self.grant() == Grant::RefreshToken;
        let missing = [
            (
                client && self.issuer.is_none() && self.token_url.is_none(),
                "--issuer or --token-url",
            ),
            (client && self.client_id.is_none(), "--client-id"),
            (
                client && !self.has_secret() && !self.may_ask(),
                "--client-secret-file, --client-secret-env or --public-client",
            ),
            (client && of_password && self.username.is_none(), "--username"),
            (client && of_password && self.password_file.is_none(), "--password-file"),
            (client && of_refresh && self.refresh_token_file.is_none(), "--refresh-token-file"),
            (!client && self.service_account_file.is_none(), "--service-account-file"),
            (
                self.wants_scope() && self.scope.is_empty(),
                if client { "--scope" } else { "--scope or --audience" },
            ),
            (self.provider.wants_audience() && self.audience.is_none(), "--audience"),
            (self.upstream.is_none(), "--upstream"),
        ];
        let told = |list: &[(bool, &str)], what: &str| -> Vec<String> {
            list.iter().filter(|(is, _)| *is).map(|(_, flag)| format!("{flag} {what}")).collect()
        };
        let mut problems = told(&missing, "is missing");
        if client {
            let of_google = self.service_account_file.is_some();
            problems.extend(told(
                &[(of_google, "--service-account-file")],
                "is for --provider google alone",
            ));
        } else {
            problems.extend(told(&self.of_a_client(), "is not for --provider google"));
            let both = self.audience.is_some() && !self.scope.is_empty();
            problems.extend(told(
                &[(both, "--audience")],
                "asks for an ID token and --scope for an access token: one of them",
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(Fault::Usage(problems)) }
    }

    /// What only a client of a token endpoint has, and whether it was given.
    const fn of_a_client(&self) -> [(bool, &'static str); 11] {
        [
            (self.issuer.is_some(), "--issuer"),
            (self.token_url.is_some(), "--token-url"),
            (self.grant.is_some(), "--grant"),
            (self.client_id.is_some(), "--client-id"),
            (self.client_secret_file.is_some(), "--client-secret-file"),
            (self.client_secret_env.is_some(), "--client-secret-env"),
            (self.public_client, "--public-client"),
            (self.client_auth.is_some(), "--client-auth"),
            (self.username.is_some(), "--username"),
            (self.password_file.is_some(), "--password-file"),
            (self.refresh_token_file.is_some(), "--refresh-token-file"),
        ]
    }

    fn is_google(&self) -> bool {
        self.provider == Provider::Google
    }

    fn grant(&self) -> Grant {
        self.grant.unwrap_or_default()
    }

    /// Google gives an access token for a scope, or an ID token for an audience.
    fn wants_scope(&self) -> bool {
        self.provider.wants_scope() && !(self.is_google() && self.audience.is_some())
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
        let file = self.beside("bearerd-client-secret", &secret)?;
        Ok((Proof::File(file.path().to_owned()), Some(file)))
    }

    /// A secret in a file of its own, beside the configuration.
    fn beside(&self, name: &str, secret: &Secret) -> Result<NewFile, Fault> {
        let beside = if self.output == Path::new("-") { Path::new("") } else { &self.output };
        let path = absolute(&beside.with_file_name(name))?;
        Ok(NewFile::create(&path, secret.expose().as_bytes(), self.force)?)
    }

    /// A client of a token endpoint, and the file of its secret if that is new.
    fn client(&self) -> Result<(Source, Option<Written>), Fault> {
        let endpoint = self.endpoint()?;
        let (secret, typed) = self.client_secret()?;
        let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let client = OAuth2 {
            endpoint,
            secret,
            grant: self.grant(),
            client_id: self.client_id.clone().unwrap_or_default(),
            client_auth: self.client_auth,
            username: self.username.clone(),
            password: file(&self.password_file)?,
            refresh_token: file(&self.refresh_token_file)?,
            scopes: self.scope.clone(),
            audience: self.audience.clone(),
        };
        let written = typed.map(|file| ("the client's secret", file));
        Ok((Source::OAuth2(Box::new(client)), written))
    }

    /// A service account, and the file of its key, which is new.
    fn service_account(&self) -> Result<(Source, Option<Written>), Fault> {
        let path = self.service_account_file.as_deref().unwrap_or_else(|| Path::new(""));
        let (account, key) = google::read(path)?;
        let wanted = match &self.audience {
            Some(audience) => Wanted::Identity(audience.clone()),
            None => Wanted::Access(self.scope.clone()),
        };
        let file = self.beside(google::KEY_FILE, &key)?;
        let source = Source::Google(account, wanted, file.path().to_owned());
        Ok((source, Some(("the account's private key", file))))
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

/// What is wrong with a configuration that is therefore not written, by its line.
fn unsound(text: &str, problem: &Problem) -> String {
    let line = problem.place.and_then(|place| usize::try_from(place.line).ok());
    let line = line.and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    let Mistake { what, hint } = &problem.mistake;
    let hint = hint.iter().map(|hint| format!("\n    hint: {hint}")).collect::<String>();
    format!("nothing is written, since `{}` would not do: {what}{hint}", line.trim())
}

fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path).map_err(|error| Fault::Failed(format!("{}: {error}", path.display())))
}
