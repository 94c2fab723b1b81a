//! The life of a token.

pub mod grant;
pub mod handle;
pub mod present;
pub mod rejection;
pub mod template;
