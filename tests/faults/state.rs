//! One-time refresh tokens outlive the process (F41–F43).

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bearerd::token::state::{Kept, StateFile};
use bearerd::vocab::Secret;

use crate::support::{Dir, Issuer, Post, Reply, Sidecar, Upstream, eventually, pass, secs, within};

/// An issuer whose refresh tokens serve once.
#[derive(Default)]
struct Strict {
    /// The token that may be used next.
    newest: Mutex<Option<String>>,
    /// What it replaced, for issuers that forgive a repetition.
    before: Mutex<BTreeSet<String>>,
}

impl Strict {
    fn answer(&self, post: &Post, forgiving: bool, lifetime: f64) -> Reply {
        assert_eq!(post.form["grant_type"], "refresh_token");
        let token = post.form["refresh_token"].clone();
        let mut newest = self.newest.lock().unwrap();
        let expected = newest.get_or_insert_with(|| "seed".to_owned());
        let repeated = forgiving && self.before.lock().unwrap().contains(&token);
        if *expected != token && !repeated {
            return Reply::error(400, "invalid_grant");
        }
        let next = format!("refresh-{}", post.number);
        self.before.lock().unwrap().insert(token);
        *newest = Some(next.clone());
        Reply::pair(&format!("token-{}", post.number), &next, lifetime)
    }

    fn issuer(forgiving: bool, lifetime: f64, delay: Duration) -> Issuer {
        let strict = Arc::new(Self::default());
        Issuer::run(move |post| strict.answer(post, forgiving, lifetime).after(delay))
    }
}

fn config(issuer: &Issuer, upstream: &Upstream, state: &Path) -> String {
    format!(
        "tokens: {{api: {{oauth2: {{token_url: \"{}\", grant: refresh_token, client_id: me, \
         refresh_token: {{file: DIR/seed}}, state: {{file: {}}}}}}}}}\n\
         routes: [{{upstream: \"{}\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        issuer.url(),
        state.display(),
        upstream.url()
    )
}

fn start(issuer: &Issuer, upstream: &Upstream, state: &Path) -> Sidecar {
    let launch = Sidecar::launch();
    launch.write("seed", "seed");
    launch.start(&config(issuer, upstream, state))
}

fn refused(issuer: &Issuer, sidecars: &[&Sidecar]) -> f64 {
    assert!(issuer.count() > 0);
    sidecars.iter().map(|sidecar| sidecar.failures("invalid_grant")).sum()
}

/// The writer that [`no_moment_of_death_leaves_an_unreadable_file_f41`] kills.
#[test]
#[ignore = "a child of another test"]
fn state_writer() {
    let Some(path) = std::env::var_os("BEARERD_TEST_STATE") else { return };
    let file = StateFile::new(PathBuf::from(path));
    for number in 0_u64.. {
        // Of changing length, so that a mixture of two would not parse.
        let token = format!("refresh-{number}-").repeat(1 + usize::try_from(number % 50).unwrap());
        file.save(&Kept { refresh_token: Secret::from(token), seed: None }).unwrap();
        if number == 0 {
            eprint!("!");
        }
    }
}

/// F41 against the file itself: 1,000 deaths. What a loss of power leaves is not proved here;
/// the order of the calls (write, fsync, rename, fsync of the directory) is what it rests on.
#[test]
fn no_moment_of_death_leaves_an_unreadable_file_f41() {
    let lines: Vec<_> = (0..4).map(|_| std::thread::spawn(|| deaths(250))).collect();
    let moments: usize =
        lines.into_iter().map(|line| line.join().expect("no death did harm")).sum();
    assert!(moments > 8, "only {moments} different moments");
}

/// Kills a writer so many times; how many different values were found.
fn deaths(count: usize) -> usize {
    let dir = Dir::new();
    let file = StateFile::new(dir.path().join("state.json"));
    file.save(&Kept { refresh_token: Secret::from("first"), seed: None }).unwrap();
    let mut values = BTreeSet::new();
    for _ in 0..count {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "state::state_writer"])
            .env("BEARERD_TEST_STATE", file.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut written = [0_u8];
        child.stderr.take().unwrap().read_exact(&mut written).unwrap();
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..8000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let kept = file.load().expect("it parses").expect("it is there");
        values.insert(kept.refresh_token.expose().to_owned());
    }
    values.len()
}

/// F41 with the program: killed at any moment, the next start has a token that serves.
#[test]
fn a_killed_process_goes_on_with_its_last_refresh_token_f41() {
    let (dir, upstream) = (Dir::new(), Upstream::ok());
    let state = dir.path().join("state.json");
    let issuer = Strict::issuer(true, 1.0, secs(0.02));
    for round in 0..12 {
        let sidecar = start(&issuer, &upstream, &state);
        within(secs(5.0), "a token", || sidecar.is_ready());
        assert_eq!(sidecar.failures("invalid_grant"), 0.0, "start {round}");
        let count = issuer.count();
        issuer.await_posts(count + 1);
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..40_000)));
        drop(sidecar);
        assert!(StateFile::new(state.clone()).load().unwrap().is_some());
    }
    let seeds = issuer.posts().iter().filter(|post| post.form["refresh_token"] == "seed").count();
    assert_eq!(seeds, 1, "the configured token served once");
}

