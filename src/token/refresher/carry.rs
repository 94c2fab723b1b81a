//! Carries refresh tokens from and to the token's state.

use super::super::grant::Grant;
use super::super::state::{Kept, mark};
use super::Refresher;
use crate::vocab::Secret;

impl Refresher {
    /// Takes over a refresh token that the state has and this task does not know yet: from before
    /// the start, or obtained by another program meanwhile. True if there was one.
    pub(super) async fn take_over(&mut self) -> bool {
        let seed = self.seed_mark();
        let Some(keeper) = &mut self.keeper else { return false };
        let Some(refresh_token) = keeper.news(seed.as_deref()).await else { return false };
        tracing::info!(token = %self.handle.name(), "using the refresh token of the token's state");
        let mut grant = self
            .handle
            .current()
            .map_or_else(|| Grant::of(Secret::from("")), |current| (*current.grant).clone());
        grant.refresh_token = Some(refresh_token);
        self.carried = Some(grant);
        self.purse.adopt();
        // The configured token has been used, or there would be no other.
        self.purse.spend(self.seed());
        true
    }

    /// Has the newest refresh token written.
    pub(super) async fn keep(&mut self, grant: &Grant) {
        let seed = self.seed_mark();
        if let (Some(keeper), Some(refresh_token)) = (&mut self.keeper, &grant.refresh_token) {
            let kept = Kept { refresh_token: refresh_token.clone(), seed };
            keeper.keep(kept, self.handle.metrics()).await;
        }
    }

    fn seed_mark(&self) -> Option<String> {
        let seed = self.source.refreshing()?.seed.as_ref()?;
        seed.read().ok().as_ref().map(mark)
    }
}
