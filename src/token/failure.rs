//! Why a source gave nothing, and what follows from it.

use std::fmt;
use std::time::Duration;

use crate::net::dial::DialError;
use crate::net::fetch::FetchFault;
use crate::net::tls::TlsFault;
use crate::vocab::TokenName;

/// The closed set of reasons; the `reason` label of `bearerd_token_refresh_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The issuer's name could not be resolved.
    Resolve,
    /// No connection to the issuer.
    Connect,
    /// The issuer's certificate is expired or not valid yet.
    TlsExpired,
    /// The issuer's certificate is for another name.
    TlsName,
    /// The issuer's certificate is signed by nobody we trust.
    TlsUntrusted,
    /// Any other fault of TLS.
    Tls,
    /// No complete answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Broken,
    /// 429.
    RateLimited,
    /// 5xx.
    ServerError,
    /// 3xx: redirects are never followed with a credential.
    Redirect,
    /// OAuth `invalid_client`.
    InvalidClient,
    /// OAuth `unauthorized_client`.
    UnauthorizedClient,
    /// OAuth `invalid_grant`.
    InvalidGrant,
    /// OAuth `invalid_scope`.
    InvalidScope,
    /// OAuth `invalid_request`.
    InvalidRequest,
    /// OAuth `unsupported_grant_type`.
    UnsupportedGrantType,
    /// Another OAuth error code.
    OtherOauthError,
    /// The issuer refused the credential in its own words.
    Refused,
    /// The answer is not what the configuration expects.
    BadResponse,
    /// The answer's token holds characters that no header may carry.
    Malformed,
    /// The answer or the token in it is too large.
    TooLarge,
    /// A secret cannot be read.
    NoSecret,
    /// A token that this one is made from is not usable or was refused.
    Parent,
    /// The shared store is needed for this attempt and cannot be used.
    Store,
    /// A key cannot sign, or another fault of the configuration found at use.
    Config,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 26] = [
        Self::Resolve,
        Self::Connect,
        Self::TlsExpired,
        Self::TlsName,
        Self::TlsUntrusted,
        Self::Tls,
        Self::Timeout,
        Self::Broken,
        Self::RateLimited,
        Self::ServerError,
        Self::Redirect,
        Self::InvalidClient,
        Self::UnauthorizedClient,
        Self::InvalidGrant,
        Self::InvalidScope,
        Self::InvalidRequest,
        Self::UnsupportedGrantType,
        Self::OtherOauthError,
        Self::Refused,
        Self::BadResponse,
        Self::Malformed,
        Self::TooLarge,
        Self::NoSecret,
        Self::Parent,
        Self::Store,
        Self::Config,
    ];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::TlsExpired => "tls_expired",
            Self::TlsName => "tls_name",
            Self::TlsUntrusted => "tls_untrusted",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Redirect => "redirect",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::OtherOauthError => "other_oauth_error",
            Self::Refused => "refused",
            Self::BadResponse => "bad_response",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::NoSecret => "no_secret",
            Self::Parent => "parent",
            Self::Store => "store",
            Self::Config => "config",
        }
    }

    /// Every label.
    #[must_use]
    pub fn labels() -> Vec<&'static str> {
        Self::ALL.iter().map(|reason| reason.as_str()).collect()
    }

    /// Whether trying again soon is of no use until somebody changes something: the credential or
    /// the configuration is at fault. Such tries would lock accounts and burn quotas.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::InvalidClient
                | Self::UnauthorizedClient
                | Self::InvalidGrant
                | Self::InvalidScope
                | Self::InvalidRequest
                | Self::UnsupportedGrantType
                | Self::Refused
                | Self::NoSecret
                | Self::Config
        )
    }

    /// Whether the issuer has heard the request and said no.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::InvalidClient
                | Self::UnauthorizedClient
                | Self::InvalidGrant
                | Self::InvalidScope
                | Self::InvalidRequest
                | Self::UnsupportedGrantType
                | Self::OtherOauthError
                | Self::Refused
        )
    }

    /// The reason for an OAuth error code (RFC 6749 section 5.2).
    #[must_use]
    pub fn of_oauth(code: &str) -> Self {
        match code {
            "invalid_client" => Self::InvalidClient,
            "unauthorized_client" => Self::UnauthorizedClient,
            "invalid_grant" => Self::InvalidGrant,
            "invalid_scope" => Self::InvalidScope,
            "invalid_request" => Self::InvalidRequest,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "slow_down" => Self::RateLimited,
            "server_error" | "temporarily_unavailable" => Self::ServerError,
            _ => Self::OtherOauthError,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Resolve | Self::Connect | Self::Timeout | Self::Broken => {
                "check that the issuer is up and its URL right; `bearerd run` goes on trying"
            }
            Self::TlsExpired => {
                "the issuer's certificate must be renewed, or this machine's clock set"
            }
            Self::TlsName => "the URL's host must be one that the issuer's certificate names",
            Self::TlsUntrusted => "name the issuer's certificate authority by `tls: {ca_file: ..}`",
            Self::Tls => "check what TLS versions the issuer speaks; 1.2 or later is needed",
            Self::RateLimited => "the issuer asks to slow down; bearerd does",
            Self::ServerError => "the issuer has a fault of its own; `bearerd run` goes on trying",
            Self::Redirect => {
                "configure the final URL, often one with or without a slash at its end"
            }
            Self::InvalidClient | Self::UnauthorizedClient => {
                "check client_id and client_secret, and whether `client_auth` should be `basic`, `basic_raw` or `body`"
            }
            Self::InvalidGrant => {
                "check user name, password or refresh token; the account may be locked"
            }
            Self::InvalidScope => "check `scopes`",
            Self::InvalidRequest | Self::UnsupportedGrantType => {
                "check the URL, `grant` and `params` against the issuer's documentation"
            }
            Self::Refused | Self::OtherOauthError => {
                "check the credential and the issuer's own log"
            }
            Self::BadResponse => {
                "check that the URL is the token endpoint and the pointers fit its answer"
            }
            Self::Malformed | Self::TooLarge => "the answer is not a token that a header can carry",
            Self::NoSecret => "put the secret where the configuration says it is",
            Self::Parent => "see the token that this one is made from",
            Self::Store => {
                "a refresh token that serves once is shared and must not be sent twice; bring the store back"
            }
            Self::Config => "mend the configuration; the text says where",
        }
    }
}

