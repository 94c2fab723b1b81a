//! Canaries: planted secrets that nothing may sing.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The spellings in which a canary might come out.
fn spellings(canary: &str) -> Vec<String> {
    let percent: String = canary.bytes().map(|b| format!("%{b:02X}")).collect();
    let mut all = vec![
        canary.to_owned(),
        canary.replace('/', "%2F"),
        canary.replace('/', "\\/"),
        percent.to_lowercase(),
        percent,
        canary.bytes().map(|b| format!("{b:02x}")).collect(),
        format!("{:?}", canary.as_bytes()),
    ];
    // Base64 at each of the three alignments, without the characters that neighbours change.
    for pad in 0..3 {
        let text = format!("{}{canary}", "x".repeat(pad));
        for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            let encoded = encoded.trim_end_matches('=');
            let inner = encoded.get(4..encoded.len() - 3).unwrap_or_default();
            all.push(inner.to_owned());
        }
    }
    all
}

/// No canary is in what came out, in any common spelling.
pub fn assert_hidden(out: &str, canaries: &[&str]) {
    for canary in canaries {
        for spelling in spellings(canary) {
            if let Some(at) = out.find(&spelling) {
                let (from, to) = (at.saturating_sub(300), out.len().min(at + 200));
                let around = String::from_utf8_lossy(&out.as_bytes()[from..to]);
                panic!("{canary} comes out as {spelling}:\n{around}");
            }
        }
    }
}
