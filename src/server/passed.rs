//! Sockets that a service manager has opened for this process, by the protocol of
//! `sd_listen_fds(3)`.

use std::env;
use std::io;

use listenfd::ListenFd;

use super::listener::Listener;

/// More sockets than anybody passes.
const MOST: u16 = 1024;

/// Why there is no socket to listen at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedError {
    /// Nothing was passed to this process.
    #[error(
        "no socket was passed to this process ({0}); start bearerd through its socket unit \
         (`systemctl enable --now bearerd.socket`), or give `listen` an address"
    )]
    None(String),
    /// None has the name, or no name was given and there are several.
    #[error(
        "{0}; passed are: {1}; write `listen: systemd:NAME` with a name that one socket has \
         (`FileDescriptorName=` of the socket unit)"
    )]
    Ambiguous(String, String),
    /// It is nothing that connections come in by.
    #[error(
        "the passed socket {0} cannot be listened at: {1}; the socket unit needs \
         `ListenStream=` and `Accept=no`"
    )]
    Unfit(String, String),
}

/// Takes the socket of this `name` over, or the only one. It becomes close-on-exec and
/// non-blocking; its file, if it has one, is the manager's and stays.
///
/// To be called once, before there are threads: the variables are taken out of the environment.
///
/// # Errors
/// There is none, or not just one, or it is not a listening stream socket.
pub fn take(name: Option<&str>) -> Result<Listener, PassedError> {
    let variable = |name| env::var(name).ok();
    let count = count(variable("LISTEN_FDS"), variable("LISTEN_PID"), std::process::id())?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').chain(std::iter::repeat("")).take(count).collect();
    let index = choose(&names, name)?;
    let unfit = |why: String| {
        let label = if names[index].is_empty() { "without a name" } else { names[index] };
        PassedError::Unfit(label.to_owned(), why)
    };
    adopt(index).map_err(|error| unfit(error.to_string()))
}

fn adopt(index: usize) -> io::Result<Listener> {
    let mut passed = ListenFd::from_env();
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    if let Ok(socket) = passed.take_tcp_listener(index) {
        return Listener::adopt_tcp(socket.ok_or_else(gone)?);
    }
    match passed.take_unix_listener(index) {
        Ok(socket) => Listener::adopt_unix(socket.ok_or_else(gone)?),
        Err(_) => Err(io::Error::other("it is no stream socket of TCP or Unix")),
    }
}

/// How many sockets were passed to the process `own`; at least one.
fn count(fds: Option<String>, pid: Option<String>, own: u32) -> Result<usize, PassedError> {
    let none = |why: String| Err(PassedError::None(why));
    let Some(fds) = fds else { return none("LISTEN_FDS is not set".to_owned()) };
    match pid {
        Some(pid) if pid.parse() == Ok(own) => {}
        Some(pid) => return none(format!("LISTEN_PID is {pid:?}, and this is {own}")),
        None => return none("LISTEN_PID is not set".to_owned()),
    }
    match fds.parse() {
        Ok(count @ 1..=MOST) => Ok(usize::from(count)),
        _ => none(format!("LISTEN_FDS is {fds:?}")),
    }
}

/// Which of the sockets with these names is meant.
fn choose(names: &[&str], wanted: Option<&str>) -> Result<usize, PassedError> {
    let fits = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let mut fitting = (0..names.len()).filter(|&index| fits(names[index]));
    match (fitting.next(), fitting.next()) {
        (Some(index), None) => Ok(index),
        (first, _) => {
            let what = match (wanted, first) {
                (Some(name), None) => format!("no passed socket is named `{name}`"),
                (Some(name), Some(_)) => format!("more than one passed socket is named `{name}`"),
                (None, _) => "more than one socket was passed".to_owned(),
            };
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Err(PassedError::Ambiguous(what, quoted.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_to_another_process_or_is_no_number_is_nothing() {
        let told = |fds: Option<&str>, pid: Option<&str>| {
            count(fds.map(str::to_owned), pid.map(str::to_owned), 7)
        };
        assert_eq!(told(Some("2"), Some("7")), Ok(2));
        for (fds, pid, words) in [
            (None, Some("7"), "LISTEN_FDS is not set"),
            (Some("1"), None, "LISTEN_PID is not set"),
            (Some("1"), Some("8"), "LISTEN_PID is \"8\", and this is 7"),
            (Some("1"), Some(""), "LISTEN_PID"),
            (Some("0"), Some("7"), "LISTEN_FDS is \"0\""),
            (Some("-1"), Some("7"), "LISTEN_FDS is"),
            (Some("4000000000"), Some("7"), "LISTEN_FDS is"),
        ] {
            let error = told(fds, pid).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("bearerd.socket"), "{error}");
        }
    }

    #[test]
    fn one_socket_is_meant_or_none() {
        assert_eq!(choose(&["any"], None), Ok(0));
        assert_eq!(choose(&["a", "b"], Some("b")), Ok(1));
        for (names, wanted, words) in [
            (["a", "b"], None, "more than one socket was passed"),
            (["a", "b"], Some("c"), "no passed socket is named `c`; passed are: `a`, `b`"),
            (["a", "a"], Some("a"), "more than one passed socket is named `a`"),
        ] {
            let error = choose(&names, wanted).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
