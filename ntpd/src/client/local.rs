//! The local clock, served where sources do not tell the time.

use ntp_proto::server::{LocalConfig, LocalReference};

use super::Client;

impl Client {
    /// Serves the local clock as this says, or never.
    pub(super) fn set_local(&mut self, config: Option<LocalConfig>) {
        let present = self.clock.now();
        self.local = config.map(|config| LocalReference::new(config, present.monotonic));
        let orphan = config.filter(|config| config.orphan).map(|config| config.stratum);
        self.engine.set_orphan_stratum(present, orphan);
    }

    /// Publishes what is served.
    pub(super) fn publish(&mut self) {
        let present = self.clock.now();
        let mut status = self.engine.status();
        if let Some(local) = &mut self.local {
            let was_active = local.is_active();
            status = local.serve(present.monotonic, status.from_kernel.apply(present.clock), &status);
            match (was_active, local.is_active()) {
                (false, true) => {
                    tracing::warn!(stratum = status.stratum, "serving the local clock: no source tells the time")
                }
                (true, false) => tracing::info!("serving the time of sources again"),
                (true, true) | (false, false) => {}
            }
        }
        if self.smears {
            status.smear = self.engine.smear(present);
        }
        status.from_kernel = self.clock.from_kernel().then(&status.from_kernel);
        self.status.publish(status);
    }

    /// The stratum of the local clock, while it is served.
    pub(super) fn local_stratum(&self) -> Option<u8> {
        self.local.as_ref().filter(|local| local.is_active()).map(|local| local.config().stratum)
    }
}
