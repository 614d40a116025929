//! What can be changed, and waited for.

use std::{
    net::{IpAddr, ToSocketAddrs as _},
    thread,
    time::Duration,
};

use ntp_proto::server::LocalConfig;

use super::{Outcome, Session, format::cut};
use crate::observe::chronyc::{
    client::{
        AccessBody, AddSourceBody, Address, Body, BurstBody, Entry, Failure, LocalBody, MakeStepBody, NAME_LEN,
        NumberBody, SelectOptionsBody, SettingBody, Status, Subnet, TrackingData, flags, options,
    },
    table as requests,
};
use crate::observe::control::setting::parse_local;

/// The reference identifier of a daemon that follows nobody but itself.
const LOCAL_REFERENCE: u32 = 0x7f7f_0101;

impl Session {
    /// Changes something; `None` if there is nothing of this name.
    pub(super) fn change(&mut self, name: &str, arguments: &[&str]) -> Option<Outcome> {
        if let Some(entry) = bare(name, arguments) {
            return Some(self.tell(&entry, &()));
        }
        if let Some(outcome) = self.set(name, arguments).or_else(|| self.permit(name, arguments)) {
            return Some(outcome);
        }
        Some(match (name, arguments) {
            ("dump", _) => self.tell(&requests::DUMP, &0_i32),
            ("makestep", [threshold, limit]) => match (threshold.parse(), limit.parse()) {
                (Ok(threshold_seconds), Ok(limit)) => {
                    self.tell(&requests::MAKESTEP_CONFIG, &MakeStepBody { limit, threshold_seconds })
                }
                _ => invalid(name),
            },
            ("local", words) => match parse_local(&words.join(" ")) {
                Ok(config) => self.tell(&requests::LOCAL, &local(config.as_ref())),
                Err(_) => invalid(name),
            },
            ("online" | "offline", [] | [_]) => match subnet(arguments.first().copied()) {
                Some(subnet) => {
                    let entry = if name == "online" { requests::ONLINE } else { requests::OFFLINE };
                    self.tell(&entry, &subnet)
                }
                None => Failure::Address.into(),
            },
            ("burst", [counts] | [counts, _]) => {
                let counts = counts
                    .split_once('/')
                    .and_then(|(good, total)| Some((good.parse::<i32>().ok()?, total.parse::<i32>().ok()?)));
                match (counts, subnet(arguments.get(1).copied())) {
                    (_, None) => Failure::Address.into(),
                    (Some((good, total)), Some(which)) => {
                        self.tell(&requests::BURST, &BurstBody { which, good, total })
                    }
                    _ => invalid(name),
                }
            }
            ("accheck" | "cmdaccheck", [text]) => match text.parse::<IpAddr>() {
                Ok(address) => {
                    let entry = if name == "accheck" { requests::ACCHECK } else { requests::CMDACCHECK };
                    self.tell(&entry, &Address::Ip(address))
                }
                Err(_) => Failure::Address.into(),
            },
            ("delete", [text]) => match text.parse::<IpAddr>() {
                Ok(address) => self.tell(&requests::DELETE, &Address::Ip(address)),
                Err(_) => self.delete_named(text),
            },
            ("add", [kind @ ("server" | "pool" | "peer"), host, options @ ..]) => match new_source(kind, host, options)
            {
                Ok(body) => self.tell(&requests::ADD_SOURCE, &body),
                Err(option) => Outcome::Misused(format!("Invalid option `{option}` of the {kind}\n")),
            },
            (
                "add" | "makestep" | "online" | "offline" | "burst" | "accheck" | "cmdaccheck" | "delete" | "reload",
                _,
            ) => invalid(name),
            _ => return None,
        })
    }

    /// Changes a setting, of one source or of all; `None` if there is none of this name.
    fn set(&mut self, name: &str, arguments: &[&str]) -> Option<Outcome> {
        let of_source = [
            ("minpoll", requests::MINPOLL),
            ("maxpoll", requests::MAXPOLL),
            ("minstratum", requests::MINSTRATUM),
            ("polltarget", requests::POLLTARGET),
        ];
        let number_of_source = [
            ("maxdelay", requests::MAXDELAY),
            ("maxdelayratio", requests::MAXDELAYRATIO),
            ("maxdelaydevratio", requests::MAXDELAYDEVRATIO),
        ];
        let number = [
            ("maxupdateskew", requests::MAXUPDATESKEW),
            ("reselectdist", requests::RESELECTDIST),
            ("dfreq", requests::DFREQ),
            ("doffset", requests::DOFFSET),
        ];
        let named = |(known, _): &&(&str, Entry)| *known == name;
        let source = || arguments.first().and_then(|text| host(text)).map(Address::Ip);
        if let Some((_, entry)) = of_source.iter().find(named) {
            let Some(address) = source() else { return Some(Failure::Address.into()) };
            let value = arguments.get(1).and_then(|text| text.parse().ok());
            return Some(
                value.map_or_else(|| invalid(name), |value| self.tell(entry, &SettingBody { address, value })),
            );
        }
        if let Some((_, entry)) = number_of_source.iter().find(named) {
            let Some(address) = source() else { return Some(Failure::Address.into()) };
            let value = arguments.get(1).and_then(|text| text.parse().ok());
            return Some(value.map_or_else(|| invalid(name), |value| self.tell(entry, &NumberBody { address, value })));
        }
        let (_, entry) = number.iter().find(named)?;
        let value = arguments.first().and_then(|text| text.parse::<f64>().ok());
        Some(value.map_or_else(|| invalid(name), |value| self.tell(entry, &value)))
    }

