//! Messages to the administrator.

use std::io;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, LogLevel, LogSettings};

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

/// Sends messages where the settings say; in a process that has done so already, nothing changes.
///
/// `auto` means the journal's own protocol under systemd, and lines of text on standard error otherwise. Lines carry no
/// colours without a terminal, and no time of their own where the journal adds one.
pub fn start(settings: LogSettings) {
    let level = filter(settings.level);
    let is_ours = || std::env::var_os("JOURNAL_STREAM").is_some();
    let text = || {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        fmt::layer().with_writer(io::stderr).with_ansi(terminal).with_target(false)
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
