//! A configuration as a file in which nothing is left to defaults.

use std::{
    fmt::{Display, Write as _},
    path::Path,
    time::Duration,
};

use clock_control::refclock::Driver;
use ntp_proto::{
    discipline::{ChangeLimit, StepLimit},
    server::LocalConfig,
    source::SampleRules,
    time::{NtpDuration, Rate},
};

use super::{
    ChronycSettings, ClockSettings, Config, Host, HwTimestamp, Pool, Refclock, Serve, ServeNts, Server, SourceOptions,
    clock, control, hwtimestamp, logging, options, refclock, sources, trust,
    values::{show_duration, show_signed_seconds, word_for},
};

/// Writes the file. Reading it again makes the same configuration.
pub(super) fn explain(config: &Config) -> String {
    let mut out = Out(String::new());
    out.list("source-directories", config.source_directories.iter().map(|directory| directory.display()));
    for pool in &config.pools {
        explain_pool(pool, &mut out);
    }
    for server in &config.servers {
        explain_server(server, &mut out);
    }
    for interface in &config.hwtimestamp {
        explain_interface(interface, &mut out);
    }
    for refclock in &config.refclocks {
        explain_refclock(refclock, &mut out);
    }
    explain_clock(&config.clock, &mut out);
    if let Some(serve) = &config.serve {
        explain_serve(serve, &mut out);
    }
    out.head("[trust]");
    out.string("certificates", word_for(trust::ROOTS, &config.trust.certificates));
    if let Some(file) = &config.trust.certificate_file {
        out.path("certificate-file", file);
    }
    out.string("dnssec", word_for(trust::DNSSEC, &config.trust.dnssec));
    if let Some(file) = &config.trust.dnssec_anchor {
        out.path("dnssec-anchor", file);
    }
    out.list("resolver", &config.trust.resolvers);
    let aeads: Vec<_> = config.trust.aeads.iter().map(|algorithm| algorithm.id()).collect();
    out.plain("aeads", format_args!("{aeads:?}"));
    let first_boot = config.trust.first_boot;
    out.string("bootstrap", first_boot.policy.name());
    if first_boot.single {
        out.plain("first-boot-quorum", 1);
    }
    if let Some(servers) = first_boot.min_agreeing {
        out.plain("min-agreeing", servers);
    }
    if let Some(file) = &config.key_file {
        out.head("[keys]");
        out.path("file", file);
    }
    out.head("[state]");
    out.path("directory", &config.state_directory);
    out.head("[control]");
    out.path("socket", &config.control_socket);
    explain_chronyc(config.chronyc.as_ref(), &mut out);
    out.head("[observe]");
    out.list("listen", &config.observe);
    out.head("[log]");
    out.string("level", word_for(logging::LEVELS, &config.log.level));
    out.string("format", word_for(logging::FORMATS, &config.log.format));
    if let Some(files) = &config.log_files {
        out.head("[log.files]");
        out.path("directory", &files.directory);
        out.list("write", logging::written(files));
        out.plain("banner", files.banner);
    }
    out.0
}

fn explain_chronyc(chronyc: Option<&ChronycSettings>, out: &mut Out) {
    out.plain("chronyc", chronyc.is_some());
    let Some(ChronycSettings { listen, socket, allow, open }) = chronyc else { return };
    out.list("chronyc-listen", listen);
    if let Some(socket) = socket {
        out.path("chronyc-socket", socket);
    }
    out.list("chronyc-allow", allow);
    out.list("chronyc-open", control::opened(open));
}

struct Out(String);

