//! The request target: what a path may hold, and the little that is ever changed in it.
//!
//! Where nothing depends on the path it goes through byte for byte (P7). Where a route is chosen
//! by path, or the path is changed, spellings that servers read in different ways are refused
//! (S19): the path that is judged is the path that is sent.

use std::borrow::Cow;

use http::Uri;
use http::request::Parts;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;

/// How carefully a path is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Nothing depends on it.
    Plain,
    /// A route is chosen by it, or it is changed.
    Strict,
    /// The same, but `%2F` may stand in it. What it separates counts as segments all the same.
    StrictWithSlashes,
}

/// What is wrong with a path of a request.
pub(super) fn fault(path: &str, care: Care) -> Option<&'static str> {
    let bytes = path.as_bytes();
    if bytes.iter().any(|b| matches!(b, b'\\' | b'#' | 0..=0x20 | 0x7f)) {
        return Some("has a character that must be percent-encoded");
    }
    if !bytes.contains(&b'%') {
        return if care == Care::Plain { None } else { segment_fault(path) };
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            decoded.push(*first);
            rest = after;
            continue;
        }
        let Some(byte) = after.get(..2).and_then(hex) else {
            return Some("has a `%` without two hexadecimal digits");
        };
        if byte == 0 {
            return Some("has a zero byte");
        }
        if care != Care::Plain && (byte < 0x20 || byte == 0x7f) {
            return Some("has an encoded control character");
        }
        match (care, byte) {
            (Care::Strict, b'/') => return Some("has an encoded slash"),
            (Care::Strict | Care::StrictWithSlashes, b'\\') => {
                return Some("has an encoded backslash");
            }
            _ => decoded.push(byte),
        }
        rest = after.get(2..).unwrap_or_default();
    }
    if care == Care::Plain {
        return None;
    }
    let Ok(decoded) = std::str::from_utf8(&decoded) else {
        return Some("has percent-encoded bytes that are not UTF-8");
    };
    segment_fault(decoded).or_else(|| deeper_fault(decoded))
}

/// Looks at what a server reads that decodes more than once, where that is not the same. Nobody
/// means a separator that is encoded twice.
fn deeper_fault(path: &str) -> Option<&'static str> {
    let mut path = path.to_owned();
    while let Cow::Owned(further) = percent_decode_str(&path).decode_utf8_lossy() {
        let marks = |text: &str| text.matches(['/', '\\', '\0']).count();
        if marks(&further) != marks(&path) || segment_fault(&further).is_some() {
            return Some("has an encoded separator or dot segment within an encoding");
        }
        path = further;
    }
    None
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Looks at the segments of a decoded path. A segment counts up to its `;`, behind which some
/// servers expect parameters, and without the dots and spaces at its end, which some cut off: what
/// is nothing then is a dot segment to some and an empty one to others.
fn segment_fault(path: &str) -> Option<&'static str> {
    if path.contains("//") {
        return Some("has an empty segment");
    }
    let is_nothing = |segment: &str| {
        let counts = segment.split(';').next().unwrap_or_default();
        let counts = counts.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
        counts.is_empty() && !segment.is_empty()
    };
    path.split('/').any(is_nothing).then_some("has a dot segment, or an empty one")
}

/// What is wrong with a path of the configuration, to be matched or put before others.
pub(super) fn mistake(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not begin with `/`");
    }
    if path.contains('?') || !path.is_ascii() {
        return Some("is no path");
    }
    fault(path, Care::Strict)
}

/// Whether `path` begins with `prefix`, at the border of a segment.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// The target for the upstream: origin-form, the prefix cut off, the base put before.
pub(super) fn rewritten(target: &PathAndQuery, cut: &str, base: &str) -> Option<Uri> {
    if cut.is_empty() && base.is_empty() {
        return Some(Uri::from(target.clone()));
    }
    let whole = target.as_str();
    let rest = whole.get(cut.len()..)?;
    let mut out = String::with_capacity(base.len() + 1 + rest.len());
    out.push_str(base);
    if !rest.starts_with('/') {
        out.push('/');
    }
    out.push_str(rest);
    Uri::try_from(out).ok()
}

/// Removes the parameters named `keys` from the query, in every spelling (S18); the rest stays byte
/// for byte. True if there were any. Some servers part parameters by `;` as well.
///
/// # Errors
/// A parameter whose name cannot be decoded: it might be one of them (S20).
pub(super) fn strip_query(head: &mut Parts, keys: &[Box<str>]) -> Result<bool, Refusal> {
    let Some(query) = head.uri.query() else { return Ok(false) };
    let mut kept = String::with_capacity(query.len());
    let (mut removed, mut is_dangling) = (false, false);
    for part in query.split_inclusive(['&', ';']) {
        let pair = part.strip_suffix(['&', ';']).unwrap_or(part);
        let name = decoded_name(pair.split('=').next().unwrap_or_default())?;
        if keys.iter().any(|key| may_name(&name, key)) {
            removed = true;
            is_dangling = pair == part;
        } else {
            kept.push_str(part);
        }
    }
    if !removed {
        return Ok(false);
    }
    if is_dangling {
        // What parted it from the one before.
        kept.pop();
    }
    let path = head.uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    head.uri = Uri::try_from(target).map_err(|_| Refusal::Query)?;
    Ok(true)
}

