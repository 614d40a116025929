//! Interfaces that stamp packets: set up, their clocks compared with the system's, and their stamps converted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use clock_control::{NoStamps, refclock::Phc, stamp_packets};
use nix::ifaddrs::getifaddrs;
use ntp_proto::{
    ids::SourceId,
    stamping::{Converted, InterfaceClock},
    steer::{Applied, Steer},
    time::{Monotonic, NtpDuration, NtpTimestamp, Rate},
};

use super::{Client, request::Received};
use crate::{config::HwTimestamp, now};

/// What stands for all interfaces that can.
const ALL: &str = "*";

/// Interfaces that stamp packets.
#[derive(Debug, Default)]
pub struct Hardware {
    configured: Vec<HwTimestamp>,
    interfaces: BTreeMap<String, Interface>,
    /// What the system's clock runs at, relative to its oscillator.
    rate: Rate,
}

#[derive(Debug)]
struct Interface {
    settings: HwTimestamp,
    device: Phc,
    clock: InterfaceClock,
    next: Monotonic,
    /// The device failed, and that was told.
    told: bool,
}

impl Hardware {
    /// Has interfaces stamp packets, which takes rights that there may be no more later. What does not work is told, and the
    /// kernel's stamps are used there.
    #[must_use]
    pub fn open(configured: &[HwTimestamp]) -> Self {
        let mut hardware = Self::default();
        hardware.configure(configured);
        hardware
    }

    /// Takes other settings; interfaces that are set up already go on.
    pub(super) fn configure(&mut self, configured: &[HwTimestamp]) {
        if self.configured == configured {
            return;
        }
        self.configured = configured.to_vec();
        let mut old = std::mem::take(&mut self.interfaces);
        for settings in configured {
            let names = if settings.interface == ALL { all() } else { vec![settings.interface.clone()] };
            for name in names {
                // What is named counts before what is meant by all.
                let is_named = settings.interface != ALL && configured.iter().any(|one| one.interface == name);
                if self.interfaces.contains_key(&name) && !is_named {
                    continue;
                }
                match old.remove(&name).filter(|known| known.settings == *settings) {
                    Some(known) => drop(self.interfaces.insert(name, known)),
                    None => self.set_up(name, settings),
                }
            }
        }
        if configured.iter().any(|settings| settings.interface == ALL) && self.interfaces.is_empty() {
            tracing::warn!("no interface supports hardware timestamps; those of the kernel are used");
        }
    }

    fn set_up(&mut self, name: String, settings: &HwTimestamp) {
        let ready = stamp_packets(&name, settings.rx_filter).and_then(|filter| {
            let device = Phc::open(Path::new(&name), settings.cross_timestamp).map_err(NoStamps::System)?;
            Ok((filter, device))
        });
        match ready {
            Ok((filter, device)) => {
                tracing::info!(interface = %name, ?filter, "interface stamps packets");
                let next = now::monotonic();
                let interface = Interface {
                    settings: settings.clone(),
                    device,
                    clock: InterfaceClock::default(),
                    next,
                    told: false,
                };
                self.interfaces.insert(name, interface);
            }
            Err(NoStamps::Unsupported) if settings.interface == ALL => {}
            Err(error) => tracing::warn!(
                interface = %name, reason = %error,
                "no hardware timestamps on this interface; those of the kernel are used"
            ),
        }
    }

