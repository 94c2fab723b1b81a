//! The bounds on what a peer may use up.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::vocab::{Period, Size, positive, positive_period, positive_size};

/// The `limits` block. Every limit is active in the default configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest time for a request's head, from its first byte or, for a connection's first
    /// request, from the connection's beginning. Default `10s`.
    #[serde(deserialize_with = "positive_period")]
    pub head: Period,
    /// Longest time between two requests of one connection. Default `60s`.
    #[serde(deserialize_with = "positive_period")]
    pub idle: Period,
    /// Longest pause within a request's body. Default `30s`.
    #[serde(deserialize_with = "positive_period")]
    pub body_idle: Period,
    /// Longest time for which a client may refuse to take more of an answer. The system of a slow
    /// client makes room in large steps, 64 KiB on the same machine: at 1 KiB a second it seems to
    /// refuse for a minute or two. Default `3m`.
    #[serde(deserialize_with = "positive_period")]
    pub write_idle: Period,
    /// Most bytes of a head, in either direction: start line and header fields. Default `64KiB`.
    #[serde(deserialize_with = "positive_size")]
    pub head_size: Size,
    /// Most header fields of a head. A number above 100 costs an allocation per request.
    /// Default 100.
    #[serde(deserialize_with = "positive")]
    pub head_fields: usize,
    /// Most open connections of clients, and most requests under way over HTTP/2; further ones
    /// are answered 503. Default 10000.
    #[serde(deserialize_with = "positive")]
    pub connections: usize,
    /// Most requests under way at once over one connection (HTTP/2). Default 100.
    #[serde(deserialize_with = "positive")]
    pub streams: u32,
    /// Longest time to connect to an upstream, TLS included. Default `3s`.
    #[serde(deserialize_with = "positive_period")]
    pub connect: Period,
    /// Longest time from a request's last byte to the first of its answer. Default `60s`.
    #[serde(deserialize_with = "positive_period")]
    pub response_head: Period,
    /// Longest pause of an upstream within the body of its answer, while the client would take
    /// more. Event streams, gRPC and their like are free to pause. Default `60s`.
    #[serde(deserialize_with = "positive_period")]
    pub upstream_body_idle: Period,
    /// How long an unused upstream connection is kept. It should be less than the upstream's own
    /// keep-alive time, of which 5 s is a common one. Default `4s`.
    pub upstream_idle: Period,
    /// How long an upstream connection is used at most, so that changes of the upstream's
    /// addresses are followed. Default `5m`.
    pub upstream_age: Period,
    /// Most unused connections that each worker keeps to one upstream. Default 256.
    pub upstream_spare: usize,
    /// Longest time for which nothing moves through a tunnel (WebSocket), in either direction. Once
    /// one side has ended it is 10 s at most. Default `5m`.
    #[serde(deserialize_with = "positive_period")]
    pub tunnel_idle: Period,
    /// How long a peer with streams open may say nothing before it is asked by PING whether it is
    /// there (HTTP/2). No setting: so long is half a minute.
    #[serde(skip)]
    pub silence: Period,
    /// Whether connections may take the process's last file descriptors; only for probes.
    #[serde(skip)]
    pub last_descriptors: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Period::secs(10),
            idle: Period::secs(60),
            body_idle: Period::secs(30),
            write_idle: Period::secs(180),
            head_size: Size::kib(64),
            head_fields: 100,
            connections: 10_000,
            streams: 100,
            connect: Period::secs(3),
            response_head: Period::secs(60),
            upstream_body_idle: Period::secs(60),
            upstream_idle: Period::secs(4),
            upstream_age: Period::secs(300),
            upstream_spare: 256,
            tunnel_idle: Period::secs(300),
            silence: Period::secs(30),
            last_descriptors: false,
        }
    }
}

impl Limits {
    /// How often the sweeps look: often enough that the shortest limit is kept to within an
    /// eighth.
    pub(super) fn tick(&self) -> std::time::Duration {
        let shortest = [
            self.head,
            self.idle,
            self.body_idle,
            self.write_idle,
            self.response_head,
            self.upstream_body_idle,
            self.silence,
        ];
        let shortest = shortest.into_iter().min().unwrap_or(self.head);
        (shortest.0 / 8).clamp(super::SHORTEST_TICK, super::LONGEST_TICK)
    }
}