/// Whether some server may take the decoded `name` of a parameter for `key`. Some cut it off at a
/// bracket or a zero byte, some pass over the blanks around it, some ignore case, and some make `_`
/// of what their variables cannot be called by.
pub(super) fn may_name(name: &[u8], key: &str) -> bool {
    let end = name.iter().position(|b| matches!(b, b'[' | 0)).unwrap_or(name.len());
    let fold = |b: &u8| match b {
        b if b.is_ascii_alphanumeric() || !b.is_ascii() => b.to_ascii_lowercase(),
        _ => b'_',
    };
    let is_key = |name: &[u8]| name.iter().map(fold).eq(key.as_bytes().iter().map(fold));
    is_key(name.trim_ascii()) || is_key(name[..end].trim_ascii())
}

fn decoded_name(name: &str) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                out.push(after.get(..2).and_then(hex).ok_or(Refusal::Query)?);
                rest = after.get(2..).unwrap_or_default();
            }
            other => out.push(*other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_can_be_read_in_two_ways_are_refused_where_they_are_judged() {
        for bad in [
            "/api/../admin",
            "/api/./x",
            "/api/%2e%2e/admin",
            "/api/%2E./admin",
            "/api/..;/admin",
            "/api/..;a=b/admin",
            "/api/..",
            "/api//admin",
            "/api%2fadmin",
            "/api%2Fadmin",
            "/api%5cadmin",
            "/api/%c0%ae%c0%ae/admin",
            "/api/%e0%80%af",
            "/%ff",
            "/api/%252e%252e/admin",
            "/api%252fadmin",
            "/api%25252fadmin",
            "/api%255cadmin",
            "/api/..%20/admin",
            "/api/;x=1/admin",
            "/api/%20/admin",
            "/api/...",
            "/api%0a",
            "/api%7F",
        ] {
            assert!(fault(bad, Care::Strict).is_some(), "{bad}");
        }
        for good in [
            "/",
            "/api/x",
            "/a.b/..c/d..",
            "/%7Euser",
            "/caf%C3%A9",
            "/a;v=1/b",
            "/api/",
            "/50%25",
            "/50%25de",
            "/%2541",
        ] {
            assert_eq!(fault(good, Care::Strict), None, "{good}");
        }
    }

    #[test]
    fn a_path_that_nobody_judges_is_left_alone() {
        for fine in ["//x/../y/%2e%2e/%2F", "/a%20b", "/%c0%af"] {
            assert_eq!(fault(fine, Care::Plain), None, "{fine}");
        }
        for bad in ["/a\\b", "/a%", "/a%2", "/a%zz", "/a%00", "/%+1", "/a#b"] {
            assert!(fault(bad, Care::Plain).is_some(), "{bad}");
        }
    }

    #[test]
    fn encoded_slashes_can_be_permitted_without_the_rest() {
        assert_eq!(fault("/projects/a%2Fb", Care::StrictWithSlashes), None);
        assert!(fault("/projects/..%2Fb", Care::StrictWithSlashes).is_some());
        assert!(fault("/projects/../b", Care::StrictWithSlashes).is_some());
        assert!(fault("/projects/a%5Cb", Care::StrictWithSlashes).is_some());
    }

    #[test]
    fn prefixes_end_at_segments() {
        for (path, prefix, expected) in [
            ("/api", "/api", true),
            ("/api/x", "/api", true),
            ("/apix", "/api", false),
            ("/api", "/api/", false),
            ("/api/", "/api/", true),
            ("/api/x", "/api/", true),
            ("/x", "/", true),
        ] {
            assert_eq!(is_under(path, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn a_target_is_cut_and_extended_and_otherwise_left_alone() {
        for (target, cut, base, expected) in [
            ("/a/%7E?x=1&&y", "", "", "/a/%7E?x=1&&y"),
            ("/a?", "", "", "/a?"),
            ("//a", "", "", "//a"),
            ("/api/x?q", "/api", "", "/x?q"),
            ("/api", "/api", "", "/"),
            ("/api?q", "/api", "/v1", "/v1/?q"),
            ("/api/x", "/api", "/v1", "/v1/x"),
            ("/x?", "", "/v1", "/v1/x?"),
        ] {
            let target: PathAndQuery = target.parse().unwrap();
            assert_eq!(rewritten(&target, cut, base).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn only_the_named_parameters_leave_the_query() {
        let keys: [Box<str>; 1] = ["access_token".into()];
        for (before, after) in [
            ("/p?a=1&access_token=x&b=%20&&c", "/p?a=1&b=%20&&c"),
            ("/p?access_token=x", "/p"),
            ("/p?access%5Ftoken=x&y", "/p?y"),
            ("/p?a=1&access_token=x", "/p?a=1"),
            ("/p?a=1;access_token=x;b=2", "/p?a=1;b=2"),
            ("/p?Access_Token=x&a;b", "/p?a;b"),
            ("/p?access_token[]=x&access_token%5Ba%5D=x&a[b]=1", "/p?a[b]=1"),
            ("/p?+access_token=x&access_token%00b=x&%20access_token%20=x&a+b", "/p?a+b"),
            ("/p?access.token=x&access+token=x&accesstoken=y", "/p?accesstoken=y"),
            ("/p?a=1&access_token=x&", "/p?a=1&"),
            ("/p?xaccess_token=1&q=access_token", "/p?xaccess_token=1&q=access_token"),
            ("/p?a=%", "/p?a=%"),
            ("/p?", "/p?"),
        ] {
            let (mut head, ()) =
                http::Request::builder().uri(before).body(()).unwrap().into_parts();
            assert!(strip_query(&mut head, &keys).is_ok());
            assert_eq!(head.uri.to_string(), after);
        }
        let (mut head, ()) = http::Request::builder().uri("/p?%=1").body(()).unwrap().into_parts();
        assert!(strip_query(&mut head, &keys).is_err());
    }
}