/// A failed attempt. The text is fit for logs: it never holds a secret, nor more of an answer
/// than its OAuth error code and a cleaned, shortened description.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// In words.
    pub detail: String,
    /// What the issuer asked for by `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Whether the issuer may have acted on the request all the same. A one-time refresh token
    /// that was in it must not be sent again.
    pub ambiguous: bool,
    /// Whether a complete answer with a status of 5xx came.
    pub server_fault: bool,
    /// The parent token whose value was refused, and its generation.
    pub parent: Option<(TokenName, u64)>,
}

impl Failure {
    /// A failure in which the issuer certainly did nothing.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            retry_after: None,
            ambiguous: false,
            server_fault: false,
            parent: None,
        }
    }

    /// The same, but the issuer may have acted.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.ambiguous = true;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl From<FetchFault> for Failure {
    fn from(fault: FetchFault) -> Self {
        let reason = match &fault {
            FetchFault::Dial(dial) => match dial {
                DialError::Resolve { .. } => Reason::Resolve,
                DialError::Connect { .. } | DialError::Protocol { .. } => Reason::Connect,
                DialError::Timeout { .. } => Reason::Timeout,
                DialError::Tls { fault, .. } => match fault {
                    TlsFault::Expired => Reason::TlsExpired,
                    TlsFault::WrongName => Reason::TlsName,
                    TlsFault::Untrusted => Reason::TlsUntrusted,
                    TlsFault::Incompatible | TlsFault::Other => Reason::Tls,
                },
            },
            FetchFault::Timeout(_) => Reason::Timeout,
            FetchFault::TooLarge(_) => Reason::TooLarge,
            // hyper calls an answer that is no HTTP a parse error.
            FetchFault::Broken(error) if error.is_parse() => Reason::BadResponse,
            FetchFault::Broken(_) | FetchFault::Body(_) => Reason::Broken,
        };
        let ambiguous = fault.is_ambiguous();
        let mut failure = Self::new(reason, fault.to_string());
        failure.ambiguous = ambiguous;
        failure
    }
}

/// Makes words of a stranger fit for a log line: printable ASCII, 200 characters at most, and
/// nothing that could be a credential, for an issuer may quote the request that it refuses (S22).
#[must_use]
pub fn cleaned(text: &str) -> String {
    let shown: String = text
        .chars()
        .take(200)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '.' })
        .collect();
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "+/=_-.~%".contains(c);
    let is_cut = text.chars().nth(200).is_some();
    // The beginning of a word does not show what the word is.
    let shown = if is_cut { shown.trim_end_matches(is_inside) } else { &shown };
    let mut out = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_inside(c) != is_inside(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if could_be_a_credential(word) { "[..]" } else { word });
        rest = after;
    }
    if is_cut {
        out.push_str("..");
    }
    out
}

/// Long, with letters and digits; but no UUID, by which issuers name what they do not find.
fn could_be_a_credential(word: &str) -> bool {
    const SHORTEST: usize = 16;
    let is_uuid = word.len() == 36
        && word.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    word.len() >= SHORTEST
        && word.bytes().any(|b| b.is_ascii_digit())
        && word.bytes().any(|b| b.is_ascii_alphabetic())
        && !is_uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_stranger_hold_no_credential_s22() {
        for (text, expected) in [
            ("bad Basic YzpjYW5hcnktY2xpZW50LXNlY3JldC0x", "bad Basic [..]"),
            ("secret=0a1b2c3d4e5f6a7b8c9d&x", "[..]&x"),
            ("client_credentials is not allowed", "client_credentials is not allowed"),
            ("no 11111111-2222-3333-4444-55555555555a", "no 11111111-2222-3333-4444-55555555555a"),
            ("a\nb\u{e9}", "a.b."),
        ] {
            assert_eq!(cleaned(text), expected);
        }
        let long = format!("{} 12345abcde12345abcde", "x".repeat(190));
        assert!(!cleaned(&long).contains("12345"), "{}", cleaned(&long));
    }
}
