//! Withdraws grants that are no longer needed (RFC 7009), where that is configured.

use std::sync::Arc;

use super::super::exchange::{Means, Revoke, Try};
use super::super::grant::Grant;
use super::super::handle::Current;
use super::{MOST_LEFT, REVOKE_DEADLINE, Refresher};
use crate::vocab::Moment;

impl Refresher {
    pub(super) fn revoke(&self) -> Option<&Revoke> {
        self.source.exchange().and_then(|exchange| exchange.revoke.as_ref())
    }

    /// Plans the withdrawal of a grant that one got by `means` has replaced.
    pub(super) fn retire(&mut self, old: &Current, means: Means, now: Moment) {
        let Some(revoke) = self.revoke() else { return };
        if let Some(after) = revoke.on_replace {
            self.retired.push((now + after, Arc::clone(&old.grant)));
        } else if means == Means::Acquire && old.grant.refresh_token.is_some() {
            // Its refresh token may still be good, and nothing will ever use it up.
            self.left.truncate(MOST_LEFT - 1);
            self.left.push_front(Arc::clone(&old.grant));
        }
    }

    pub(super) async fn withdraw_due(&mut self, now: Moment) {
        while self.retired.first().is_some_and(|(at, _)| *at <= now) {
            let (_, grant) = self.retired.remove(0);
            self.withdraw(&grant).await;
        }
    }

    /// At the end: what is in use, and what was replaced, the newest first.
    pub(super) async fn withdraw_all(&mut self) {
        let Some(revoke) = self.revoke() else { return };
        let on_shutdown = revoke.on_shutdown;
        // What was made from this token may need it to be withdrawn, and ends before it.
        drop(tokio::time::timeout(REVOKE_DEADLINE, self.handle.childless()).await);
        if let Some(current) = self.handle.current().filter(|_| on_shutdown) {
            self.withdraw(&current.grant).await;
        }
        for (_, grant) in std::mem::take(&mut self.retired).into_iter().rev() {
            self.withdraw(&grant).await;
        }
        for grant in std::mem::take(&mut self.left).into_iter().filter(|_| on_shutdown) {
            self.withdraw(&grant).await;
        }
    }

    async fn withdraw(&self, grant: &Grant) {
        let Some(exchange) = self.source.exchange() else { return };
        let attempt = Try { parents: &self.parents, deadline: REVOKE_DEADLINE, tasks: &self.stop };
        let token = self.handle.name();
        match exchange.withdraw(grant, attempt).await {
            Ok(()) => tracing::info!(%token, "token withdrawn"),
            Err(failure) => tracing::warn!(%token, %failure, "token not withdrawn"),
        }
    }
}
