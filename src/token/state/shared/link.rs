//! The connection to the store: kept open in the background, so that whoever uses it never waits
//! for more than one short answer. While there is none, every use fails at once.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, Value,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::condition::Condition;
use super::settings::{Place, Settings};
use crate::net::dial::Dialer;
use crate::net::io::Io;
use crate::net::tls::{Tls, TlsError};
use crate::shutdown::Shutdown;
use crate::vocab::Moment;

/// Longest time for one command. A store may save calls to the issuer; it may not delay them.
const ANSWER: Duration = Duration::from_millis(500);

/// Longest time for a connection with all that belongs to it.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the first connection is waited for.
const FIRST: Duration = Duration::from_millis(750);

/// The pauses between connections that fail: from this, doubling …
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// … to this, unless one lasted for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How connections are opened.
///
/// # Errors
/// TLS settings that cannot work.
pub(super) fn dialer(settings: &Settings) -> Result<Dialer, TlsError> {
    let dialer = match &settings.url.value.place {
        Place::Unix(path) => Dialer::to(String::new(), 0, None, CONNECT).over(path.clone()),
        Place::Tcp { host, port, tls } => {
            let tls = tls.then(|| Tls::new(host, &settings.tls, &[])).transpose()?;
            Dialer::to(host.clone(), *port, tls, CONNECT)
        }
    };
    // A renewal may hang on it.
    Ok(dialer.with_last_descriptors())
}

/// Where the connection stands.
enum Phase {
    Starting,
    Up(MultiplexedConnection),
    Away,
}

/// The store cannot be used now. Why was told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Away {
    /// Nothing was sent.
    Unsent,
    /// The store may have done what it was told.
    Unknown,
}

/// One token's connection. It ends with the value.
pub(super) struct Link {
    phase: watch::Receiver<Phase>,
    failed: mpsc::UnboundedSender<String>,
    condition: Arc<Condition>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// Begins to connect. Whatever comes by `channel` wakes `news`, and so does every new
    /// connection.
    pub(super) fn open(
        settings: &Settings,
        dialer: Dialer,
        channel: String,
        condition: Arc<Condition>,
        tasks: &Shutdown,
    ) -> Self {
        let (into, phase) = watch::channel(Phase::Starting);
        let (failed, failures) = mpsc::unbounded_channel();
        let settings = settings.clone();
        let keeper =
            Keeper { settings, dialer, channel, condition: Arc::clone(&condition), failures };
        let task = AbortOnDropHandle::new(tasks.spawn(keeper.run(into)));
        Self { phase, failed, condition, _task: task }
    }

    /// Returns when it is known whether there is a connection, or when that takes too long.
    pub(super) async fn known(&mut self) {
        let known = self.phase.wait_for(|phase| !matches!(phase, Phase::Starting));
        drop(tokio::time::timeout(FIRST, known).await);
    }

    /// Sends one command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        let Phase::Up(mut connection) = self.phase_now() else { return Err(Away::Unsent) };
        let answer = command.query_async::<T>(&mut connection);
        let why = match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => {
                self.condition.up();
                return Ok(answer);
            }
            Ok(Err(error)) => shown(&error),
            Err(_) => format!("no answer within {ANSWER:?}"),
        };
        self.condition.failed(&why);
        // The keeper ends with the link.
        self.failed.send(why).ok();
        Err(Away::Unknown)
    }

    fn phase_now(&self) -> Phase {
        match &*self.phase.borrow() {
            Phase::Up(connection) => Phase::Up(connection.clone()),
            Phase::Starting | Phase::Away => Phase::Away,
        }
    }
}

/// Opens connections for as long as the link lives.
struct Keeper {
    settings: Settings,
    dialer: Dialer,
    channel: String,
    condition: Arc<Condition>,
    failures: mpsc::UnboundedReceiver<String>,
}

impl Keeper {
    async fn run(mut self, into: watch::Sender<Phase>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Moment::now();
            let why = match self.dialer.dial().await {
                Ok(io) => self.serve(io, &into).await,
                Err(error) => error.to_string(),
            };
            into.send_replace(Phase::Away);
            self.condition.away(&why);
            if Moment::now().since(began) > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Greets, follows the channel, and stays until something fails; why it did.
    async fn serve(&mut self, io: Io, into: &watch::Sender<Phase>) -> String {
        let login = match self.login() {
            Ok(login) => login,
            Err(why) => return why,
        };
        let condition = Arc::clone(&self.condition);
        let config = AsyncConnectionConfig::new()
            // Deadlines are ours.
            .set_response_timeout(None)
            .set_push_sender(move |push| {
                condition.heard(&push);
                Ok::<_, std::convert::Infallible>(())
            });
        let greeting = MultiplexedConnection::new_with_config(&login, io, config);
        let (mut connection, driver) = match tokio::time::timeout(CONNECT, greeting).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return shown(&error),
            Err(_) => return format!("no greeting within {CONNECT:?}"),
        };
        let mut driver = Box::pin(driver);
        let following = tokio::time::timeout(CONNECT, connection.subscribe(&self.channel));
        let followed = tokio::select! {
            followed = following => followed,
            () = &mut driver => return "the connection has ended".to_owned(),
        };
        match followed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return shown(&error),
            Err(_) => return format!("no answer within {CONNECT:?}"),
        }
        // Failures of the connection before are over.
        while self.failures.try_recv().is_ok() {}
        into.send_replace(Phase::Up(connection));
        // Whatever was said meanwhile was missed.
        self.condition.news.notify_one();
        tokio::select! {
            () = &mut driver => "the connection has ended".to_owned(),
            why = self.failures.recv() => why.unwrap_or_default(),
        }
    }

    fn login(&self) -> Result<RedisConnectionInfo, String> {
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.settings.url.value.database.into())
            .set_lib_name("bearerd", env!("CARGO_PKG_VERSION"));
        if let Some(name) = &self.settings.username {
            login = login.set_username(name.as_str());
        }
        if let Some(password) = &self.settings.password {
            let password = password.read().map_err(|failure| failure.detail)?;
            login = login.set_password(password.expose());
        }
        Ok(login)
    }
}

/// In words that hold nothing of a command: a server may quote what it refuses.
fn shown(error: &RedisError) -> String {
    let code = error.code().filter(|code| code.bytes().all(|b| b.is_ascii_uppercase()));
    match code {
        Some(code) => format!("Redis refuses: {code}"),
        None => format!("Redis: {}", error.category()),
    }
}

impl Condition {
    fn heard(&self, push: &PushInfo) {
        if push.kind == PushKind::Message {
            if let Some(Value::BulkString(message)) = push.data.get(1) {
                self.message(message);
            }
            self.news.notify_one();
        }
    }
}