    /// Says who is served, and how a source may be used; `None` if there is nothing of this name.
    fn permit(&mut self, name: &str, arguments: &[&str]) -> Option<Outcome> {
        match (name, arguments) {
            ("allow" | "deny" | "cmdallow" | "cmddeny", words) => {
                Some(access(name, words).map_or_else(|| invalid(name), |(entry, body)| self.tell(&entry, &body)))
            }
            ("selectopts", [text, words @ ..]) => Some(match (host(text), select(words)) {
                (None, _) => Failure::Address.into(),
                (Some(address), Some((mask, options))) => {
                    let address = Address::Ip(address);
                    let body = SelectOptionsBody { address, reference_id: 0, mask, options };
                    self.tell(&requests::SELECTOPTS, &body)
                }
                (Some(_), None) => invalid(name),
            }),
            ("selectopts", []) => Some(invalid(name)),
            _ => None,
        }
    }

    fn tell(&mut self, entry: &Entry, body: &impl Body) -> Outcome {
        match self.talker.tell(entry, body) {
            Ok(status @ (Status::Success | Status::AccessAllowed | Status::AccessDenied)) => {
                Outcome::Text(format!("{}\n", status.text()))
            }
            Ok(status) => Outcome::Failed(format!("{}\n", status.text())),
            Err(failure) => failure.into(),
        }
    }

    /// Removes a server by its name.
    fn delete_named(&mut self, name: &str) -> Outcome {
        match self.find_named(name) {
            Ok(Some(address)) => self.tell(&requests::DELETE, &address),
            Ok(None) => Outcome::Failed(format!("{}\n", Status::NoSuchSource.text())),
            Err(failure) => failure.into(),
        }
    }

    /// Waits until the clock is synchronized.
    pub(super) fn wait(&mut self, arguments: &[&str]) -> Outcome {
        let number = |place: usize, default: f64| match arguments.get(place) {
            None => Some(default),
            Some(text) => text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0),
        };
        let (Some(tries), Some(correction), Some(skew), Some(interval)) =
            (number(0, 0.0), number(1, 0.0), number(2, 0.0), number(3, 10.0))
        else {
            return invalid("waitsync");
        };
        let mut attempt = 0.0;
        loop {
            attempt += 1.0;
            let data: TrackingData = match self.talker.ask(&requests::TRACKING, &()) {
                Ok(data) => data,
                Err(failure) => return failure.into(),
            };
            let off = data.correction_seconds.abs();
            let (reference, skew_ppm) = (data.reference_id, data.skew_ppm);
            if self.csv {
                println!("{attempt:.0},{reference:08X},{off:.9},{skew_ppm:.3}");
            } else {
                println!("try: {attempt:.0}, refid: {reference:08X}, correction: {off:.9}, skew: {skew_ppm:.3}");
            }
            let follows = data.address != Address::Unspecified || !matches!(data.reference_id, 0 | LOCAL_REFERENCE);
            if follows && (correction == 0.0 || off <= correction) && (skew == 0.0 || data.skew_ppm <= skew) {
                return Outcome::Text(String::new());
            }
            if tries > 0.0 && attempt >= tries {
                return Outcome::Failed(String::new());
            }
            thread::sleep(Duration::from_secs_f64(interval.clamp(0.1, 86_400.0)));
        }
    }
}

/// A command that says all there is to say.
fn bare(name: &str, arguments: &[&str]) -> Option<Entry> {
    Some(match (name, arguments) {
        ("makestep", []) => requests::MAKESTEP,
        ("onoffline", _) => requests::ONOFFLINE,
        ("refresh", _) => requests::REFRESH,
        ("rekey", _) => requests::REKEY,
        ("reload", ["sources", ..]) => requests::RELOAD,
        ("reselect", _) => requests::RESELECT,
        ("cyclelogs", _) => requests::CYCLELOGS,
        ("shutdown", _) => requests::SHUTDOWN,
        ("reset", ["sources", ..]) => requests::RESET,
        ("trimrtc", _) => requests::TRIMRTC,
        ("writertc", _) => requests::WRITERTC,
        _ => return None,
    })
}

