//! The program and the clock.

use super::{Family, count, counter, flag, gauge};
use crate::observe::{
    report::{LeapWord, TimeState},
    table::seconds,
};

const PPM: f64 = 1e-6;

const LEAPS: [(&str, LeapWord); 4] = [
    ("normal", LeapWord::Normal),
    ("insert-second", LeapWord::InsertSecond),
    ("delete-second", LeapWord::DeleteSecond),
    ("not-synchronized", LeapWord::NotSynchronized),
];

const TIME_STATES: [TimeState; 3] = [TimeState::Unknown, TimeState::Provisional, TimeState::Verified];

pub(super) const FAMILIES: &[Family] = &[
    gauge("ntpd_build_info", "The version; always 1.", |report, out| {
        out.add(&[("version", &report.daemon.version)], 1.0);
    }),
    gauge("ntpd_start_time_seconds", "When the daemon was started, in seconds since 1970.", |report, out| {
        out.one(seconds(report.daemon.started_unix_seconds));
    }),
    gauge("ntpd_synchronized", "1 if the clock counts as synchronized.", |report, out| {
        out.one(flag(report.tracking.synchronized));
    }),
    gauge("ntpd_stratum", "Stratum of this machine; 16 if it was never synchronized.", |report, out| {
        out.one(report.tracking.stratum.into());
    }),
    gauge("ntpd_leap", "1 for what is said of leap seconds, 0 for the rest.", |report, out| {
        LEAPS.iter().for_each(|(word, leap)| out.add(&[("leap", word)], flag(report.tracking.leap == *leap)));
    }),
    gauge(
        "ntpd_time_state",
        "1 for what is known of the time, 0 for the rest; only where authenticated sources are expected.",
        |report, out| {
            let Some(time) = &report.tracking.time else { return };
            TIME_STATES.iter().for_each(|state| out.add(&[("state", state.name())], flag(time.state == *state)));
        },
    ),
    gauge(
        "ntpd_last_offset_seconds",
        "What the last correction found to be wrong; positive if the clock was slow.",
        |report, out| out.one(report.tracking.last_offset_seconds),
    ),
    gauge("ntpd_rms_offset_seconds", "Long-term root mean square of corrections.", |report, out| {
        out.one(report.tracking.rms_offset_seconds);
    }),
    gauge(
        "ntpd_pending_correction_seconds",
        "What is still to be slewed; positive if the clock is slow.",
        |report, out| out.one(report.tracking.pending_seconds),
    ),
    gauge(
        "ntpd_frequency_ratio",
        "Rate at which the clock is corrected, in seconds a second; positive if the oscillator is slow.",
        |report, out| out.one(report.tracking.frequency_ppm * PPM),
    ),
    gauge(
        "ntpd_residual_frequency_ratio",
        "How much faster the sources run than what was applied, in seconds a second.",
        |report, out| out.one(report.tracking.residual_frequency_ppm * PPM),
    ),
    gauge("ntpd_skew_ratio", "Error bound of the frequency, in seconds a second.", |report, out| {
        out.one(report.tracking.skew_ppm * PPM);
    }),
    gauge("ntpd_root_delay_seconds", "Round trip to the primary source.", |report, out| {
        out.one(report.tracking.root_delay_seconds);
    }),
    gauge("ntpd_root_dispersion_seconds", "Error bound, half the root delay not included.", |report, out| {
        out.one(report.tracking.root_dispersion_seconds);
    }),
    gauge(
        "ntpd_root_distance_seconds",
        "Error bound of the clock against true time; +Inf before it is known.",
        |report, out| {
            let known = report.tracking.root_delay_seconds / 2.0 + report.tracking.root_dispersion_seconds;
            out.one(if report.tracking.reference_time_unix_seconds.is_some() { known } else { f64::INFINITY });
        },
    ),
    gauge("ntpd_update_interval_seconds", "Time between the last two corrections.", |report, out| {
        out.one(report.tracking.update_interval_seconds);
    }),
    counter("ntpd_clock_updates_total", "Corrections of the clock.", |report, out| {
        out.one(count(report.tracking.updates));
    }),
    gauge(
        "ntpd_last_update_timestamp_seconds",
        "When the clock was last corrected, in seconds since 1970.",
        |report, out| out.some(report.tracking.reference_time_unix_seconds),
    ),
];
