//! The metrics summed up for a person: what the status tells of routes and refusals, from the
//! same counters that Prometheus reads.

use std::collections::BTreeMap;

use prometheus::proto::Metric;
use serde::Serialize;

use super::metrics::Metrics;

/// What routes did and what was refused, since the start.
#[derive(Debug, Default)]
pub struct Summary {
    /// By the name of the route.
    pub routes: BTreeMap<String, Traffic>,
    /// By reason; those that never happened are left out.
    pub refusals: BTreeMap<String, u64>,
}

/// What one route did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Requests answered.
    pub requests: u64,
    /// Those among them that were answered with 5xx, by the upstream or by bearerd.
    pub server_errors: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Answers by which the upstream rejected the injected credential.
    pub rejections: u64,
    /// The same by status code.
    pub rejections_by_code: BTreeMap<String, u64>,
    /// Requests refused for want of a credential.
    pub without_token: u64,
    /// Credentials of clients that were removed.
    pub stripped: u64,
    /// How long they took.
    pub durations: Durations,
}

/// A histogram of durations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Durations {
    /// Of all together, in seconds.
    pub sum_seconds: f64,
    /// Upper bounds in seconds, and how many took no longer.
    pub at_most: Vec<(f64, u64)>,
}

impl Durations {
    fn add(&mut self, metric: &Metric) {
        let histogram = metric.get_histogram();
        self.sum_seconds += histogram.get_sample_sum();
        let buckets = histogram.get_bucket();
        if self.at_most.is_empty() {
            self.at_most = buckets.iter().map(|bucket| (bucket.upper_bound(), 0)).collect();
        }
        for ((_, count), bucket) in self.at_most.iter_mut().zip(buckets) {
            *count += bucket.cumulative_count();
        }
    }
}

impl Metrics {
    /// Sums up.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for family in self.gather() {
            for metric in family.get_metric() {
                summary.add(family.name(), metric);
            }
        }
        summary
    }
}

impl Summary {
    fn add(&mut self, family: &str, metric: &Metric) {
        if family == "bearerd_rejected_total" {
            let count = count(metric);
            if count > 0 {
                self.refusals.insert(label(metric, "reason").to_owned(), count);
            }
            return;
        }
        if family == "bearerd_request_duration_seconds" {
            self.of(metric).durations.add(metric);
            return;
        }
        let place: fn(&mut Traffic) -> &mut u64 = match family {
            "bearerd_requests_total" => |traffic| &mut traffic.requests,
            "bearerd_requests_in_flight" => |traffic| &mut traffic.in_flight,
            "bearerd_upstream_unauthorized_total" => |traffic| &mut traffic.rejections,
            "bearerd_client_credentials_stripped_total" => |traffic| &mut traffic.stripped,
            "bearerd_injections_total" if label(metric, "result") == "no_token" => {
                |traffic| &mut traffic.without_token
            }
            _ => return,
        };
        let traffic = self.of(metric);
        *place(traffic) += count(metric);
        if family == "bearerd_requests_total" && label(metric, "code").starts_with('5') {
            traffic.server_errors += count(metric);
        }
        if family == "bearerd_upstream_unauthorized_total" && count(metric) > 0 {
            let code = label(metric, "code").to_owned();
            *traffic.rejections_by_code.entry(code).or_default() += count(metric);
        }
    }

    fn of(&mut self, metric: &Metric) -> &mut Traffic {
        self.routes.entry(label(metric, "route").to_owned()).or_default()
    }
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

/// A counter's or gauge's value; a gauge below zero counts as zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of things is neither negative nor beyond 2^53"
)]
fn count(metric: &Metric) -> u64 {
    metric.get_counter().get_value().max(metric.get_gauge().get_value()).max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::vocab::RouteName;

    #[test]
    fn a_route_is_summed_over_methods_and_codes() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route(&RouteName::parse("api").unwrap(), &["cookie".to_owned()]);
        (0..3).for_each(|_| route.method(&Method::GET).code(200).inc());
        (0..2).for_each(|_| route.method(&Method::POST).code(503).inc());
        (0..4).for_each(|_| route.in_flight.inc());
        route.no_token.inc();
        (0..5).for_each(|_| route.injected.inc());
        route.unauthorized(401);
        route.unauthorized(418);
        (0..7).for_each(|_| route.stripped[0].inc());
        route.method(&Method::GET).seconds.observe(Duration::from_millis(20));
        route.method(&Method::POST).seconds.observe(Duration::from_millis(200));
        let traffic = metrics.summary().routes["api"].clone();
        let durations = traffic.durations.clone();
        assert!((durations.sum_seconds - 0.22).abs() < 1e-9);
        let up_to = |bound: f64| durations.at_most.iter().find(|(at, _)| *at == bound).unwrap().1;
        assert_eq!((up_to(0.01), up_to(0.025), up_to(0.25)), (0, 1, 2));
        let expected = Traffic {
            requests: 5,
            server_errors: 2,
            in_flight: 4,
            rejections: 2,
            rejections_by_code: BTreeMap::from([("401".to_owned(), 1), ("other".to_owned(), 1)]),
            without_token: 1,
            stripped: 7,
            durations,
        };
        assert_eq!(traffic, expected);
    }

    #[test]
    fn refusals_that_never_happened_are_left_out() {
        let metrics = Metrics::new().unwrap();
        metrics.rejected("host").inc();
        metrics.rejected("origin").inc_by(0);
        assert_eq!(metrics.summary().refusals, BTreeMap::from([("host".to_owned(), 1)]));
    }
}
