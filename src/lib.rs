pub mod net;
pub mod shutdown;
pub mod telemetry;
pub mod token;
pub mod vocab;
