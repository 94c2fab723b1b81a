//! Spellings of forbidden paths, judged as different servers would read what arrives; and odd
//! paths that must arrive as they were sent where nobody judges them.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::support::{ORGANIZATION, OURS, Program, Upstream, plain, status, talk};

const VARIANTS: usize = 500;

/// One route, what clients want of it, and what must never be reached through it.
struct Target {
    /// Where clients aim, without disguise.
    aims: &'static [&'static str],
    /// Whether an arrived path, in some server's reading, is out of bounds.
    is_forbidden: fn(&str) -> bool,
}

fn is_under(path: &str, prefix: &str) -> bool {
    path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

/// Routes of `configuration`, by the beginning of their paths.
const TARGETS: [(&str, Target); 6] = [
    (
        "deny",
        Target {
            aims: &["/deny/admin/x", "/deny/admin", "/deny/a/../admin/x", "/deny//admin/x"],
            is_forbidden: |path| is_under(path, "/deny/admin"),
        },
    ),
    (
        "allow",
        Target {
            aims: &["/allow/secret", "/allow/open/../secret", "/allow/open/./../secret"],
            is_forbidden: |path| is_under(path, "/allow/secret") || !is_under(path, "/allow"),
        },
    ),
    (
        "cut",
        Target {
            aims: &["/cut/admin/x", "/cut/./admin", "/cut//admin", "/cut/x/../admin/y"],
            is_forbidden: |path| is_under(path, "/admin"),
        },
    ),
    (
        "base",
        Target {
            aims: &["/base/../../admin", "/base/../secret", "/base/x/../../../secret"],
            is_forbidden: |path| !is_under(path, "/v1/base"),
        },
    ),
    (
        "both",
        Target {
            aims: &[
                "/both/secret",
                "/both/ok/../secret",
                "/both/../secret",
                "/both/ok/../../secret",
            ],
            is_forbidden: |path| is_under(path, "/v2/secret") || !is_under(path, "/v2"),
        },
    ),
    (
        "slash",
        Target {
            aims: &["/slash/admin/x", "/slash/a/../admin/x", "/slash/x/..//admin"],
            is_forbidden: |path| is_under(path, "/slash/admin"),
        },
    ),
];

fn configuration(upstream: &Upstream) -> String {
    let url = upstream.url();
    let inject = |name: &str| {
        format!("inject: {{Authorization: {OURS}, Organization: {ORGANIZATION}, X-Route: {name}}}")
    };
    let [deny, allow, cut, base, both, slash, rest] =
        ["deny", "allow", "cut", "base", "both", "slash", "rest"].map(inject);
    format!(
        "routes:
  - {{upstream: {url}, match: {{path: /deny}}, deny: [{{path: /deny/admin/}}], {deny}}}
  - {{upstream: {url}, match: {{path: /allow}}, allow: [{{path: /allow/open/}}], {allow}}}
  - {{upstream: {url}, match: {{path: /cut}}, strip_prefix: true, deny: [{{path: /admin/}}], {cut}}}
  - {{upstream: {url}/v1, match: {{path: /base}}, {base}}}
  - {{upstream: {url}/v2/, match: {{path: /both}}, strip_prefix: true, allow: [{{path: /both/ok/}}], {both}}}
  - {{upstream: {url}, match: {{path: /slash}}, encoded_slash: true, deny: [{{path: /slash/admin/}}], {slash}}}
  - {{upstream: {url}, match: {{path: /}}, {rest}}}
"
    )
}

/// Disguises a path in a few places: a character may be encoded once or twice, change its case,
/// or be followed by something that some server ignores.
fn disguised(rng: &mut Rng, aim: &str) -> String {
    let places: BTreeSet<usize> = (0..=rng.usize(..3)).map(|_| rng.usize(1..aim.len())).collect();
    let slash = [
        "//",
        "/./",
        ";x=1/",
        "/;x/",
        "%20/",
        "./",
        "%09/",
        "%00/",
        "..;/",
        "/%20/",
        "/.../",
        "%2f",
        "%2F",
        "%252f",
        "\\",
        "%5c",
        "%255c",
        "%c0%af",
        "%ef%bc%8f",
        "/..;x/",
        "/x/%2e%2e/",
        "%3b/",
    ];
    let mut out = String::new();
    for (at, c) in aim.char_indices() {
        let code = c as u32;
        match (places.contains(&at), c, rng.u8(..5)) {
            (false, ..) => out.push(c),
            (true, '/', _) => out.push_str(slash[rng.usize(..slash.len())]),
            (true, 'i', 0) => out.push_str("%C4%B1"),
            (true, 's', 0) => out.push_str("%C5%BF"),
            (true, _, 0 | 1) => out.push_str(&format!("%{code:02x}")),
            (true, _, 2) => out.push_str(&format!("%{code:02X}")),
            (true, _, 3) => out.push_str(&format!("%25{code:02x}")),
            (true, ..) => out.push(c.to_ascii_uppercase()),
        }
    }
    let end = ["", "", "", "", "?x=/deny/ok", "/", "%20", ".", ";a", "%2e", "/.", "%252e"];
    out + end[rng.usize(..end.len())]
}

fn decode(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

fn without_parameters(path: &str) -> String {
    let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

fn without_ends(path: &str) -> String {
    let cut = |segment: &str| match segment {
        "." | ".." => segment.to_owned(),
        other => other.trim_end_matches(['.', ' ', '\t']).to_owned(),
    };
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

fn merged(path: &str) -> String {
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

/// Every path that a server might take this one for, in any order of its steps.
fn readings(path: &str) -> BTreeSet<String> {
    let steps: [fn(&str) -> String; 8] = [
        decode,
        without_dots,
        without_parameters,
        without_ends,
        merged,
        |path| path.replace('\\', "/"),
        |path| path.to_uppercase().to_lowercase(),
        |path| path.split('\0').next().unwrap_or_default().to_owned(),
    ];
    let mut all = BTreeSet::from([path.to_owned()]);
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        for step in steps {
            let read = step(&path);
            if all.insert(read.clone()) {
                open.push(read);
            }
        }
    }
    all
}

#[test]
fn no_spelling_of_a_forbidden_path_passes_the_rules_s19() {
    let upstream = Upstream::ok();
    let program = Program::run("paths", &configuration(&upstream));
    let mut rng = Rng::with_seed(19);
    let (mut passed, mut bypasses) = (0, Vec::new());
    for (name, target) in &TARGETS {
        // What is allowed does pass, or nothing would be shown here.
        let open = match *name {
            "allow" => "/allow/open/x",
            "both" => "/both/ok/x",
            "cut" => "/cut/open",
            "deny" => "/deny/open",
            "base" => "/base/open",
            _ => "/slash/a%2Fb",
        };
        let request = format!("GET {open} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&talk(program.proxy, request.as_bytes())), 200, "{open}");
        upstream.take();
        let mut seen = BTreeSet::new();
        while seen.len() < VARIANTS {
            let aim = target.aims[rng.usize(..target.aims.len())];
            let sent = disguised(&mut rng, aim);
            if !seen.insert(sent.clone()) {
                continue;
            }
            let request = format!("GET {sent} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = talk(program.proxy, request.as_bytes());
            let arrived = upstream.take();
            assert_eq!(status(&answer) == 200, arrived.len() == 1, "{sent}");
            let Some(arrived) = arrived.first() else { continue };
            passed += 1;
            let text = String::from_utf8_lossy(arrived);
            let path = text.split([' ', '?']).nth(1).unwrap_or_default();
            // What another route took must not be this route's in any reading.
            let own = text.contains(&format!("\r\nx-route: {name}\r\n"));
            let is_bypass =
                |reading: &&String| (target.is_forbidden)(reading) && (own || is_of(name, reading));
            if let Some(reading) = readings(path).iter().find(is_bypass) {
                bypasses.push(format!("{name}: {sent} arrived as {path}, is read as {reading}"));
            }
        }
    }
    println!("{passed} of {} passed", VARIANTS * TARGETS.len());
    assert!(bypasses.is_empty(), "{} bypasses:\n{}", bypasses.len(), bypasses.join("\n"));
}

/// Whether a reading of a path that another route took is what this route forbids.
fn is_of(name: &str, reading: &str) -> bool {
    matches!(name, "deny" | "allow" | "slash") && is_under(reading, &format!("/{name}"))
}

#[test]
fn odd_paths_arrive_byte_for_byte_where_nobody_judges_them_s19_p7() {
    let upstream = Upstream::ok();
    let program = Program::run("odd-paths", &plain(&upstream));
    let marks = "!$&'()*+,-.:;=@_~";
    let mut odd: Vec<String> = marks.chars().map(|c| format!("/{c}/a{c}b?{c}={c}")).collect();
    odd.extend(marks.chars().map(|c| format!("/%{:02X}%{:02x}", c as u32, c as u32)));
    odd.extend((0..16).map(|i| format!("/%{:02x}x%{:02X}", 0xf0 - i, 0x21 + i)));
    odd.extend(
        [
            "/",
            "//",
            "///a",
            "/a//b",
            "/./",
            "/../",
            "/a/..",
            "/a/./b",
            "/..;/a",
            "/a;b=c/d",
            "/;",
            "/%2F",
            "/%2f%2F",
            "/%5C",
            "/%2e%2E/",
            "/%252e",
            "/%25",
            "/%7E~",
            "/caf%C3%A9",
            "/%C0%AF",
            "/%FF",
            "/a%20b",
            "/a%0Ab",
            "/a%0D%0AX:b",
            "/a%09",
            "/?",
            "/??",
            "/?a&&b",
            "/?a=%",
            "/?%zz",
            "/?a=b?c",
            "/?/../",
            "/?a[]=1&a[]=2",
            "/a?b=c/d",
            "/?;",
            "/?a=1;b=2",
            "/?+",
            "/?%00",
            "/x.",
            "/x..",
            "/...",
            "/.../a",
            "/a.b.c",
            "/~user",
            "/@a/b",
            "/a:b",
            "/a,b;c",
            "/(a)",
            "/'a'",
            "/!",
            "/$",
            "/a|b",
            "/a^b",
            "/{a}",
            "/[a]",
        ]
        .map(str::to_owned),
    );
    odd.push(format!("/{}", "a/".repeat(2000)));
    odd.push(format!("/?{}", "a=b&".repeat(2000)));
    assert!(odd.len() >= 100, "only {}", odd.len());
    for target in &odd {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = talk(program.proxy, request.as_bytes());
        let arrived = upstream.take();
        assert_eq!(status(&answer), 200, "{target}");
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(arrived[0].starts_with(line.as_bytes()), "{target}");
    }
}
