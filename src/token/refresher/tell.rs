//! Tells people what became of an attempt: log, metrics, report.

use std::time::Duration;

use super::super::exchange::Means;
use super::super::failure::Failure;
use super::super::grant::Grant;
use super::super::schedule::Span;
use super::Refresher;
use crate::vocab::Moment;

impl Refresher {
    /// Loud only when the reason is another one than before, or when it now costs requests.
    pub(super) fn tell_failure(&mut self, failure: &Failure, usable: bool, retry_in: Duration) {
        let failures = self.schedule.failures();
        self.handle.metrics().consecutive_failures.set(failures.into());
        self.handle.tell(|report| {
            report.failure = Some(failure.clone());
            report.consecutive_failures = failures;
        });
        let changed = self.failure.as_ref().is_none_or(|last| last.reason != failure.reason);
        let lost = std::mem::replace(&mut self.told_usable, usable) && !usable;
        let token = self.handle.name();
        let reason = failure.reason.as_str();
        let detail = failure.detail.as_str();
        let retry_in_s = seconds(retry_in);
        match (failure.reason.is_permanent(), changed || lost) {
            (true, true) => tracing::error!(
                %token, reason, detail, usable, failures, retry_in_s,
                advice = failure.reason.advice(), "token not obtained"
            ),
            (false, true) => tracing::warn!(
                %token, reason, detail, usable, failures, retry_in_s,
                advice = failure.reason.advice(), "token not obtained"
            ),
            (_, false) => tracing::info!(
                %token, reason, detail, usable, failures, retry_in_s, "token not obtained"
            ),
        }
    }

    pub(super) fn tell_untyped(&mut self, grant: &Grant) {
        if grant.untyped && !std::mem::replace(&mut self.told_untyped, true) {
            let token = self.handle.name();
            tracing::warn!(%token, "the issuer sends no token_type; the token is taken as bearer");
        }
    }

    /// Another program has obtained the value.
    pub(super) fn tell_adopted(&self, generation: u64, span: &Span, next: Option<Moment>) {
        let now = Moment::now();
        let metrics = self.handle.metrics();
        metrics.consecutive_failures.set(0);
        metrics.last_success.set(now.to_wall().0);
        metrics.expiry.set(span.expires().map_or(0.0, |at| at.to_wall().0));
        self.handle.tell(|report| {
            report.failure = None;
            report.consecutive_failures = 0;
            report.last_success = Some(now);
            report.last_means = "store";
        });
        tracing::info!(
            token = %self.handle.name(),
            means = "store",
            generation,
            lifetime_s = span.lifetime.map(seconds),
            renew_in_s = next.map(|next| seconds(now.until(next))),
            "token taken over"
        );
    }

    pub(super) fn tell_success(
        &self,
        means: Means,
        generation: u64,
        span: &Span,
        same: bool,
        next: Option<Moment>,
    ) {
        let now = Moment::now();
        let metrics = self.handle.metrics();
        metrics.consecutive_failures.set(0);
        metrics.last_success.set(now.to_wall().0);
        metrics.expiry.set(span.expires().map_or(0.0, |at| at.to_wall().0));
        self.handle.tell(|report| {
            report.failure = None;
            report.consecutive_failures = 0;
            report.last_success = Some(now);
            report.last_means = means.as_str();
        });
        let lifetime = span.lifetime.map(seconds);
        let renew_in = next.map(|next| seconds(now.until(next)));
        if same && self.source.period().is_some() {
            tracing::debug!(token = %self.handle.name(), "value unchanged");
            return;
        }
        tracing::info!(
            token = %self.handle.name(),
            means = means.as_str(),
            generation,
            unchanged = same,
            lifetime_s = lifetime,
            renew_in_s = renew_in,
            "token obtained"
        );
    }
}

/// Seconds to the millisecond: what is finer tells people nothing.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}
