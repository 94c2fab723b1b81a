//! What the program tells about itself: metrics and logs.

pub mod log;
pub mod metrics;
pub(crate) mod process;
pub mod summary;
