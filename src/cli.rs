//! The command line. The only file that prints to standard output.

mod init;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::init::Init;
use crate::app::{self, StartError};
use crate::config::{self, Loaded, Overrides};
use crate::demo;
use crate::server::Endpoint;
use crate::telemetry::log::{self, Format};
use crate::vocab::{TokenName, nearest};

/// A bad configuration (`EX_USAGE` of sysexits).
const BAD_CONFIG: u8 = 64;

/// Carries credentials for programs that should hold none.
#[derive(Debug, Parser)]
#[command(name = "bearerd", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run(Run),
    /// Check a configuration and say what it would do
    Check(ConfigFile),
    /// Write a configuration, from flags and a few questions
    Init(Box<Init>),
    /// Obtain one token and tell about it
    Token(Token),
    /// Run the proxy in front of an issuer and an API of its own, to try it out
    Demo(Demo),
    /// Ask a running bearerd whether it is alive (or, with --ready, ready); exit 0 or 1
    Health(Health),
    /// Print the JSON schema of the configuration
    Schema,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "BEARERD_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Addresses {
    /// Where clients connect, over the configuration's `listen`
    #[arg(long, value_name = "ADDR", env = "BEARERD_LISTEN")]
    listen: Option<Endpoint>,
    /// Where metrics and probes are served, over the configuration's `admin`
    #[arg(long, value_name = "ADDR", env = "BEARERD_ADMIN")]
    admin: Option<SocketAddr>,
    /// The form of the log
    #[arg(long, value_enum, default_value_t, env = "BEARERD_LOG")]
    log: Format,
    /// Threads that carry requests
    #[arg(long, value_name = "N", env = "BEARERD_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

impl Addresses {
    fn overrides(&self) -> Overrides {
        Overrides { listen: self.listen.clone(), admin: self.admin, workers: self.workers }
    }
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    addresses: Addresses,
}

#[derive(Debug, Args)]
struct Token {
    /// The token's name in the configuration
    name: String,
    #[command(flatten)]
    file: ConfigFile,
    /// Print the value itself
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct Demo {
    #[command(flatten)]
    addresses: Addresses,
}

#[derive(Debug, Args)]
struct Health {
    /// The admin listener to ask
    #[arg(long, value_name = "ADDR", env = "BEARERD_ADMIN", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Ask for readiness instead of liveness
    #[arg(long)]
    ready: bool,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Check(file) => file.check(),
        Command::Init(init) => init.run(),
        Command::Token(token) => token.run(),
        Command::Demo(demo) => demo.run(),
        Command::Health(health) => health.run(),
        Command::Schema => print(&config::schema()),
    }
}

impl ConfigFile {
    fn load(&self, overrides: Overrides) -> Result<Loaded, ExitCode> {
        config::load(&self.config, overrides).map_err(|error| {
            // Each line begins with the place, so that editors and terminals can jump there.
            tell(&format!("{error}\n"));
            ExitCode::from(BAD_CONFIG)
        })
    }

    fn check(&self) -> ExitCode {
        match self.load(Overrides::default()) {
            Ok(loaded) => print(&loaded.describe()),
            Err(code) => code,
        }
    }
}

impl Run {
    fn run(&self) -> ExitCode {
        log::init(self.addresses.log);
        let overrides = self.addresses.overrides();
        match self.file.load(overrides.clone()) {
            Ok(loaded) => ended(app::run(loaded, Some(self.file.config.clone()), overrides)),
            Err(code) => code,
        }
    }
}

impl Demo {
    fn run(&self) -> ExitCode {
        log::init(self.addresses.log);
        ended(demo::run(self.addresses.overrides(), |text| {
            print(text);
        }))
    }
}

impl Token {
    fn run(&self) -> ExitCode {
        let loaded = match self.file.load(Overrides::default()) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let names: Vec<String> = loaded.plans.iter().map(|plan| plan.name.to_string()).collect();
        let name = TokenName::parse(&self.name).ok().filter(|_| names.contains(&self.name));
        let Some(name) = name else {
            let hint = match nearest(&self.name, names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("configured: {}", names.join(", ")),
            };
            complain(&format!("no token is named `{}`\n    hint: {hint}", self.name));
            return ExitCode::from(BAD_CONFIG);
        };
        match app::obtain(loaded, &name, self.reveal) {
            Ok(text) => print(&text),
            Err(error) => {
                complain(&error.to_string());
                ExitCode::FAILURE
            }
        }
    }
}

impl Health {
    /// Without the async machinery: it runs every few seconds as a probe.
    fn run(&self) -> ExitCode {
        let path = if self.ready { "/readyz" } else { "/livez" };
        match self.ask(path) {
            Ok((true, _)) => ExitCode::SUCCESS,
            Ok((false, body)) => {
                complain(body.trim_end());
                ExitCode::FAILURE
            }
            Err(error) => {
                complain(&format!("cannot ask {}: {error}", self.admin));
                ExitCode::FAILURE
            }
        }
    }

    /// The variable that says where to listen may say "everywhere", where nobody can be asked.
    fn address(&self) -> SocketAddr {
        let mut address = self.admin;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        address
    }

    fn ask(&self, path: &str) -> io::Result<(bool, String)> {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.address(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address()
        )?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((answer.starts_with("HTTP/1.1 200"), body.to_owned()))
    }
}

fn ended(outcome: Result<(), StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(error)) => {
            tell(&format!("{error}\n"));
            ExitCode::from(BAD_CONFIG)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output; a reader that went away is no fault.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Complains on standard error, where logging may not be set up.
fn complain(text: &str) {
    tell(&format!("bearerd: {text}\n"));
}

/// Where standard error is gone there is nobody left to tell.
fn tell(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
