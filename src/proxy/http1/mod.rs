//! HTTP/1.1 towards an upstream: a codec that does what this proxy needs and nothing else.
//!
//! hyper serves the clients, who are not trusted. Its client half costs thousands of instructions
//! a request more than this, for a task and channels that an exchange which polls its own
//! connection has no use for. As a second reader of HTTP it takes less than hyper's: a test feeds
//! both with the same bytes and lists where they differ.

mod body;
mod connection;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod head;
mod input;
mod names;
mod relay;
mod request;
#[cfg(test)]
mod tests;

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

pub(super) use self::connection::{Connection, Settings};
use self::relay::Relay;
pub(super) use self::request::Outgoing;
use super::download::Cut;
use super::pool::Lease;
use crate::vocab::Moment;

/// An answer's body, with the connection that it comes from.
#[derive(Debug)]
pub(super) struct Body {
    lease: Option<Lease>,
    /// Who sees to it in place of the connection, where the request's body is still on its way.
    relay: Option<Box<Relay>>,
    /// Every byte has come; said by the connection as long as it is here.
    complete: bool,
}

impl Body {
    /// The body of the answer whose head came over this connection.
    pub(super) const fn over(lease: Lease) -> Self {
        Self { lease: Some(lease), relay: None, complete: false }
    }

    fn connection(&self) -> Option<&Connection> {
        self.lease.as_ref().and_then(Lease::connection)
    }

    fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.lease.as_mut().and_then(Lease::connection_mut)
    }

    /// Has the connection closed after this answer.
    pub(super) fn last(&mut self) {
        if let Some(connection) = self.connection_mut() {
            connection.last();
        }
    }

    /// Gives the connection back if the exchange is complete, and closes it otherwise.
    pub(super) fn release(&mut self, now: Moment) {
        self.complete = self.is_complete();
        self.relay = None;
        if let Some(lease) = self.lease.take() {
            lease.give_back(now);
        }
    }

    /// Takes the connection of an answer that has left HTTP.
    pub(super) const fn detach(&mut self) -> Option<Lease> {
        self.complete = true;
        self.lease.take()
    }

    /// Whether [`Self::release`] has something to give back or to close.
    pub(super) const fn is_held(&self) -> bool {
        self.lease.is_some() || self.relay.is_some()
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        match &self.relay {
            Some(relay) => relay.left() == Some(0),
            None => self.connection().map_or(self.complete, Connection::is_over),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(relay) = &mut self.relay {
            return relay.poll_frame(cx);
        }
        match self.connection_mut() {
            Some(connection) if connection.uploads() => self.poll_relayed(cx),
            Some(connection) => connection.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn poll_relayed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        // The last of it may just have had to wait.
        if let Some(connection) = self.connection_mut() {
            if let Err(cut) = connection.poll_upload(cx) {
                return Poll::Ready(Some(Err(cut)));
            }
            if !connection.uploads() {
                return connection.poll_frame(cx);
            }
        }
        let Some(relay) = self.lease.take().and_then(Relay::of) else { return Poll::Ready(None) };
        self.relay.insert(Box::new(relay)).poll_frame(cx)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let left = match &self.relay {
            Some(relay) => relay.left(),
            None => self.connection().and_then(Connection::left),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
