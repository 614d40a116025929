//! Messages to the administrator.

use std::io;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    Layer as _,
    field::MakeExt as _,
    filter::{LevelFilter, Targets},
    fmt::{self, FormatFields, format::debug_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{LogFormat, LogLevel, LogSettings},
    observe::table,
};

/// What is logged at this level. Libraries speak up for themselves only where every packet is wanted: what they call a
/// warning is an answer to us, and is told in our own words.
fn filter(level: LogLevel) -> Targets {
    let wanted = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level == LogLevel::Trace { LevelFilter::TRACE } else { LevelFilter::OFF };
    Targets::new().with_default(others).with_target("ntpd", wanted)
}

/// The journal's own protocol. Fields of messages have the prefix `NTPD_` there, and levels the priorities of syslog(3).
fn journal() -> io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some("NTPD".to_owned())).with_priority_mappings(priorities))
}

/// Fields as text. What they say may come from certificates and from the network, and must not look like a line of its
/// own, nor steer a terminal; a message of several lines is indented.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|out, field, value| {
        let text = table::printable(&format!("{value:?}"));
        match field.name() {
            "message" => write!(out, "{}", text.replace('\n', "\n    ")),
            name => write!(out, "{name}={}", text.replace('\n', "\\n")),
        }
    })
    .delimited(" ")
}

/// Sends messages where the settings say; in a process that has done so already, nothing changes.
///
/// `auto` means the journal's own protocol under systemd, and lines of text on standard error otherwise. Lines carry no
/// colours without a terminal, and no time of their own where the journal adds one.
pub fn start(settings: LogSettings) {
    let level = filter(settings.level);
    let is_ours = || std::env::var_os("JOURNAL_STREAM").is_some();
    let text = || {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        fmt::layer().fmt_fields(fields()).with_writer(io::stderr).with_ansi(terminal).with_target(false)
    };
    let registry = tracing_subscriber::registry();
    let started = match settings.format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(io::stderr).with_filter(level)).try_init(),
        LogFormat::Text => registry.with(text().with_filter(level)).try_init(),
        LogFormat::Journald => match journal() {
            Ok(layer) => registry.with(layer.with_filter(level)).try_init(),
            Err(error) => {
                let started = registry.with(text().with_filter(level)).try_init();
                tracing::warn!("no journal here, logging to standard error: {error}");
                started
            }
        },
        LogFormat::Auto => match journal().ok().filter(|_| is_ours()) {
            Some(layer) => registry.with(layer.with_filter(level)).try_init(),
            None => registry.with(text().with_filter(level)).try_init(),
        },
    };
    // Only a second call in one process fails, and then the first one's settings hold.
    drop(started);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Where lines go, to be read again.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_else_writes_a_line_of_the_log() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().fmt_fields(fields()).with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.without_time().with_target(false));
        let said = "expired\n2026-01-01T00:00:00Z  INFO all is well\u{1b}[2J";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(source = %"a.example", reason = %said, count = 3, "no keys");
            tracing::error!("two problems:\none: {said}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                " WARN no keys source=a.example reason=expired\\n2026-01-01T00:00:00Z  INFO all is well\\u{1b}[2J count=3",
                "ERROR two problems:",
                "    one: expired",
                "    2026-01-01T00:00:00Z  INFO all is well\\u{1b}[2J",
            ]
        );
    }
}
