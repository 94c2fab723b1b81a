pub mod net;
pub mod proxy;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod token;
pub mod vocab;
