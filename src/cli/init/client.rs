//! What a client of a token endpoint may choose.

use clap::ValueEnum;

/// The grants that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Grant {
    #[default]
    #[value(alias = "client_credentials")]
    ClientCredentials,
    Password,
    #[value(alias = "refresh_token")]
    RefreshToken,
}

/// How a client sends its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientAuth {
    Basic,
    #[value(name = "basic_raw", alias = "basic-raw")]
    BasicRaw,
    Body,
}

impl ClientAuth {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::BasicRaw => "basic_raw",
            Self::Body => "body",
        }
    }
}
