//! The life of a token.

pub mod exchange;
pub mod failure;
pub mod grant;
pub mod handle;
pub mod present;
pub mod rejection;
pub mod schedule;
mod sign;
pub mod template;
