//! Which upstream a request goes to.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Uri, header::HOST};

use super::access::{self, Access};
use super::cors::Cors;
use super::forwarded::Trusted;
use super::headers::{Rules, Via};
use super::page::Navigation;
use super::refusal::Refusal;
pub use super::settings::{BodyIdle, HostField, Match, Settings, Strip, check, is_untouchable};
use super::target::{self, Care};
use super::upgrade::Tunnels;
use super::upstream::Upstream;
use crate::net::tls::TlsError;
use crate::server::{Host, Limits};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::token::handle::Handle;
use crate::token::present::Presentation;
use crate::vocab::{Place, RouteName, TokenName};

/// A route that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("route `{route}`: {source}")]
pub struct RouteError {
    /// The route's name.
    pub route: RouteName,
    /// Where its upstream is written.
    pub place: Place,
    /// Why.
    pub source: TlsError,
}

/// What the routes need from the rest of the program.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'s> {
    /// Bounds on heads, connections and waiting.
    pub limits: &'s Limits,
    /// Where requests are counted.
    pub metrics: &'s Metrics,
    /// Who waits for the tasks of upstream connections.
    pub shutdown: &'s Shutdown,
    /// Whether requests carry our `Via`, by which loops are found.
    pub via: bool,
    /// The field by which callers prove themselves, which is not forwarded.
    pub caller: Option<&'s HeaderName>,
    /// Whose word about clients is taken.
    pub trusted: &'s [Trusted],
}

/// A route in service.
#[derive(Debug)]
pub struct Route {
    pub(super) name: RouteName,
    host: Option<Box<str>>,
    path: Box<str>,
    /// The same in its widest reading.
    widest: Box<str>,
    /// What is cut off the path, and put before it.
    cut: Box<str>,
    base: Box<str>,
    care: Care,
    access: Access,
    pub(super) cors: Cors,
    pub(super) navigation: Navigation,
    pub(super) presentation: Arc<Presentation>,
    pub(super) metrics: RouteMetrics,
    pub(super) upstream: Upstream,
    pub(super) tunnels: Tunnels,
    pub(super) rules: Rules,
    /// The names of the places at which its rules remove credentials.
    pub(super) places: Vec<String>,
    /// How long the upstream may pause within an answer's body.
    pub(super) body_idle: Option<Duration>,
    /// The status codes that any token's rules of rejection name.
    rejecting: Vec<u16>,
}

/// All routes, in the order in which they are tried.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    by_path: bool,
    by_host: bool,
}

impl Routes {
    /// Sets the routes up. `find` gives the handles of the tokens that they name.
    ///
    /// # Errors
    /// An upstream whose TLS settings do not work.
    pub fn new(
        settings: &[Settings],
        find: impl Fn(&TokenName) -> Option<Handle>,
        surroundings: Surroundings<'_>,
    ) -> Result<Self, RouteError> {
        let via = surroundings.via.then(Via::new);
        let mut routes = Vec::with_capacity(settings.len());
        for (index, own) in settings.iter().enumerate() {
            let name = own.name(index);
            let route = Route::new(own, name, settings, &find, via.as_ref(), surroundings)?;
            routes.push(Arc::new(route));
        }
        routes.sort_by_key(|route| std::cmp::Reverse((route.host.is_some(), route.path.len())));
        Ok(Self {
            by_path: routes.iter().any(|route| route.path.len() > 1),
            by_host: routes.iter().any(|route| route.host.is_some()),
            routes,
        })
    }

    /// The names under which routes expect to be addressed.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter_map(|route| route.host.as_deref())
    }

    /// The route for a request that the guard has admitted.
    pub(super) fn find(&self, head: &Parts) -> Result<&Arc<Route>, Refusal> {
        let path = head.uri.path();
        // `%2F` is for the route to judge, which is not known yet.
        let care = if self.by_path { Care::StrictWithSlashes } else { Care::Plain };
        if path != "*"
            && let Some(fault) = target::fault(path, care)
        {
            return Err(Refusal::Path(fault));
        }
        let host = if self.by_host { head.headers.get(HOST) } else { None };
        let host = host.and_then(|value| Host::parse(value.as_bytes())).map(|(host, _)| host);
        let Some(route) = self.routes.iter().find(|route| route.takes(host, path)) else {
            return Err(Refusal::NoRoute);
        };
        if self.by_path && path != "*" && !self.is_unambiguous(route, host, path) {
            return Err(Refusal::Path("could be read as one of another route"));
        }
        let care = match (route.care, self.by_path) {
            (Care::Plain, true) => Care::Strict,
            (care, _) => care,
        };
        if path != "*"
            && care != Care::Plain
            && let Some(fault) = target::fault(path, care)
        {
            return Err(Refusal::Path(fault));
        }
        Ok(route)
    }

    /// Whether a path leads to the same route in its widest reading: were it sent along a route
    /// with other rules, an upstream that reads it so would be reached past the rules (S19).
    fn is_unambiguous(&self, route: &Arc<Route>, host: Option<Host<'_>>, path: &str) -> bool {
        let Cow::Owned(read) = access::widest(path) else { return true };
        let by_widest = self
            .routes
            .iter()
            .find(|route| route.takes_host(host) && target::is_under(&read, &route.widest));
        by_widest.is_none_or(|other| Arc::ptr_eq(other, route))
    }

    /// Whether any route lists an origin.
    pub(super) fn list(&self, origin: &HeaderValue) -> bool {
        self.routes.iter().any(|route| route.cors.lists(origin))
    }
}

