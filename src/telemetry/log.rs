//! Sets up `tracing`: text for people, JSON for collectors, always on standard error.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::format::{Format as Lines, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::vocab::Wall;

/// The target of the access log: one event at level debug for each request.
pub const ACCESS: &str = "bearerd::access";

/// What is logged unless `RUST_LOG` says otherwise: a person at a terminal wants to see what goes
/// by. What h2 warns of is up to the peer, who could fill the log with it.
fn usual(terminal: bool) -> Targets {
    let usual =
        Targets::new().with_default(LevelFilter::INFO).with_target("h2", LevelFilter::ERROR);
    if terminal { usual.with_target(ACCESS, LevelFilter::DEBUG) } else { usual }
}

/// The form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A line for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` chooses what is logged by target and level: `info` by default, and at
/// a terminal a line for each request. (Filters by span and field would need an engine for regular
/// expressions in memory.) `NO_COLOR` takes the colours away (no-color.org).
///
/// A second call in one process changes nothing.
pub fn init(format: Format) {
    let terminal = io::stderr().is_terminal() && format == Format::Text;
    let colours = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let wanted = std::env::var("RUST_LOG").ok();
    let chosen = chosen(wanted.as_deref());
    let unread = chosen.is_err();
    let filter = chosen.ok().flatten().unwrap_or_else(|| usual(terminal));
    let subscriber = subscriber(format, terminal, terminal && colours, filter, io::stderr);
    // Whoever was first has set it up.
    drop(tracing::subscriber::set_global_default(subscriber));
    if unread {
        tracing::warn!(
            "RUST_LOG cannot be read and is passed over; it is a list such as \
             `info,bearerd::access=debug`"
        );
    }
}

/// What `RUST_LOG` chooses. Empty, as a manifest that fills in nothing leaves it, it chooses nothing:
/// silence is `off`.
fn chosen(wanted: Option<&str>) -> Result<Option<Targets>, ParseError> {
    match wanted.map(str::trim) {
        None | Some("") => Ok(None),
        Some(wanted) => wanted.parse().map(Some),
    }
}

fn subscriber(
    format: Format,
    terminal: bool,
    ansi: bool,
    filter: Targets,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let most = Layer::<Registry>::max_level_hint(&filter).unwrap_or(LevelFilter::TRACE);
    let builder =
        tracing_subscriber::fmt().with_max_level(most).with_writer(writer).with_ansi(ansi);
    match (format, terminal) {
        (Format::Text, true) => {
            Box::new(builder.event_format(Terminal::default()).finish().with(filter))
        }
        (Format::Text, false) => Box::new(builder.finish().with(filter)),
        (Format::Json, _) => {
            let builder = builder.json().flatten_event(true).with_current_span(false);
            Box::new(builder.finish().with(filter))
        }
    }
}

/// Lines for a person who watches: the access log in columns, all else as usual.
#[derive(Debug, Default)]
struct Terminal(Lines<Full>);

impl<S, N> FormatEvent<S, N> for Terminal
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != ACCESS {
            return self.0.format_event(context, writer, event);
        }
        let mut access = Access::default();
        event.record(&mut access);
        access.write(&mut writer)
    }
}

/// The fields of an access line.
#[derive(Debug, Default)]
struct Access {
    method: String,
    route: String,
    status: u64,
    bytes: u64,
    seconds: f64,
    aborted: bool,
    refusal: Option<String>,
}

impl Visit for Access {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "route" => value.clone_into(&mut self.route),
            "refusal" => self.refusal = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "status" => self.status = value,
            "bytes" => self.bytes = value,
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "seconds" {
            self.seconds = value;
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "aborted" {
            self.aborted = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "method" {
            self.method = format!("{value:?}");
        }
    }
}

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";

impl Access {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let colours = writer.has_ansi_escapes();
        let paint = |code: &'static str| if colours { code } else { "" };
        let reset = paint("\x1b[0m");
        let now = Wall::now().rfc3339();
        let clock = now.get(11..19).unwrap_or_default();
        let tone = match self.status {
            200..=299 | 101 => GREEN,
            300..=399 => CYAN,
            400..=499 => YELLOW,
            _ => RED,
        };
        let status = if self.status == 0 { "gone".to_owned() } else { self.status.to_string() };
        write!(
            writer,
            "{}{clock}{reset} {}{:<7}{reset} {}{status:<4}{reset} {:>9} {:>9}  {}",
            paint(DIM),
            paint(BOLD),
            self.method,
            paint(tone),
            time(self.seconds),
            size(self.bytes),
            self.route,
        )?;
        if let Some(slug) = &self.refusal {
            write!(writer, "  {}refused: {slug}{reset}", paint(RED))?;
        } else if self.aborted {
            write!(writer, "  {}cut off{reset}", paint(YELLOW))?;
        }
        writeln!(writer)
    }
}

/// A short time in few figures.
fn time(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    match ms {
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        _ => format!("{seconds:.1} s"),
    }
}

/// A number of bytes in few figures.
#[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let exact = bytes as f64;
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.1} KiB", exact / KIB),
        _ => format!("{:.1} MiB", exact / KIB / KIB),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one request and one other event.
    fn written(format: Format, terminal: bool, ansi: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber =
            subscriber(format, terminal, ansi, usual(terminal), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(
                target: ACCESS,
                route = "orders",
                method = %http::Method::GET,
                status = 503_u16,
                bytes = 2048_u64,
                aborted = false,
                refusal = Some("no-token"),
                seconds = 0.0123,
                "request"
            );
            tracing::info!(token = "api", "token obtained");
            tracing::warn!(target: "h2::proto::ping_pong", "what a peer did");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_person_at_a_terminal_sees_requests_in_columns() {
        let text = written(Format::Text, true, true);
        let request = text.lines().next().unwrap();
        for part in [
            "\x1b[1mGET    \x1b[0m",
            "\x1b[31m503 \x1b[0m",
            "12 ms   2.0 KiB  orders",
            "\x1b[31mrefused: no-token\x1b[0m",
        ] {
            assert!(request.contains(part), "{part:?} is not in {request:?}");
        }
        assert!(text.contains("token obtained"));
    }

    #[test]
    fn without_colours_a_line_is_plain_text() {
        let text = written(Format::Text, true, false);
        assert!(text.lines().next().unwrap().contains(" GET     503      12 ms   2.0 KiB  orders"));
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn where_nobody_watches_requests_are_not_logged_unless_asked_for() {
        for format in [Format::Text, Format::Json] {
            let text = written(format, false, false);
            assert!(text.contains("token obtained") && !text.contains("orders"), "{text}");
        }
    }

    #[test]
    fn a_peer_that_breaks_http2_writes_no_lines_into_the_log() {
        for terminal in [false, true] {
            let text = written(Format::Text, terminal, false);
            assert!(text.contains("token obtained") && !text.contains("a peer"), "{text}");
        }
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([time(0.000_2), time(0.25), time(2.0)], ["0.2 ms", "250 ms", "2.0 s"]);
        assert_eq!([size(7), size(1536), size(3 << 20)], ["7 B", "1.5 KiB", "3.0 MiB"]);
    }

    #[test]
    fn an_empty_choice_is_none_and_an_unreadable_one_is_told() {
        for none in [None, Some(""), Some(" ")] {
            assert_eq!(chosen(none).unwrap(), None, "{none:?}");
        }
        let silent = Targets::new().with_default(LevelFilter::OFF);
        assert_eq!(chosen(Some("off")).unwrap(), Some(silent));
        assert!(chosen(Some("info,bearerd=deubg")).is_err());
    }
}
