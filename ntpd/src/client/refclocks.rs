//! Reference clocks: opened, read at their pace, and opened again where that fails. What their readings are worth, the engine
//! decides.

use std::{collections::BTreeMap, io, time::Duration};

use clock_control::refclock::{Driver, Readings, Refclock as Device};
use ntp_proto::{ids::SourceId, refclock::Reading, time::Monotonic};

use super::Client;
use crate::{config::Refclock, now, observe::SourceInfo};

/// Time between two attempts to open a device.
const RETRY: Duration = Duration::from_secs(16);

/// Devices that were opened while there were rights for it that there are no more.
#[derive(Debug, Default)]
pub struct Opened(BTreeMap<Driver, Device>);

impl Opened {
    /// Opens what can be opened. What cannot is tried, and told of, later.
    #[must_use]
    pub fn open(refclocks: &[Refclock]) -> Self {
        let open = |refclock: &Refclock| Some((refclock.driver.clone(), Device::open(&refclock.driver).ok()?));
        Self(refclocks.iter().filter_map(open).collect())
    }
}

/// A reference clock that is read.
#[derive(Debug)]
pub(super) struct Feed {
    configured: Refclock,
    source: SourceId,
    device: Option<Device>,
    /// When to look at it next.
    next: Monotonic,
}

impl Feed {
    /// A look a little early costs nothing, and is as good as one in time: the engine's own timer is as late as this one.
    fn is_due(&self, now: Monotonic) -> bool {
        now + self.configured.config.driver_poll.to_duration() / 4 >= self.next
    }
}

impl Client {
    /// Takes these reference clocks. Those that are there already go on.
    pub(super) fn set_refclocks(&mut self, configured: &[Refclock], Opened(mut devices): Opened) {
        let present = self.clock.now();
        let (kept, gone): (Vec<Feed>, Vec<Feed>) =
            std::mem::take(&mut self.feeds).into_iter().partition(|feed| configured.contains(&feed.configured));
        self.feeds = kept;
        for feed in gone {
            self.engine.remove_source(present, feed.source);
            self.info.remove(&feed.source);
            // It may only be asked in another way, and there may be no right any more to open it.
            devices.extend(feed.device.map(|device| (feed.configured.driver, device)));
        }
        for refclock in configured {
            if self.feeds.iter().any(|feed| feed.configured == *refclock) {
                continue;
            }
            let first = present.monotonic + refclock.config.poll.to_duration();
            let (name, device) = (refclock.name(), refclock.driver.to_string());
            let Some(source) = self.engine.add_refclock(&refclock.config, first) else {
                tracing::warn!(source = %name, "too many sources; this one is left out until another goes");
                continue;
            };
            tracing::info!(source = %name, %device, "added reference clock");
            self.info.insert(source, SourceInfo::refclock(name, device));
            let device = devices.remove(&refclock.driver);
            self.feeds.push(Feed { configured: refclock.clone(), source, device, next: present.monotonic });
        }
    }

    /// When the next device is to be looked at.
    pub(super) fn next_reading(&self) -> Option<Monotonic> {
        self.feeds.iter().map(|feed| feed.next).min()
    }

    /// Reads the devices whose time has come.
    pub(super) fn read_refclocks(&mut self) {
        let now = now::monotonic();
        if !self.feeds.iter().any(|feed| feed.is_due(now)) {
            return;
        }
        let mut feeds = std::mem::take(&mut self.feeds);
        for feed in feeds.iter_mut().filter(|feed| feed.is_due(now)) {
            match read(feed) {
                Ok(readings) => {
                    feed.next = now + feed.configured.config.driver_poll.to_duration();
                    self.set_refclock_note(feed, None);
                    self.take_readings(feed.source, readings);
                }
                Err(error) => {
                    // Whatever it was, it may be there again later.
                    feed.device = None;
                    feed.next = now + RETRY;
                    self.set_refclock_note(feed, Some(error.to_string()));
                }
            }
        }
        self.feeds = feeds;
    }

    fn take_readings(&mut self, source: SourceId, Readings { readings, malformed }: Readings) {
        for _ in 0..malformed {
            self.engine.handle_malformed_reading(source);
        }
        for reading in readings {
            let reading = Reading { at: self.clock_at(reading.at), ..reading };
            let present = self.clock.now();
            self.engine.handle_reading(present, source, &reading);
        }
    }

    /// Says what keeps a device from being read, or that nothing does any more; in the log once for each reason.
    fn set_refclock_note(&mut self, feed: &Feed, problem: Option<String>) {
        let Some(info) = self.info.get_mut(&feed.source) else { return };
        let note = problem.map(|problem| format!("cannot read {}: {problem}", feed.configured.driver));
        if info.note == note {
            return;
        }
        match &note {
            Some(note) => tracing::warn!(
                source = %info.name,
                "{note}; trying again every {} s (is it there, and may this user open it?)", RETRY.as_secs()
            ),
            None => tracing::info!(source = %info.name, device = %feed.configured.driver, "reference clock is read"),
        }
        info.note = note;
    }
}

/// What a device says that is opened first if need be.
fn read(feed: &mut Feed) -> io::Result<Readings> {
    if feed.device.is_none() {
        feed.device = Some(Device::open(&feed.configured.driver)?);
    }
    feed.device.as_mut().map_or_else(|| Ok(Readings::default()), Device::read)
}