/// F41: when a value is first used, the refresh token that came with it is on disk.
#[test]
fn a_refresh_token_is_written_before_its_sibling_is_used_f41() {
    let dir = Dir::new();
    let state = dir.path().join("state.json");
    let file = StateFile::new(state.clone());
    let upstream = Upstream::answering(move |seen| {
        let number = seen.credential.strip_prefix("Bearer token-").unwrap().to_owned();
        let kept = file.load().unwrap().expect("it is there");
        // A later one is as good: requests may overlap with the next renewal.
        let newest = kept.refresh_token.expose().strip_prefix("refresh-").unwrap().to_owned();
        let (used, newest): (usize, usize) = (number.parse().unwrap(), newest.parse().unwrap());
        if newest >= used { 200 } else { 500 }
    });
    let issuer = Strict::issuer(false, 1.0, secs(0.0));
    let sidecar = start_ready(&issuer, &upstream, &state);
    let load = sidecar.load(400);
    issuer.await_posts(8);
    load.end_without_errors();
}

/// F41 where the issuer forgives nothing and the answer died with the process.
#[test]
fn a_spent_refresh_token_is_a_clean_and_lasting_failure_f41() {
    let (dir, upstream) = (Dir::new(), Upstream::ok());
    let state = dir.path().join("state.json");
    let issuer = Strict::issuer(false, 600.0, secs(0.0));
    drop(start_ready(&issuer, &upstream, &state));
    let file = StateFile::new(state.clone());
    let mut kept = file.load().unwrap().unwrap();
    kept.refresh_token = Secret::from("spent");
    file.save(&kept).unwrap();
    let sidecar = start(&issuer, &upstream, &state);
    eventually("a refusal", || sidecar.failures("invalid_grant") >= 1.0);
    pass(3.0);
    assert!(issuer.count() <= 3, "{} POSTs", issuer.count());
    // A new configured token puts an end to it, without a restart.
    let posts = issuer.count();
    sidecar.dir.write("seed", "refresh-0");
    within(secs(12.0), "a token", || sidecar.is_ready());
    assert_eq!(issuer.count(), posts + 1);
}

fn start_ready(issuer: &Issuer, upstream: &Upstream, state: &Path) -> Sidecar {
    let sidecar = start(issuer, upstream, state);
    sidecar.await_ready();
    sidecar
}

/// F42: the issuer forgives nothing, and answers so slowly that the two get in each other's way.
#[test]
fn two_processes_with_one_refresh_token_do_not_fight_f42() {
    let (dir, upstream) = (Dir::new(), Upstream::ok());
    let state = dir.path().join("state.json");
    let issuer = Strict::issuer(false, 4.0, secs(0.3));
    let first = start_ready(&issuer, &upstream, &state);
    let second = start_ready(&issuer, &upstream, &state);
    let loads = [first.load(20), second.load(20)];
    pass(16.0);
    for load in loads {
        load.end_without_errors();
    }
    let posts = issuer.count();
    assert!((8..=24).contains(&posts), "{posts} POSTs of two in four lifetimes");
    // At most one of two that meet is refused, and reads the file once.
    let refused = refused(&issuer, &[&first, &second]);
    assert!(refused <= 5.0, "{refused} of {posts}");
}

/// F43 with a directory that goes away: a full or read-only disk fails at the same call.
#[test]
fn without_its_disk_it_serves_from_memory_and_writes_later_f43() {
    let (dir, upstream) = (Dir::new(), Upstream::ok());
    let (home, away) = (dir.path().join("home"), dir.path().join("away"));
    std::fs::create_dir(&home).unwrap();
    let state = home.join("state.json");
    let issuer = Strict::issuer(false, 2.0, secs(0.0));
    let sidecar = start_ready(&issuer, &upstream, &state);
    let unsaved = || sidecar.metric("bearerd_token_state_unsaved");
    assert_eq!(unsaved(), 0.0);
    let load = sidecar.load(40);
    std::fs::rename(&home, &away).unwrap();
    let count = issuer.count();
    issuer.await_posts(count + 3);
    eventually("an alarm", || unsaved() == 1.0);
    let errors = sidecar.log().matches("ERROR").count();
    assert_eq!(errors, 1, "{}", sidecar.log());
    std::fs::rename(&away, &home).unwrap();
    within(secs(10.0), "a written state", || unsaved() == 0.0);
    load.end_without_errors();
    drop(sidecar);
    // What was written is what the issuer takes.
    let again = start_ready(&issuer, &upstream, &state);
    assert_eq!(again.failures("invalid_grant"), 0.0);
}

/// What would quietly lose a session is a mistake of the configuration.
#[test]
fn settings_that_would_lose_the_state_are_mistakes() {
    let dir = Dir::new();
    dir.write("seed", "seed");
    let check = |tokens: &str| {
        let text = format!("tokens:\n{tokens}\nroutes: [{{upstream: \"http://127.0.0.1:1\"}}]\n");
        let path = dir.write("config.yaml", text.replace("DIR", &dir.path().to_string_lossy()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
        let output = command.args(["check", "--config"]).arg(path).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let token = |name: &str, more: &str| {
        format!(
            "  {name}: {{oauth2: {{token_url: \"http://127.0.0.1:1/\", client_id: me, \
             grant: refresh_token, refresh_token: {{file: DIR/seed}}, \
             state: {{file: DIR/{more}}}}}\n"
        )
    };
    assert_eq!(check(&(token("a", "a.json}") + &token("b", "b.json}"))), "");
    for (tokens, complaint) in [
        (token("a", "x.json}") + &token("b", "x.json}"), "`b` and `a` keep their state"),
        (token("a", "a.json}, revoke: {url: revoke}"), "would withdraw"),
        (token("a", "a.json}, refresh: {enabled: false}"), "not enabled"),
    ] {
        let said = check(&tokens);
        assert!(said.contains(complaint), "{tokens}: {said}");
    }
}
