//! Where a clock goes on from that nothing has set, as long as nobody authenticates the time.

use ntp_proto::{
    bootstrap::{between, resumed},
    time::NtpDuration,
};

use super::Client;

impl Client {
    /// A clock that nothing has set goes on from where it was last kept, once, before sources set it.
    pub(super) fn resume(&mut self) {
        let (now, present) = (self.clock.now(), self.present());
        let kept = self.boot.known.kept.take();
        if self.engine.tracking(now).updates > 0 {
            return;
        }
        if let Some(at) = resumed(present.clock.seconds, &self.boot.floor(), &self.boot.known.clock, kept) {
            let by = NtpDuration::from_seconds(between(present.clock, at));
            tracing::warn!(
                seconds = by.to_seconds(),
                "nothing has set the clock; it is set forward to the hardware clock, or to when it was last kept"
            );
            self.engine.set_clock(now, by);
        }
    }
}
