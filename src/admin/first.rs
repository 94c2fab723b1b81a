//! The page's first view, which needs no script: where every token and route stands, and what was
//! refused. The script puts a moving view in its place.

use std::fmt;

use super::status::{RouteStatus, State, Status, TokenStatus};
use crate::telemetry::journal::Inspect;

/// The parts that the page's frame has places for.
#[derive(Debug)]
pub(super) struct View {
    pub(super) key: String,
    pub(super) tone: &'static str,
    pub(super) ready: &'static str,
    pub(super) about: String,
    pub(super) tokens: String,
    pub(super) routes: String,
    pub(super) refusals: String,
    pub(super) requests: &'static str,
}

/// Text between tags or in quotes; nothing in it is markup.
struct Plain<'t>(&'t str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// The view of a status.
pub(super) fn view(status: &Status<'_>, key: &str) -> View {
    let (ready, tone) = match (status.draining, status.ready) {
        (true, _) => ("draining", "warn"),
        (false, true) => ("ready", "good"),
        (false, false) => ("not ready", "bad"),
    };
    let refusals = status.refusals.iter().map(|(slug, count)| {
        format!("<li><b class=\"num\">{count}</b><span>{}</span></li>", Plain(slug))
    });
    View {
        key: key.to_owned(),
        tone,
        ready,
        about: format!("{} · since {}", status.version, Plain(&status.started_at)),
        tokens: status.tokens.iter().map(token).collect(),
        routes: status.routes.iter().map(route).collect(),
        refusals: refusals.collect(),
        requests: match status.inspect {
            Inspect::None => "Requests are not listed here.",
            Inspect::Names | Inspect::Paths => "Requests are listed by the page's script.",
        },
    }
}

fn token(token: &TokenStatus) -> String {
    let required = if token.required { "" } else { " · not\u{a0}required" };
    let obtained = token.age_seconds.map_or_else(
        || {
            if token.last_failure.is_some() { "Never obtained so far" } else { "Asking its source" }
                .to_owned()
        },
        |age| {
            let means = if token.obtained_by.is_empty() { "its source" } else { token.obtained_by };
            format!("Obtained {} ago by {means}, number {}", span(age), token.generation)
        },
    );
    let tone = tone(token.state);
    let mut text = format!(
        "<article class=\"card\"><div class=\"head\"><h3>{}</h3><span class=\"chip {tone}\">{}\
         </span></div><div class=\"quiet small wrap\">{} · {}{required}</div><div class=\"small\">\
         {obtained}</div>",
        Plain(&token.name),
        token.says,
        token.kind,
        Plain(&token.source),
    );
    if let Some(left) = token.next_attempt_in_seconds {
        let verb = if token.last_failure.is_some() { "tries again" } else { "renews" };
        let age = token.age_seconds.filter(|_| token.last_failure.is_none()).unwrap_or(0.0);
        text += &bar("Renewal", left, left + age, &format!("{verb} in {}", span(left)), tone);
    }
    if let (Some(age), Some(left)) = (token.age_seconds, token.expires_in_seconds) {
        let over = token.state == State::Expired;
        let words = if over { "expired".to_owned() } else { format!("expires in {}", span(left)) };
        text += &bar("Expiry", left, left + age, &words, tone);
    }
    if let Some(failure) = &token.last_failure {
        let what = format!("{}: {}", failure.reason, failure.detail);
        text += &note("Failed.", &what, failure.advice);
    }
    if let Some(rejection) = &token.rejected_by_upstream {
        let what = format!("the value in use, {} ago", span(rejection.seconds_ago));
        text += &note("An upstream rejected", &what, rejection.advice);
    }
    text + "</article>"
}

const fn tone(state: State) -> &'static str {
    match state {
        State::Starting => "idle",
        State::Fresh => "good",
        State::Renewing => "work",
        State::Stale => "warn",
        State::Expired | State::Rejected => "bad",
    }
}

fn note(what: &str, detail: &str, advice: &str) -> String {
    format!(
        "<div class=\"note small\"><strong>{what} </strong><span>{}</span><div>What to do: {}</div>\
         </div>",
        Plain(detail),
        Plain(advice)
    )
}

fn bar(name: &str, left: f64, whole: f64, words: &str, tone: &str) -> String {
    let share = if whole > 0.0 { (100.0 * left / whole).clamp(0.0, 100.0) } else { 0.0 };
    format!(
        "<div class=\"bar\"><div><span>{name}</span><span class=\"num\">{words}</span></div><svg \
         class=\"track\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{name}: {words}\"><rect class=\"{tone}\" width=\"{share:.1}\" height=\"1\"/>\
         </svg></div>"
    )
}

fn route(route: &RouteStatus<'_>) -> String {
    let traffic = &route.traffic;
    let injects =
        if route.injects.is_empty() { "nothing".to_owned() } else { route.injects.join(", ") };
    let figure = |name: &str, count: u64| {
        format!("<div class=\"figure small quiet\"><b class=\"num\">{count}</b>{name}</div>")
    };
    format!(
        "<article class=\"card row\"><div><h3>{}</h3><div class=\"quiet small wrap\">{}{} → {}\
         </div><div class=\"quiet small wrap\">injects {}</div></div><div class=\"figures\">\
         {}{}{}{}{}</div></article>",
        Plain(route.name),
        Plain(route.host.unwrap_or_default()),
        Plain(route.path),
        Plain(route.upstream),
        Plain(&injects),
        figure("requests", traffic.requests),
        figure("5xx", traffic.server_errors),
        figure("in flight", traffic.in_flight),
        figure("rejected", traffic.rejections),
        figure("stripped", traffic.stripped),
    )
}

/// A time as the script writes it too.
fn span(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else if minutes < 120.0 {
        format!("{:.0} min", minutes.floor())
    } else if minutes < 2880.0 {
        format!("{:.0} h", (minutes / 60.0).floor())
    } else {
        format!("{:.0} d", (minutes / 1440.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let text = Plain("<script>alert(\"1\" & '2')</script>").to_string();
        assert_eq!(text, "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;");
        assert!(!note("x", "<img src=x>", "a<b").contains("<img"));
    }

    #[test]
    fn times_are_short() {
        for (seconds, expected) in
            [(0.0, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h"), (200_000.0, "2 d")]
        {
            assert_eq!(span(seconds), expected);
        }
    }
}
