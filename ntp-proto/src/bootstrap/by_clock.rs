//! How many confirm a clock that judges certificates as it is.

use super::{
    Bootstrap, Standing,
    quorum::{Ballot, CONFIRMING_SAMPLES, Limits},
};

/// How many servers confirm a clock that was verified before, since the machine started.
const TRUSTED_BY: usize = 2;
/// How far a clock can be off that the kernel calls synchronized, in seconds: at this error bound it no longer does
/// (`NTP_PHASE_LIMIT` in the kernel's `linux/timex.h`).
const KEPT_WITHIN: f64 = 16.0;

impl Bootstrap {
    /// What must hold where the clock, as it is, judges certificates: of the few who confirm a clock that there is reason to
    /// believe, and of a majority.
    pub(super) fn limits_by_clock(&self, limits: Limits) -> [Limits; 2] {
        let majority = if self.operators() > 1 { self.needed() } else { 1 };
        // One alone takes nothing of the floor back, and neither do a few.
        let earliest = if majority > 1 { limits.earliest } else { self.earliest() };
        let majority =
            Limits { earliest, needed: majority, ballot: Ballot::Confirming, samples: CONFIRMING_SAMPLES, ..limits };
        let by_servers = self.standing == Standing::Trusted || self.config.min_agreeing.is_some();
        if !by_servers || self.is_distrusted() {
            return [majority, majority];
        }
        let few = Limits { earliest: self.earliest(), needed: self.needed_by_clock(), ..majority };
        [Limits { ballot: Ballot::ConfirmingByServers, ..few }, majority]
    }

    /// How far from the clock a time may be that a few confirm, in seconds. An administrator's word goes for any.
    pub(super) const fn reach_of_few(&self) -> f64 {
        match (self.standing, self.config.min_agreeing) {
            (Standing::Trusted, None) => KEPT_WITHIN,
            (Standing::Trusted | Standing::Plausible | Standing::Untrusted(_), _) => f64::INFINITY,
        }
    }

    /// How many confirm a clock by which their certificates are valid.
    pub(super) fn needed_by_clock(&self) -> usize {
        let servers = self.counted().map(|expected| expected.servers).sum::<usize>();
        let majority = if self.operators() > 1 { self.needed() } else { 1 };
        let enough = match self.standing {
            Standing::Trusted => self.config.min_agreeing.unwrap_or(TRUSTED_BY),
            Standing::Plausible => self.config.min_agreeing.unwrap_or(majority),
            Standing::Untrusted(_) => return majority,
        };
        enough.min(servers).max(1)
    }
}
