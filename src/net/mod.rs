//! Outgoing connections: TLS, dialling, and one-shot requests to issuers.

pub mod body;
pub mod certificate;
pub mod dial;
pub mod fetch;
pub mod health;
pub mod io;
pub mod tls;