    /// The interface that packets from this address leave by, if it stamps them.
    pub(super) fn interface_of(&self, local: IpAddr) -> Option<&str> {
        if self.interfaces.is_empty() {
            return None;
        }
        let name = getifaddrs().ok()?.find_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let own = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())));
            (own == Some(local)).then_some(interface.interface_name)
        })?;
        self.interfaces.get_key_value(&name).map(|(name, _)| name.as_str())
    }

    /// When clocks are to be compared next.
    pub(super) fn next(&self) -> Option<Monotonic> {
        self.interfaces.values().map(|interface| interface.next).min()
    }

    /// Compares clocks whose time has come.
    pub(super) fn compare(&mut self) {
        let now = now::monotonic();
        for (name, interface) in &mut self.interfaces {
            if now < interface.next {
                continue;
            }
            interface.next = now + interface.settings.min_poll.to_duration();
            match interface.device.read() {
                Ok(both) => {
                    interface.told = false;
                    interface.clock.handle_comparison(both.reference, both.at, both.error);
                }
                Err(error) => {
                    interface.clock.reset();
                    interface.next = interface.next + Duration::from_secs(16);
                    if !std::mem::replace(&mut interface.told, true) {
                        tracing::warn!(interface = %name, %error, "cannot read the interface's clock; its stamps are not used");
                    }
                }
            }
        }
    }

    /// When a request left, by the system's clock.
    pub(super) fn sent(&self, interface: &str, stamp: NtpTimestamp) -> Option<Converted> {
        let interface = self.interfaces.get(interface)?;
        let converted = interface.clock.convert(stamp)?;
        Some(Converted { at: converted.at + NtpDuration::from_seconds(interface.settings.tx_comp), ..converted })
    }

    /// When a reply arrived, by the system's clock; `None` if the kernel, which stamped it at `kernel`, could not have had it yet
    /// or had it long before.
    pub(super) fn received(&self, interface: &str, stamp: NtpTimestamp, kernel: NtpTimestamp) -> Option<Converted> {
        /// Longest time from the wire to the kernel, in seconds.
        const MAX_LATENESS: f64 = 0.1;
        let interface = self.interfaces.get(interface)?;
        let converted = interface.clock.convert(stamp)?;
        let at = converted.at - NtpDuration::from_seconds(interface.settings.rx_comp);
        let later = (kernel - at).to_seconds();
        (-converted.error..=MAX_LATENESS).contains(&later).then_some(Converted { at, ..converted })
    }

    /// The system's clock was steered.
    pub(super) fn handle_steered(&mut self, applied: &Applied) {
        match applied.command {
            Steer::Frequency(rate) => {
                let before = std::mem::replace(&mut self.rate, rate);
                self.interfaces
                    .values_mut()
                    .for_each(|interface| interface.clock.handle_rate(applied.at, before, rate));
            }
            Steer::Step(by) => self.handle_jump(by),
            Steer::Status(_) => {}
        }
    }

    /// The system's clock jumped.
    pub(super) fn handle_jump(&mut self, by: NtpDuration) {
        self.interfaces.values_mut().for_each(|interface| interface.clock.handle_step(by));
    }

    /// The machine slept.
    pub(super) fn handle_sleep(&mut self) {
        self.interfaces.values_mut().for_each(|interface| interface.clock.reset());
    }

    /// What the system's clock runs at before it is steered.
    pub(super) const fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }
}

impl Client {
    /// When a request left, by the clock that is kept, if its interface says so.
    pub(super) fn sent_by_interface(&mut self, source: SourceId, stamp: Option<NtpTimestamp>) -> Option<Converted> {
        let interface = self.info.get(&source)?.interface.as_deref()?;
        let converted = self.hardware.sent(interface, stamp?)?;
        // What it is compared with was moved by all steps already.
        Some(Converted { at: self.clock.from_kernel().apply(converted.at), ..converted })
    }

    /// When a datagram arrived, by the clock that is kept, if its interface says so.
    pub(super) fn received_by_interface(&mut self, received: &Received) -> Option<Converted> {
        let interface = self.info.get(&received.source)?.interface.as_deref()?;
        let converted = self.hardware.received(interface, received.hardware?, received.at)?;
        Some(Converted { at: self.clock.from_kernel().apply(converted.at), ..converted })
    }
}

/// The names of all interfaces.
fn all() -> Vec<String> {
    let names: BTreeSet<String> =
        getifaddrs().map(|all| all.map(|interface| interface.interface_name).collect()).unwrap_or_default();
    names.into_iter().collect()
}