impl Route {
    fn new(
        own: &Settings,
        name: RouteName,
        all: &[Settings],
        find: impl Fn(&TokenName) -> Option<Handle>,
        via: Option<&Via>,
        surroundings: Surroundings<'_>,
    ) -> Result<Self, RouteError> {
        let origin = &own.upstream.value;
        let (rules, places) =
            Rules::new(own, all, via.cloned(), surroundings.caller, surroundings.trusted);
        let metrics = surroundings.metrics.route(&name, &places);
        let upstream =
            Upstream::new(origin, &own.tls, surroundings.limits, &metrics, surroundings.shutdown)
                .map_err(|source| RouteError {
                route: name.clone(),
                place: own.upstream.place,
                source,
            })?;
        let presentation = Presentation::new(&own.inject, find);
        let rules_of = presentation.tokens().iter().flat_map(Handle::rejections);
        let rejecting = rules_of.flat_map(|rule| rule.status.iter().copied()).collect();
        let path = own.matches.path.as_ref().map_or("/", |path| path.as_str());
        let cut = if own.strip_prefix { path.trim_end_matches('/') } else { "" };
        let base = origin.url.path().trim_end_matches('/');
        let access = Access::new(&own.allow, &own.deny);
        let untouched = cut.is_empty() && base.is_empty() && !access.is_by_path();
        let care = match (untouched, own.encoded_slash) {
            (_, true) => Care::StrictWithSlashes,
            (true, false) => Care::Plain,
            (false, false) => Care::Strict,
        };
        Ok(Self {
            host: own.matches.host.as_ref().map(|host| host.as_str().into()),
            path: path.into(),
            widest: access::widest(path).into(),
            cut: cut.into(),
            base: base.into(),
            care,
            access,
            cors: Cors::new(own.cors.as_ref()),
            navigation: own.navigation,
            presentation,
            metrics,
            upstream,
            tunnels: Tunnels {
                idle: surroundings.limits.tunnel_idle.0,
                shutdown: surroundings.shutdown.clone(),
            },
            rules,
            places,
            body_idle: match own.body_idle {
                None => Some(surroundings.limits.upstream_body_idle.0),
                Some(BodyIdle(own)) => own.map(|period| period.0),
            },
            rejecting,
            name,
        })
    }

    fn takes_host(&self, host: Option<Host<'_>>) -> bool {
        match &self.host {
            None => true,
            Some(own) => {
                let own = Host::parse(own.as_bytes()).map(|(own, _)| own);
                matches!((own, host), (Some(own), Some(host)) if own.is(host))
            }
        }
    }

    fn takes(&self, host: Option<Host<'_>>, path: &str) -> bool {
        self.takes_host(host)
            && (path == "*" && self.path.len() == 1 || target::is_under(path, &self.path))
    }

