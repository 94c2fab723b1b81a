//! Sockets that a service manager opens and passes (`sd_listen_fds(3)`).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{PATIENCE, Place, Process, Upstream, eventually, file};

/// bearerd with `sockets`, at most two, from descriptor 3 on. A shell puts them there: what a child
/// finds elsewhere than at its standard streams, only unsafe code could arrange.
fn passing(config: &Path, names: &str, sockets: Vec<OwnedFd>) -> Command {
    let (count, mut sockets) = (sockets.len(), sockets.into_iter());
    let mut stream = || sockets.next().map_or_else(Stdio::null, Stdio::from);
    let mut command = Command::new("/bin/sh");
    let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_bearerd")])
        .args(["run", "--admin", "127.0.0.1:0", "--config"])
        .arg(config)
        .env_clear()
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(stream())
        .stdout(stream());
    command
}

/// The exit code and the words of one that does not start.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn routes(upstream: &Upstream, listen: &str, more: &str) -> PathBuf {
    let url = upstream.url();
    let config = format!("listen: {listen}\n{more}routes: [{{upstream: '{url}'}}]\n");
    file("passed.yaml", &config)
}

fn ask(mut stream: impl Read + Write, host: &str, more: &str) -> String {
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Free, and listening where a test keeps it.
fn socket(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn clients_of_a_passed_socket_wait_for_the_start_and_outlast_the_end() {
    let upstream = Upstream::ok();
    let (kept, address) = socket("127.0.0.2:0");
    // Before anybody is there to accept it.
    let early = connect(address);
    let sockets = vec![kept.try_clone().unwrap().into()];
    let process = Process::spawn(passing(&routes(&upstream, "systemd", ""), "proxy", sockets));
    assert!(ask(early, "localhost", "").starts_with("HTTP/1.1 200 OK\r\n"));
    // The guard goes by the address that is really bound.
    let own = ask(connect(address), &address.to_string(), "");
    assert!(own.starts_with("HTTP/1.1 200 OK\r\n"), "{own}");
    for other in ["evil.example", "127.0.0.3"] {
        assert!(ask(connect(address), other, "").starts_with("HTTP/1.1 403 "), "{other}");
    }
    assert!(process.log().contains(&format!("proxy={address}")), "{}", process.log());
    process.stop();
    let late = connect(address);
    let sockets = vec![kept.try_clone().unwrap().into()];
    let again = Process::spawn(passing(&routes(&upstream, "systemd", ""), "proxy", sockets));
    assert!(ask(late, "localhost", "").starts_with("HTTP/1.1 200 OK\r\n"), "{}", again.log());
}

#[cfg(target_os = "linux")]
#[test]
fn a_passed_socket_is_not_inherited_and_does_not_block() {
    let upstream = Upstream::ok();
    let (kept, _) = socket("127.0.0.1:0");
    let inode = fs::read_link(format!("/proc/self/fd/{}", kept.as_raw_fd())).unwrap();
    let sockets = vec![kept.into()];
    let process = Process::spawn(passing(&routes(&upstream, "systemd", ""), "", sockets));
    let own = format!("/proc/{}", process.id());
    let mut found = 0;
    for entry in fs::read_dir(format!("{own}/fd")).unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap();
        if fs::read_link(format!("{own}/fd/{number}")).is_ok_and(|target| target == inode) {
            let info = fs::read_to_string(format!("{own}/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            // O_CLOEXEC and O_NONBLOCK.
            let wanted = 0o2_000_000 | 0o4000;
            assert_eq!(flags & wanted, wanted, "descriptor {number}: {info}");
            found += 1;
        }
    }
    assert!(found > 0, "{}", process.log());
}

#[test]
fn a_passed_unix_socket_is_chosen_by_name_and_its_file_stays() {
    let upstream = Upstream::ok();
    let place = Place::new();
    let path = place.path().join("proxy.sock");
    let unix = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let sockets = vec![socket("127.0.0.1:0").0.into(), unix.into()];
    let command = passing(&routes(&upstream, "systemd:unix", ""), "tcp:unix", sockets);
    let process = Process::spawn(command);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ask(stream, "localhost", "").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    process.stop();
    assert!(path.exists());
}

#[test]
fn what_cannot_be_listened_at_keeps_it_from_starting_and_is_told() {
    let upstream = Upstream::ok();
    let tcp = || OwnedFd::from(socket("127.0.0.1:0").0);
    let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let (listener, address) = socket("127.0.0.1:0");
    let connected = OwnedFd::from(TcpStream::connect(address).unwrap());
    let no_socket = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    for (listen, names, sockets, words) in [
        ("systemd", "", vec![], "no socket was passed to this process (LISTEN_FDS is \"0\")"),
        ("systemd", "a:b", vec![tcp(), tcp()], "more than one socket was passed"),
        ("systemd:c", "a:b", vec![tcp(), tcp()], "no passed socket is named `c`"),
        ("systemd", "dns", vec![udp], "socket dns cannot be listened at: it is no stream socket"),
        ("systemd", "", vec![no_socket], "cannot be listened at: it is no stream socket"),
        ("systemd", "up", vec![connected], "socket up cannot be listened at: it does not listen"),
    ] {
        let (code, told) = refused(passing(&routes(&upstream, listen, ""), names, sockets));
        assert!(code == Some(1) && told.contains(words), "{words}\n{told}");
    }
    drop(listener);
    let mut by_hand = Command::new(env!("CARGO_BIN_EXE_bearerd"));
    by_hand.env_clear().args(["run", "--config"]).arg(routes(&upstream, "systemd", ""));
    let (code, told) = refused(by_hand);
    assert!(code == Some(1) && told.contains("LISTEN_FDS is not set"), "{told}");
    assert!(told.contains("systemctl enable --now bearerd.socket"), "{told}");
}

#[test]
fn a_passed_socket_beyond_loopback_needs_proof_at_the_start_and_at_every_reload() {
    let upstream = Upstream::ok();
    let open = |more: &str| {
        let (listener, address) = socket("0.0.0.0:0");
        let config = routes(&upstream, "systemd", more);
        (passing(&config, "", vec![listener.into()]), config, address.port())
    };
    let (code, told) = refused(open("").0);
    assert!(code == Some(64) && told.contains("would have the tokens' authority"), "{told}");
    assert!(told.contains("0.0.0.0:") && told.contains("exposed: true"), "{told}");
    let secret = file("proof", "a-proof-of-the-caller");
    let caller = format!("caller: {{header: X-Proof, secret: {{file: {}}}}}\n", secret.display());
    let (command, config, port) = open(&caller);
    let process = Process::spawn(command);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let unproven = || ask(connect(address), "localhost", "");
    assert!(!unproven().starts_with("HTTP/1.1 200 "));
    let whole = fs::read_to_string(&config).unwrap();
    for less in
        [whole.replace(&caller, ""), whole.replace(&caller, "").replace("systemd", "127.0.0.1:1")]
    {
        let told = || process.log().matches("would have the tokens' authority").count();
        let before = told();
        fs::write(&config, less).unwrap();
        process.hang_up();
        eventually(|| told() > before, || process.log());
        assert!(!unproven().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.requests().len(), 0);
}
