//! What the program tells about itself: metrics and logs.

pub mod journal;
pub mod log;
pub mod metrics;
pub(crate) mod process;
mod series;
pub mod spans;
pub mod summary;
pub mod tally;