    /// Asks the route's `allow` and `deny` rules.
    pub(super) fn permits(&self, head: &Parts) -> Result<(), Refusal> {
        let permitted = self.access.permits(head, &self.cut, &self.base);
        if permitted { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// Makes an origin-form target the one to send upstream.
    pub(super) fn retarget(&self, uri: &mut Uri) -> Result<(), Refusal> {
        let Some(target) = uri.path_and_query() else { return Err(Refusal::Target) };
        let fits = self.cut.is_empty() && self.base.is_empty() && uri.authority().is_none();
        if target.as_str() != "*" && !fits {
            let Some(rewritten) = target::rewritten(target, &self.cut, &self.base) else {
                return Err(Refusal::Path("is too long"));
            };
            *uri = rewritten;
        }
        Ok(())
    }

    /// Whether an answer of this status may reject the credential.
    pub(super) fn may_reject(&self, status: u16) -> bool {
        self.rejecting.contains(&status)
    }

    /// Whether an answer of any status may.
    pub(super) fn can_be_rejected(&self) -> bool {
        !self.rejecting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(yaml: &str) -> Routes {
        let settings: Vec<Settings> = serde_yaml::from_str(yaml).unwrap();
        let surroundings = Surroundings {
            limits: &Limits::default(),
            metrics: &Metrics::new().unwrap(),
            shutdown: &Shutdown::new(),
            via: true,
            caller: None,
            trusted: &[],
        };
        Routes::new(&settings, |_| None, surroundings).unwrap()
    }

    fn found(routes: &Routes, host: &str, target: &str) -> Result<String, Refusal> {
        let request = http::Request::builder().uri(target).header("host", host).body(()).unwrap();
        routes.find(&request.into_parts().0).map(|route| route.name.as_str().to_owned())
    }

    const THREE: &str = "
- {name: all, upstream: 'http://127.0.0.1:1'}
- {name: api, upstream: 'http://127.0.0.1:2', match: {path: /api}}
- {name: v2, upstream: 'http://127.0.0.1:3', match: {path: /api/v2}, encoded_slash: true}
- {name: other, upstream: 'http://127.0.0.1:4', match: {host: Other.local}}
";

    #[test]
    fn a_host_comes_before_a_path_and_a_long_path_before_a_short_one() {
        let routes = routes(THREE);
        for (host, target, expected) in [
            ("localhost", "/", "all"),
            ("localhost", "/apix", "all"),
            ("localhost", "/api", "api"),
            ("localhost", "/api?x=/api/v2", "api"),
            ("localhost", "/api/v2/x", "v2"),
            ("localhost", "/api/v2x", "api"),
            ("other.LOCAL:81", "/api/v2", "other"),
            ("other.local.", "/", "other"),
            ("localhost", "*", "all"),
        ] {
            assert_eq!(found(&routes, host, target).unwrap(), expected, "{host} {target}");
        }
    }

    #[test]
    fn a_path_that_chooses_a_route_is_judged_first() {
        let routes = routes(THREE);
        for bad in ["/x/../api", "/api%2Fv2", "/%61pi/%2e%2e/x", "//api", "/api\\x"] {
            assert!(matches!(found(&routes, "localhost", bad), Err(Refusal::Path(_))), "{bad}");
        }
        assert_eq!(found(&routes, "localhost", "/api/v2/a%2Fb").unwrap(), "v2");
        assert!(found(&routes, "localhost", "/api/v2/..%2Fb").is_err());
    }

    #[test]
    fn a_lone_route_judges_only_what_it_changes() {
        let plain = routes("- upstream: http://127.0.0.1:1");
        assert!(found(&plain, "a", "/x/../y//%2e%2f").is_ok());
        let based = routes("- upstream: http://127.0.0.1:1/base");
        assert!(found(&based, "a", "/x/../y").is_err());
        let cut =
            routes("- {upstream: 'http://127.0.0.1:1', match: {path: /a}, strip_prefix: true}");
        assert!(found(&cut, "a", "/a/../y").is_err());
        assert!(matches!(found(&cut, "a", "/b"), Err(Refusal::NoRoute)));
    }

    proptest! {
        #[test]
        fn routing_equals_a_naive_model(
            paths in proptest::collection::btree_set("(/[ab]{1,2}){0,3}/?", 1..6),
            target in "(/[ab]{1,2}){0,4}/?",
        ) {
            let paths: Vec<String> = paths.into_iter().filter(|path| !path.is_empty()).collect();
            prop_assume!(!paths.is_empty() && !target.is_empty());
            let yaml: String = paths
                .iter()
                .enumerate()
                .map(|(i, path)| {
                    format!("- {{name: r{i}, upstream: 'http://127.0.0.1:1', match: {{path: {path}}}}}\n")
                })
                .collect();
            let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let naive = paths
                .iter()
                .enumerate()
                .filter(|(_, path)| {
                    let (own, asked) = (segments(path), segments(&target));
                    if own.last().is_some_and(String::is_empty) {
                        asked.len() >= own.len() && own[..own.len() - 1] == asked[..own.len() - 1]
                    } else {
                        asked.len() >= own.len() && own == asked[..own.len()]
                    }
                })
                .max_by_key(|(_, path)| path.len())
                .map(|(i, _)| format!("r{i}"));
            prop_assert_eq!(found(&routes(&yaml), "localhost", &target).ok(), naive);
        }
    }
}