/// What chronyc sends.
fn local(config: Option<&LocalConfig>) -> LocalBody {
    let is_on = config.is_some();
    let config = config.unwrap_or(&LocalConfig::DEFAULT);
    LocalBody {
        on: is_on.into(),
        stratum: config.stratum.into(),
        distance_seconds: config.distance.to_seconds(),
        orphan: config.orphan.into(),
        activate_seconds: config.activate.to_seconds(),
        wait_synced_seconds: config.wait_synced.as_secs_f64(),
        wait_unsynced_seconds: config.wait_unsynced.as_secs_f64(),
    }
}

fn invalid(name: &str) -> Outcome {
    Outcome::Misused(format!("Invalid syntax for {} command\n", cut(name, 20)))
}

/// `ADDRESS`, `ADDRESS/BITS` or `MASK/ADDRESS`; everything without it.
fn subnet(text: Option<&str>) -> Option<Subnet> {
    let Some(text) = text else {
        return Some(Subnet { mask: Address::Unspecified, address: Address::Unspecified });
    };
    let of = |mask: IpAddr, address: IpAddr| Subnet { mask: Address::Ip(mask), address: Address::Ip(address) };
    let Some((first, second)) = text.split_once('/') else {
        let address = host(text)?;
        let ones = ipnet::IpNet::from(address).netmask();
        return Some(of(ones, address));
    };
    if let (Ok(mask), Ok(address)) = (first.parse::<IpAddr>(), second.parse::<IpAddr>()) {
        return (mask.is_ipv4() == address.is_ipv4()).then(|| of(mask, address));
    }
    let network: ipnet::IpNet = text.parse().ok()?;
    Some(of(network.netmask(), network.network()))
}

/// What `allow`, `deny`, `cmdallow` and `cmddeny` ask for: `[all] [ADDRESS[/BITS]]`; everything without an address.
fn access(name: &str, words: &[&str]) -> Option<(Entry, AccessBody)> {
    let (all, range) = match words {
        ["all", range @ ..] => (true, range),
        range => (false, range),
    };
    let (address, prefix_length) = match range {
        [] => (Address::Unspecified, 0),
        [text] => match text.split_once('/') {
            Some((address, bits)) => (Address::Ip(address.parse().ok()?), bits.parse().ok()?),
            None => host(text).map(|address| (Address::Ip(address), if address.is_ipv4() { 32 } else { 128 }))?,
        },
        _ => return None,
    };
    let entry = match (name, all) {
        ("allow", false) => requests::ALLOW,
        ("allow", true) => requests::ALLOW_ALL,
        ("deny", false) => requests::DENY,
        ("deny", true) => requests::DENY_ALL,
        ("cmdallow", false) => requests::CMDALLOW,
        ("cmdallow", true) => requests::CMDALLOW_ALL,
        (_, false) => requests::CMDDENY,
        (_, true) => requests::CMDDENY_ALL,
    };
    Some((entry, AccessBody { address, prefix_length }))
}

/// The mask and the options that `+prefer -trust` and the like stand for.
fn select(words: &[&str]) -> Option<(u32, u32)> {
    let known = [
        ("noselect", options::NOSELECT, flags::NOSELECT),
        ("prefer", options::PREFER, flags::PREFER),
        ("trust", options::TRUST, flags::TRUST),
        ("require", options::REQUIRE, flags::REQUIRE),
    ];
    let (mut mask, mut values) = (0, 0);
    for word in words {
        let (_, bit, flag) = known.iter().find(|(name, ..)| word.get(1..) == Some(*name))?;
        mask |= u32::from(*bit);
        match word.as_bytes().first() {
            Some(b'+') => values |= flag,
            Some(b'-') => values &= !flag,
            _ => return None,
        }
    }
    Some((mask, values))
}

/// An address, or the first that a name has.
fn host(text: &str) -> Option<IpAddr> {
    let named = || (text, 0).to_socket_addrs().ok()?.next().map(|address| address.ip());
    text.parse().ok().or_else(named)
}

