//! `bearerd init`: what it writes is sound, holds no secret, and replaces nothing by accident.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// An empty directory of this test alone, with a secret in `secret`.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("init-{name}"));
    fs::remove_dir_all(&path).ok();
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("secret"), "init-canary").unwrap();
    path
}

fn init(directory: &PathBuf) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
    command.arg("init").current_dir(directory).stdin(Stdio::null());
    command
}

const USUAL: [&str; 8] = [
    "--token-url",
    "https://idp.example.com/token",
    "--client-id",
    "billing",
    "--client-secret-file",
    "secret",
    "--upstream",
    "https://api.example.com/v1",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn what_it_writes_is_sound_and_its_owners_alone() {
    let directory = directory("usual");
    let told = succeeded(&init(&directory).args(USUAL).output().unwrap());
    assert!(told.contains("bearerd run --config bearerd.yaml") && told.contains("ok: 1 token(s)"));
    let path = directory.join("bearerd.yaml");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains("secret\"}") && !written.contains("init-canary"), "{written}");
    let check = Command::new(env!("CARGO_BIN_EXE_bearerd"))
        .args(["check", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(succeeded(&check).contains("route api: any host / -> https://api.example.com/v1"));
}

#[test]
fn a_file_is_replaced_only_by_force() {
    let directory = directory("force");
    let path = directory.join("bearerd.yaml");
    fs::write(&path, "mine").unwrap();
    let output = init(&directory).args(USUAL).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    succeeded(&init(&directory).args(USUAL).arg("--force").output().unwrap());
    assert!(fs::read_to_string(&path).unwrap().contains("billing"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn where_nobody_can_be_asked_everything_missing_is_told_at_once() {
    let directory = directory("missing");
    let output = init(&directory).args(["--provider", "auth0", "--grant", "password"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = text(&output.stderr);
    for flag in ["--issuer", "--client-id", "--client-secret-file", "--username", "--password-file"]
    {
        assert!(told.contains(flag), "no {flag} in {told}");
    }
    assert!(told.contains("--audience is missing") && told.contains("--upstream is missing"));
    let google = init(&directory).args(["--provider", "google"]).output().unwrap();
    let told = text(&google.stderr);
    assert!(told.contains("--scope or --audience is missing"), "{told}");
    assert!(!directory.join("bearerd.yaml").exists());
}

#[test]
fn a_bad_answer_is_told_as_any_mistake_and_nothing_is_written() {
    let directory = directory("bad");
    let mut arguments = USUAL;
    arguments[7] = "http://api.example.com";
    let output = init(&directory).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = text(&output.stderr);
    assert!(told.contains("nothing is written") && told.contains("`upstream: "), "{told}");
    assert!(told.contains("plain text") && told.contains("hint: "), "{told}");
    assert!(!directory.join("bearerd.yaml").exists());
}

#[test]
fn it_can_go_to_standard_output_whole() {
    let directory = directory("stdout");
    let written =
        succeeded(&init(&directory).args(USUAL).args(["--output", "-"]).output().unwrap());
    assert!(written.starts_with("# Written by") && written.contains("\nroutes:\n"), "{written}");
    assert!(!directory.join("bearerd.yaml").exists());
}

/// An issuer that answers one request with this metadata.
fn issuer(metadata: impl FnOnce(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/realms/acme", listener.local_addr().unwrap());
    let own = url.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let count = stream.read(&mut head).unwrap();
        assert!(
            head[..count]
                .starts_with(b"GET /realms/acme/.well-known/openid-configuration HTTP/1.1\r\n")
        );
        let body = metadata(&own);
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    });
    url
}

#[test]
fn an_issuer_tells_its_endpoint_and_how_it_takes_secrets() {
    let directory = directory("issuer");
    let url = issuer(|own| {
        format!(
            r#"{{"issuer": "{own}", "token_endpoint": "{own}/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post"]}}"#
        )
    });
    let arguments = ["--issuer", &url, "--provider", "keycloak"];
    succeeded(&init(&directory).args(arguments).args(&USUAL[2..]).output().unwrap());
    let written = fs::read_to_string(directory.join("bearerd.yaml")).unwrap();
    assert!(written.contains(&format!("token_url: \"{url}/token\"")), "{written}");
    assert!(written.contains("client_auth: body"), "{written}");
    // The metadata of another issuer is not taken.
    let url = issuer(|own| format!(r#"{{"issuer": "{own}/x", "token_endpoint": "{own}/token"}}"#));
    let arguments = ["--issuer", &url, "--force"];
    let output = init(&directory).args(arguments).args(&USUAL[2..]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--token-url"), "{}", text(&output.stderr));
}

#[test]
fn a_typed_secret_is_not_shown_and_goes_into_a_file_of_its_own() {
    let directory = directory("typed");
    let (mut terminal, name) = terminal();
    let side = || File::options().read(true).write(true).open(&name).unwrap();
    let mut child =
        init(&directory).stdin(side()).stderr(side()).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    for (question, answer) in [
        ("Token endpoint", "https://idp.example.com/token"),
        ("Client id", "billing"),
        ("Upstream", "https://api.example.com"),
        ("Client secret", "typed-canary"),
    ] {
        let mut chunk = [0; 1024];
        while !shown.contains(question) || !shown.trim_end_matches(' ').ends_with(':') {
            let count = terminal.read(&mut chunk).unwrap();
            shown.push_str(&text(&chunk[..count]));
        }
        // The terminal echoes an answer; this is not to be taken for the next question.
        terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
        shown.push('\n');
    }
    let told = ended(&mut child, &mut terminal, &mut shown);
    assert!(!shown.contains("typed-canary"), "{shown}");
    assert!(told.contains("wrote the client's secret to "), "{told}");
    let secret = directory.join("bearerd-client-secret");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "typed-canary");
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(directory.join("bearerd.yaml")).unwrap();
    assert!(!written.contains("typed-canary") && written.contains("bearerd-client-secret"));
}

/// A signal comes while the secret is asked for: what is typed is shown again, and nothing is left.
#[test]
fn who_gives_up_while_a_secret_is_asked_for_gets_the_terminal_back() {
    use rustix::process::{Pid, Signal, kill_process};
    use rustix::termios::{LocalModes, tcgetattr};
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let directory = directory(&format!("given-up-{code}"));
        let (mut terminal, name) = terminal();
        let side = || File::options().read(true).write(true).open(&name).unwrap();
        let mut arguments = USUAL.to_vec();
        arguments.drain(4..6);
        let mut child = init(&directory)
            .args(arguments)
            .stdin(side())
            .stderr(side())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut shown = String::new();
        let mut chunk = [0; 1024];
        while !shown.contains("(it is not shown): ") {
            let count = terminal.read(&mut chunk).unwrap();
            shown.push_str(&text(&chunk[..count]));
        }
        let echoes = || tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(!echoes());
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(echoes(), "{signal:?} leaves the terminal without echo");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing was written");
    }
}

/// A terminal, and the name of the side for a program.
fn terminal() -> (File, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    (File::from(terminal), name)
}

/// What it tells on standard output, while its terminal is read to the end.
fn ended(child: &mut Child, terminal: &mut File, shown: &mut String) -> String {
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told} {shown}");
    let mut rest = [0; 4096];
    // The other side is closed: what is left comes, then an error.
    while let Ok(count) = terminal.read(&mut rest)
        && count > 0
    {
        shown.push_str(&text(&rest[..count]));
    }
    told
}