impl Out {
    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn head(&mut self, head: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(head);
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn string(&mut self, key: &str, value: impl Display) {
        self.plain(key, quote(&value.to_string()));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.string(key, path.display());
    }

    fn list(&mut self, key: &str, values: impl IntoIterator<Item = impl Display>) {
        let quoted: Vec<_> = values.into_iter().map(|value| quote(&value.to_string())).collect();
        self.plain(key, format_args!("[{}]", quoted.join(", ")));
    }
}

/// A TOML string.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Parts per million, without the digits that only the conversion made.
fn ppm(rate: Rate) -> f64 {
    (rate.to_ppm() * 1e6).round() / 1e6
}

fn explain_pool(pool: &Pool, out: &mut Out) {
    out.head("[[pool]]");
    out.string("name", &pool.name);
    out.string("mode", word_for(sources::MODES, &pool.mode));
    out.plain("count", pool.count);
    out.string("nts", word_for(sources::NTS, &pool.nts));
    out.list("require", sources::require_words(pool.require));
    out.plain("port", pool.port);
    out.plain("ke-port", pool.ke_port);
    out.list("address-hints", &pool.address_hints);
    explain_options(&pool.options, out);
}

fn explain_server(server: &Server, out: &mut Out) {
    out.head("[[server]]");
    let host = server.host.to_string();
    let address =
        if host.contains(':') { format!("[{host}]:{}", server.port) } else { format!("{host}:{}", server.port) };
    out.string("address", address);
    out.string("nts", word_for(sources::NTS, &server.nts));
    out.plain("ke-port", server.ke_port);
    if matches!(server.host, Host::Name(_)) {
        out.list("address-hints", &server.address_hints);
    }
    if let Some(key) = server.key {
        out.plain("key", key.0);
    }
    out.list("require", sources::require_words(server.require));
    explain_options(&server.options, out);
}

fn explain_interface(interface: &HwTimestamp, out: &mut Out) {
    out.head("[[hwtimestamp]]");
    out.string("interface", &interface.interface);
    if let Some(filter) = interface.rx_filter {
        out.string("rx-filter", word_for(hwtimestamp::FILTERS, &filter));
    }
    out.plain("min-poll", interface.min_poll.log2_seconds());
    out.string("tx-comp", show_signed_seconds(interface.tx_comp));
    out.string("rx-comp", show_signed_seconds(interface.rx_comp));
    out.plain("cross-timestamp", interface.cross_timestamp);
}

fn explain_refclock(refclock: &Refclock, out: &mut Out) {
    out.head("[[refclock]]");
    out.string("driver", refclock.driver.name());
    match &refclock.driver {
        Driver::Pps { device, edge } => {
            out.path("device", device);
            out.string("edge", refclock::edge_word(*edge));
        }
        Driver::Phc { device, cross_timestamp } => {
            out.path("device", device);
            out.plain("cross-timestamp", cross_timestamp);
        }
        Driver::Shm { unit, permissions } => {
            out.plain("unit", unit);
            out.string("permissions", format_args!("{permissions:04o}"));
        }
        Driver::Sock { path } => out.path("device", path),
    }
    let config = &refclock.config;
    let seconds = |seconds: f64| show_duration(Duration::from_secs_f64(seconds));
    out.string("refid", refclock.name());
    out.plain("poll", config.poll.log2_seconds());
    out.plain("dpoll", config.driver_poll.log2_seconds());
    out.plain("stratum", config.stratum);
    out.string("offset", show_signed_seconds(config.correction));
    out.string("delay", seconds(config.delay));
    if let Some(precision) = config.precision {
        out.string("precision", seconds(precision));
    }
    if config.max_dispersion.is_finite() {
        out.string("max-dispersion", seconds(config.max_dispersion));
    }
    out.plain("filter", config.readings);
    let is_pps = matches!(refclock.driver, Driver::Pps { .. });
    if !is_pps {
        out.plain("pps", config.pulses);
    }
    if is_pps || config.pulses || matches!(refclock.driver, Driver::Sock { .. }) {
        out.plain("rate", config.rate);
        if let Some(lock) = config.lock {
            out.string("lock", refclock::letters(lock));
        }
        out.plain("max-lock-age", config.max_lock_age);
    }
    out.plain("tai", config.tai);
    out.plain("min-samples", config.samples.0);
    out.plain("max-samples", config.samples.1);
    out.list("select", options::select_words(config.options));
}

fn explain_options(options: &SourceOptions, out: &mut Out) {
    out.plain("min-poll", options.min_poll.log2_seconds());
    out.plain("max-poll", options.max_poll.log2_seconds());
    out.plain("iburst", options.iburst);
    out.plain("burst", options.burst);
    out.plain("interleaved", options.interleaved);
    out.plain("version", options.version);
    out.plain("offline", options.offline);
    if let Some(family) = options.family {
        out.string("family", word_for(options::FAMILIES, &family));
    }
    explain_rules(&options.rules, out);
    if let Some(roots) = &options.roots {
        out.string("certificates", word_for(trust::ROOTS, &roots.which));
        if let Some(file) = &roots.file {
            out.path("certificate-file", file);
        }
    }
    out.list("select", options::select_words(options.select));
}

fn explain_rules(rules: &SampleRules, out: &mut Out) {
    out.string("offset", show_signed_seconds(rules.correction));
    out.plain("min-stratum", rules.min_stratum);
    out.string("max-delay", show_duration(Duration::from_secs_f64(rules.max_delay)));
    if let Some(ratio) = rules.max_delay_ratio {
        out.plain("max-delay-ratio", ratio);
    }
    if let Some(deviations) = rules.max_delay_deviations {
        out.plain("max-delay-dev-ratio", deviations);
    }
    out.plain("min-samples", rules.min_samples);
    out.plain("max-samples", rules.max_samples);
    out.plain("poll-target", rules.poll_target);
}

fn explain_clock(settings: &ClockSettings, out: &mut Out) {
    out.head("[clock]");
    let updates = match settings.step_limit {
        StepLimit::Always => quote("always"),
        StepLimit::Updates(updates) => updates.to_string(),
    };
    let threshold = quote(&show_duration(settings.step_threshold));
    out.plain("step", format_args!("{{ threshold = {threshold}, updates = {updates} }}"));
    out.plain("max-slew-rate", ppm(settings.max_slew_rate));
    out.plain("correction-time-ratio", format_args!("{:?}", settings.correction_time_ratio));
    out.plain("max-frequency", ppm(settings.max_frequency));
    out.plain("max-update-skew", ppm(settings.max_update_skew));
    if let Some(ChangeLimit { offset, start, ignore }) = settings.max_change {
        let offset = quote(&show_duration(Duration::from_secs_f64(offset)));
        let ignore = ignore.map_or_else(|| quote("always"), |ignore| ignore.to_string());
        out.plain("max-change", format_args!("{{ offset = {offset}, start = {start}, ignore = {ignore} }}"));
    }
    out.string("log-change", show_duration(settings.log_change));
    out.string("max-distance", show_duration(Duration::from_secs_f64(settings.select.max_distance)));
    out.string("max-jitter", show_duration(Duration::from_secs_f64(settings.select.max_jitter)));
    if let Some(count) = settings.select.min_sources {
        out.plain("min-sources", count);
    }
    out.string("auth-select-mode", word_for(clock::AUTH_SELECT, &settings.select.auth));
    out.string("leap", word_for(clock::LEAP, &settings.leap));
    if let Some(file) = &settings.leap_file {
        out.path("leap-file", file);
    }
}

fn explain_serve(serve: &Serve, out: &mut Out) {
    out.head("[serve]");
    out.list("listen", &serve.listen);
    out.list("allow", &serve.access.allow);
    out.list("deny", &serve.access.deny);
    match &serve.local {
        None => out.plain("local", false),
        Some(local) => out.plain("local", explain_local(local)),
    }
    out.plain("smear", serve.smear);
    match &serve.rate_limit {
        None => out.plain("rate-limit", false),
        Some(limit) => {
            let leak = limit.leak_log2.map_or_else(|| "false".to_owned(), |log2| log2.to_string());
            let (interval, burst, kiss) = (limit.interval.log2_seconds(), limit.burst, limit.kiss);
            let table = format!("{{ interval = {interval}, burst = {burst}, leak = {leak}, kiss = {kiss} }}");
            out.plain("rate-limit", table);
        }
    }
    out.plain("client-log", serve.client_log);
    out.plain("threads", serve.threads);
    if let Some(nts) = &serve.nts {
        explain_serve_nts(nts, out);
    }
}

fn explain_local(local: &LocalConfig) -> String {
    let time = |duration| quote(&show_duration(duration));
    let span = |span: NtpDuration| time(Duration::from_nanos(u64::try_from(span.to_nanos()).unwrap_or_default()));
    format!(
        "{{ stratum = {}, distance = {}, activate = {}, orphan = {}, wait-synced = {}, wait-unsynced = {} }}",
        local.stratum,
        span(local.distance),
        span(local.activate),
        local.orphan,
        time(local.wait_synced),
        time(local.wait_unsynced)
    )
}

fn explain_serve_nts(nts: &ServeNts, out: &mut Out) {
    out.head("[serve.nts]");
    out.list("listen", &nts.listen);
    out.path("certificate", &nts.certificate);
    out.path("private-key", &nts.private_key);
    if let Some(server) = &nts.ntp_server {
        out.string("ntp-server", server);
    }
    if let Some(port) = nts.ntp_port {
        out.plain("ntp-port", port);
    }
    if let Some(file) = &nts.pool_tokens {
        out.path("pool-tokens", file);
    }
    if let Some(file) = &nts.cookie_secret {
        out.path("cookie-secret", file);
        out.string("cookie-period", show_duration(nts.cookie_period));
    }
}
