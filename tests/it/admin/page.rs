//! The page for people.

use super::*;

#[test]
fn a_browser_gets_the_page_and_a_script_the_json() {
    let demo = Demo::start("127.0.0.1:0");
    let browser = "Host: localhost\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    for path in ["/status", "/"] {
        let (head, page) = demo.ask(path, browser);
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
        assert!(head.contains("vary: accept") && page.starts_with("<!doctype html>"), "{head}");
    }
    for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        let (head, body) = demo.ask("/status", &format!("Host: localhost\r\n{accept}"));
        assert!(head.contains("content-type: application/json"), "{head}");
        let status: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["tokens"][0]["name"], "api");
    }
}

#[test]
fn the_pages_policy_allows_its_own_style_and_script_and_no_other() {
    let demo = Demo::start("127.0.0.1:0");
    let (head, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    let policy = head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    for tag in ["style", "script"] {
        let inside = page.split(&format!("<{tag}>")).nth(1).unwrap();
        let inside = inside.split(&format!("</{tag}>")).next().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, inside.as_bytes());
        let source = format!("{tag}-src 'sha256-{}'", STANDARD.encode(digest));
        assert!(policy.contains(&source), "{policy} lacks {source}");
    }
}

#[test]
fn the_page_shows_where_everything_stands_without_its_script() {
    let demo = Demo::start("127.0.0.1:0");
    demo.await_token();
    let (_, page) = demo.ask("/status", "Host: localhost\r\nAccept: text/html\r\n");
    for wanted in [
        "<h3>api</h3><span class=\"chip good\">fresh</span>",
        "aria-label=\"Expiry: expires in ",
        "<h3>demo</h3>",
        "injects authorization, organization",
        ">ready</span>",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
}

#[test]
fn every_refusal_has_words_on_the_page() {
    let script = include_str!("../../../src/admin/page.js");
    for slug in bearerd::proxy::refusal::SLUGS {
        let named = script.contains(&format!("\n  {slug}: \""))
            || script.contains(&format!("\n  \"{slug}\": \""));
        assert!(named, "{slug}");
    }
}