/// What chronyc sends for these options; `Err` is the one that makes no sense.
fn new_source<'o>(kind: &str, host: &str, options: &[&'o str]) -> Result<AddSourceBody, &'o str> {
    let mut name = [0; NAME_LEN];
    let len = host.len().min(NAME_LEN - 1);
    name[..len].copy_from_slice(&host.as_bytes()[..len]);
    let mut body = AddSourceBody {
        kind: match kind {
            "server" => 1,
            "peer" => 2,
            _ => 3,
        },
        name,
        port: 123,
        min_poll: 6,
        max_poll: 10,
        presend_min_poll: 100,
        min_stratum: 0,
        poll_target: 8,
        version: 0,
        max_sources: 4,
        min_samples: -1,
        max_samples: -1,
        key: 0,
        nts_port: 4460,
        max_delay_seconds: 3.0,
        max_delay_ratio: 0.0,
        max_delay_deviation_ratio: 10.0,
        min_delay_seconds: 0.0,
        asymmetry: 1.0,
        offset_seconds: 0.0,
        flags: flags::ONLINE,
        filter_length: 0,
        certificate_set: 0,
        max_delay_quantile: 0.0,
        max_unreach: 100_000,
    };
    let mut words = options.iter().copied();
    while let Some(word) = words.next() {
        let mut set = |flag: u32| body.flags |= flag;
        match word {
            "iburst" => set(flags::IBURST),
            "burst" => set(flags::BURST),
            "prefer" => set(flags::PREFER),
            "noselect" => set(flags::NOSELECT),
            "trust" => set(flags::TRUST),
            "require" => set(flags::REQUIRE),
            "xleave" => set(flags::INTERLEAVED),
            "nts" => set(flags::NTS),
            "copy" => set(flags::COPY),
            "auto_offline" => set(flags::AUTO_OFFLINE),
            "ipv4" => set(flags::IPV4),
            "ipv6" => set(flags::IPV6),
            "offline" => body.flags &= !flags::ONLINE,
            "key" => body.key = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "port" => body.port = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "ntsport" => body.nts_port = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "minpoll" => body.min_poll = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "maxpoll" => body.max_poll = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "version" => body.version = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "maxsources" => body.max_sources = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "polltarget" => body.poll_target = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "maxdelay" => body.max_delay_seconds = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "offset" => body.offset_seconds = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            "minstratum" => body.min_stratum = words.next().and_then(|number| number.parse().ok()).ok_or(word)?,
            other => return Err(other),
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_in_three_ways() {
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        let of = |mask, address| Some(Subnet { mask: ip(mask), address: ip(address) });
        assert_eq!(subnet(Some("192.0.2.1")), of("255.255.255.255", "192.0.2.1"));
        assert_eq!(subnet(Some("192.0.2.0/24")), of("255.255.255.0", "192.0.2.0"));
        assert_eq!(subnet(Some("255.255.255.0/192.0.2.0")), of("255.255.255.0", "192.0.2.0"));
        assert_eq!(subnet(Some("2001:db8::/32")), of("ffff:ffff::", "2001:db8::"));
        for text in ["", "a b", "192.0.2.0/33", "255.255.255.0/2001:db8::1"] {
            assert_eq!(subnet(Some(text)), None, "{text}");
        }
    }

    #[test]
    fn ranges_and_options_are_those_of_chrony() {
        let of = |entry, address: &str, bits| {
            Some((entry, AccessBody { address: Address::Ip(address.parse().unwrap()), prefix_length: bits }))
        };
        assert_eq!(access("allow", &["192.0.2.0/24"]), of(requests::ALLOW, "192.0.2.0", 24));
        assert_eq!(access("deny", &["all", "2001:db8::1"]), of(requests::DENY_ALL, "2001:db8::1", 128));
        assert_eq!(access("cmddeny", &["all", "192.0.2.1"]), of(requests::CMDDENY_ALL, "192.0.2.1", 32));
        assert_eq!(access("cmdallow", &["192.0.2.0/24"]), of(requests::CMDALLOW, "192.0.2.0", 24));
        let everything = AccessBody { address: Address::Unspecified, prefix_length: 0 };
        assert_eq!(access("allow", &["all"]), Some((requests::ALLOW_ALL, everything)));
        assert_eq!(access("allow", &["192.0.2.1", "192.0.2.2"]), None);
        assert_eq!(select(&["+prefer", "-trust"]), Some((6, flags::PREFER)));
        assert_eq!(select(&[]), Some((0, 0)));
        assert!([select(&["prefer"]), select(&["+best"]), select(&["+"])].iter().all(Option::is_none));
    }

    #[test]
    fn options_of_a_new_source_are_those_of_chrony() {
        let body = new_source("server", "a.example", &["nts", "minpoll", "4", "prefer", "offline"]).unwrap();
        assert_eq!((body.kind, body.min_poll, body.max_poll), (1, 4, 10));
        assert_eq!(body.flags, flags::NTS | flags::PREFER);
        assert_eq!(&body.name[..10], b"a.example\0");
        assert_eq!(new_source("pool", "a", &["minpoll", "x"]), Err("minpoll"));
        assert_eq!(new_source("pool", "a", &["nonsense"]), Err("nonsense"));
    }
}
