//! What the network does to a packet.

use std::time::Duration;

use super::Random;

/// One client's way to one server and back. Times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Least time from client to server.
    pub there: f64,
    /// Least time from server to client.
    pub back: f64,
    /// Standard deviation of the queueing on top, from client to server.
    pub jitter: f64,
    /// The same from server to client.
    pub jitter_back: f64,
    /// How many equal exponential waits the queueing is the sum of: one has its peak at the least delay, more are bell-shaped.
    pub waits: u8,
    /// Probability that a packet is lost, each way.
    pub loss: f64,
    /// Probability that a packet is held up.
    pub spike: f64,
    /// Mean time for which it is held up then.
    pub spike_delay: f64,
    /// Probability that a packet comes twice.
    pub doubled: f64,
}

impl Path {
    /// The same least delay both ways.
    #[must_use]
    pub const fn symmetric(delay: f64, jitter: f64) -> Self {
        Self {
            there: delay,
            back: delay,
            jitter,
            jitter_back: jitter,
            waits: 1,
            loss: 0.0,
            spike: 0.0,
            spike_delay: 0.0,
            doubled: 0.0,
        }
    }

    /// A quiet local network: 100 µs each way, 20 µs of jitter.
    #[must_use]
    pub const fn lan() -> Self {
        Self::symmetric(100e-6, 20e-6)
    }

    /// The Internet: 15 ms there, 17 ms back, 500 µs of jitter, some loss and spikes.
    #[must_use]
    pub const fn wan() -> Self {
        Self { there: 0.015, back: 0.017, loss: 0.01, spike: 0.02, spike_delay: 0.02, ..Self::symmetric(0.0, 500e-6) }
    }

    /// Times to the server of each copy of a packet that is not lost.
    pub(super) fn send(&self, random: &mut Random) -> Vec<Duration> {
        self.copies(self.there, self.jitter, random)
    }

    /// Times back to the client.
    pub(super) fn receive(&self, random: &mut Random) -> Vec<Duration> {
        self.copies(self.back, self.jitter_back, random)
    }

    fn copies(&self, least: f64, jitter: f64, random: &mut Random) -> Vec<Duration> {
        let copies = if self.doubled > 0.0 && random.chance(self.doubled) { 2 } else { 1 };
        (0..copies).filter_map(|_| self.cross(least, jitter, random)).collect()
    }

    fn cross(&self, least: f64, jitter: f64, random: &mut Random) -> Option<Duration> {
        // All is drawn every time, so that one packet's fate does not change the next one's.
        let lost = random.chance(self.loss);
        let held = if random.chance(self.spike) { random.exponential(self.spike_delay) } else { 0.0 };
        // The variance of a sum of independent waits is the sum of theirs.
        let each = jitter / f64::from(self.waits).sqrt();
        let queued: f64 = (0..self.waits).map(|_| random.exponential(each)).sum();
        let time = least + queued + held;
        (!lost).then(|| Duration::from_secs_f64(time))
    }
}
