//! What is known of providers: how their token endpoint is found, and what they want to be told.

use clap::ValueEnum;

use super::client::ClientAuth;

/// The providers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Provider {
    /// Any OAuth 2.0 token endpoint
    #[default]
    Generic,
    /// Keycloak; the issuer is HOST/realms/REALM
    Keycloak,
    /// Auth0; the issuer is TENANT.auth0.com, and an audience is needed
    Auth0,
    /// Microsoft Entra ID; the issuer is login.microsoftonline.com/TENANT/v2.0
    Entra,
    /// Okta; the issuer is ORG.okta.com/oauth2/default, and a scope is needed
    Okta,
    /// Django OAuth Toolkit; the token endpoint is HOST/o/token/
    DjangoOauthToolkit,
    /// Google; the key of a service account is needed, and a scope or an audience
    Google,
}

impl Provider {
    /// The question for its URL, and an example.
    pub(super) const fn question(self) -> (&'static str, &'static str) {
        match self {
            Self::Generic | Self::Google => {
                ("Token endpoint", "https://idp.example.com/oauth2/token")
            }
            Self::Keycloak => ("Issuer", "https://idp.example.com/realms/acme"),
            Self::Auth0 => ("Issuer", "https://acme.eu.auth0.com/"),
            Self::Entra => ("Issuer", "https://login.microsoftonline.com/TENANT/v2.0"),
            Self::Okta => ("Issuer", "https://acme.okta.com/oauth2/default"),
            Self::DjangoOauthToolkit => ("Token endpoint", "https://portal.example.com/o/token/"),
        }
    }

    /// Whether the endpoint is found by the issuer's metadata.
    pub(super) const fn is_discovered(self) -> bool {
        !matches!(self, Self::Generic | Self::DjangoOauthToolkit | Self::Google)
    }

    /// How its clients send their secrets, where that is not for the metadata to say.
    pub(super) const fn auth(self) -> Option<ClientAuth> {
        match self {
            Self::Auth0 | Self::Entra => Some(ClientAuth::Body),
            _ => None,
        }
    }

    /// Whether it gives nothing unless asked for a scope.
    pub(super) const fn wants_scope(self) -> bool {
        matches!(self, Self::Entra | Self::Okta | Self::Google)
    }

    pub(super) const fn scope_example(self) -> &'static str {
        match self {
            Self::Entra => "api://APPLICATION-ID/.default",
            Self::Google => "https://www.googleapis.com/auth/cloud-platform",
            _ => "billing.read",
        }
    }

    /// Whether it must be told for whom the token is.
    pub(super) const fn wants_audience(self) -> bool {
        matches!(self, Self::Auth0)
    }

    /// What to know about it, for a comment.
    pub(super) const fn remark(self) -> Option<&'static str> {
        match self {
            Self::Generic => None,
            Self::Keycloak => Some(
                "Keycloak: the client needs \"Service accounts roles\" for client_credentials.",
            ),
            Self::Auth0 => {
                Some("Auth0: the audience must be an API of the tenant, authorized for the client.")
            }
            Self::Entra => Some("Entra ID: the scope names the API and ends in /.default."),
            Self::Okta => Some("Okta: the scope must exist on the authorization server."),
            Self::DjangoOauthToolkit => {
                Some("Django OAuth Toolkit: the slash at the end of the URL belongs to it.")
            }
            Self::Google => Some(
                "Google: the account needs a role on what it calls. A new key has a new `kid`.",
            ),
        }
    }
}
