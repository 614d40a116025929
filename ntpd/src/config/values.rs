//! Single values: what their text may be.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::IpNet;
use ntp_proto::{
    nts::AeadAlgorithm,
    pool::Name,
    time::{PollInterval, Rate},
};

use super::{Host, problem::Wrong, raw::Data};

/// Units of durations, the largest first, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const DURATION: &str = "a number with a unit (ns, us, ms, s, min, h, d), such as \"1s\" or \"100ms\"";

const SIGNED_DURATION: &str = "a number with a unit, also with a sign, such as \"1ms\" or \"-250us\"";

const ADDRESS_AND_PORT: &str = "an address with a port, such as \"0.0.0.0:123\" or \"[::]:123\"";

const ADDRESS: &str = "an address without a port, such as \"192.0.2.1\" or \"2001:db8::1\"";

const PREFIX: &str = "an address or a prefix, such as \"192.0.2.0/24\" or \"2001:db8::/32\", or \"all\"";

/// What names a name server.
const RESOLVER: &str = "an address, with or without a port: 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:5353";

/// The port of DNS (RFC 1035).
const DNS_PORT: u16 = 53;

const HOST_AND_PORT: &str =
    "a host name or an address, also with a port, such as \"ntp1.example:123\" or \"[2001:db8::1]:123\"";

/// Names of AEAD algorithms in the registry.
const AEADS: [(&str, AeadAlgorithm); 3] = [
    ("AEAD_AES_SIV_CMAC_256", AeadAlgorithm::AesSivCmac256),
    ("AEAD_AES_SIV_CMAC_512", AeadAlgorithm::AesSivCmac512),
    ("AEAD_AES_128_GCM_SIV", AeadAlgorithm::AesGcmSiv128),
];

fn mismatch(expected: &str, found: &Data) -> Wrong {
    Wrong::new(format!("expected {expected}, found {}", found.kind()))
}

/// Any text.
pub(super) fn text(data: &Data) -> Result<String, Wrong> {
    if let Data::String(text) = data { Ok(text.clone()) } else { Err(mismatch("a string", data)) }
}

/// `true` or `false`.
pub(super) fn boolean(data: &Data) -> Result<bool, Wrong> {
    let Data::Boolean(value) = data else { return Err(mismatch("a boolean", data).accepted("true, false")) };
    Ok(*value)
}

/// A whole number of a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Data) -> Result<T, Wrong>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |data| {
        let accepted = || format!("{} to {}", range.start(), range.end());
        let Data::Integer(value) = data else { return Err(mismatch("an integer", data).accepted(accepted())) };
        T::try_from(*value)
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| Wrong::new(format!("{value} is out of range")).accepted(accepted()))
    }
}

/// A number of a range, in parts per million.
pub(super) fn ppm(range: RangeInclusive<f64>) -> impl Fn(&Data) -> Result<Rate, Wrong> {
    move |data| number_of(data, &range, " (parts per million)").map(Rate::from_ppm)
}

/// A number of a range.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&Data) -> Result<f64, Wrong> {
    move |data| number_of(data, &range, "")
}

fn number_of(data: &Data, range: &RangeInclusive<f64>, unit: &str) -> Result<f64, Wrong> {
    let accepted = format!("{} to {}{unit}", range.start(), range.end());
    let value = match data {
        Data::Float(value) => *value,
        #[expect(clippy::cast_precision_loss, reason = "what it could lose lies far outside of every range")]
        Data::Integer(value) => *value as f64,
        Data::String(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_) | Data::Table(_) => {
            return Err(mismatch("a number", data).accepted(accepted));
        }
    };
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Wrong::new(format!("{value} is out of range")).accepted(accepted))
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Data) -> Result<T, Wrong> {
    move |data| {
        let accepted = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let Data::String(written) = data else { return Err(mismatch("a string", data).accepted(accepted())) };
        words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(written))
            .map(|&(_, meaning)| meaning)
            .ok_or_else(|| Wrong::new(format!("unknown value `{written}`")).accepted(accepted()))
    }
}

/// The word for a value, as [`word`] would read it.
pub(super) fn word_for<T: PartialEq>(words: &'static [(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, meaning)| meaning == value).map_or("", |(word, _)| *word)
}

/// An AEAD algorithm by its number or its name in the registry.
pub(super) fn aead(data: &Data) -> Result<AeadAlgorithm, Wrong> {
    let (found, written) = match data {
        Data::Integer(id) => (u16::try_from(*id).ok().and_then(AeadAlgorithm::from_id), id.to_string()),
        Data::String(text) => {
            let named = AEADS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            (named.map(|(_, algorithm)| algorithm), text.clone())
        }
        Data::Float(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_) | Data::Table(_) => {
            return Err(mismatch("an integer or a string", data).accepted(aeads()));
        }
    };
    found.ok_or_else(|| Wrong::new(format!("unknown AEAD algorithm `{written}`")).accepted(aeads()))
}

/// What [`aead`] takes.
pub(super) fn aeads() -> String {
    AEADS.map(|(name, algorithm)| format!("{} ({name})", algorithm.id())).join(", ")
}

/// A duration of a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Data) -> Result<Duration, Wrong> {
    move |data| {
        let Data::String(text) = data else { return Err(mismatch("a duration", data).accepted(DURATION)) };
        let value =
            parse_duration(text).ok_or_else(|| Wrong::new(format!("`{text}` is no duration")).accepted(DURATION))?;
        if range.contains(&value) {
            return Ok(value);
        }
        let limits = format!("{} to {}", show_duration(*range.start()), show_duration(*range.end()));
        Err(Wrong::new(format!("`{text}` is out of range")).accepted(limits))
    }
}

/// A duration with or without a sign, in seconds.
pub(super) fn signed_seconds(most: Duration) -> impl Fn(&Data) -> Result<f64, Wrong> {
    move |data| {
        let Data::String(text) = data else { return Err(mismatch("a duration", data).accepted(SIGNED_DURATION)) };
        let (sign, magnitude) = text.strip_prefix('-').map_or((1.0, text.as_str()), |rest| (-1.0, rest));
        let value = parse_duration(magnitude.strip_prefix('+').filter(|_| sign > 0.0).unwrap_or(magnitude))
            .ok_or_else(|| Wrong::new(format!("`{text}` is no duration")).accepted(SIGNED_DURATION))?;
        if value > most {
            let limits = format!("-{0} to {0}", show_duration(most));
            return Err(Wrong::new(format!("`{text}` is out of range")).accepted(limits));
        }
        Ok(sign * value.as_secs_f64())
    }
}

/// Writes what [`signed_seconds`] reads, to the nanosecond.
pub(crate) fn show_signed_seconds(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    format!("{sign}{}", show_duration(Duration::from_secs_f64(seconds.abs())))
}

/// Reads digits, perhaps with a decimal point, and a unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit_nanos) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nanos = whole.parse::<u128>().ok()? * unit_nanos + fraction.parse::<u128>().ok()? * unit_nanos / scale;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// Writes a duration exactly, in the largest unit of which it is a whole multiple.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (unit, size) = UNITS.into_iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / size)
}

/// A poll interval as a power of two in seconds.
pub(super) fn poll(data: &Data) -> Result<PollInterval, Wrong> {
    let accepted = || {
        let (least, most) = (PollInterval::MIN.log2_seconds(), PollInterval::MAX.log2_seconds());
        format!("{least} to {most} (log2 of seconds)")
    };
    let Data::Integer(value) = data else { return Err(mismatch("an integer", data).accepted(accepted())) };
    i8::try_from(*value)
        .ok()
        .and_then(PollInterval::new)
        .ok_or_else(|| Wrong::new(format!("{value} is out of range")).accepted(accepted()))
}

/// A name that is no address.
pub(super) fn name(data: &Data) -> Result<Name, Wrong> {
    let text = text(data)?;
    if text.parse::<IpAddr>().is_ok() {
        return Err(Wrong::new(format!("`{text}` is an address, not a name: use `[[server]]` for single servers")));
    }
    Name::parse(&text).map_err(|invalid| Wrong::new(format!("`{text}` is {invalid}")))
}

/// A name or an address, without a port.
pub(super) fn host(data: &Data) -> Result<Host, Wrong> {
    let text = text(data)?;
    parse_host(&text).ok_or_else(|| Wrong::new(format!("`{text}` is neither")).accepted("a host name or an address"))
}

pub(super) fn parse_host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return is_usable(address).then_some(Host::Address(address));
    }
    // A last label of digits alone is a mistyped address (RFC 1123 section 2.1).
    let last = text.strip_suffix('.').unwrap_or(text).rsplit('.').next()?;
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Name::parse(text).ok().map(Host::Name)
}

/// A name or an address, with or without a port.
pub(super) fn host_and_port(data: &Data) -> Result<(Host, Option<u16>), Wrong> {
    let text = text(data)?;
    parse_host_and_port(&text)
        .ok_or_else(|| Wrong::new(format!("`{text}` is not a server's name or address")).accepted(HOST_AND_PORT))
}

fn parse_host_and_port(text: &str) -> Option<(Host, Option<u16>)> {
    if let Some(host) = parse_host(text) {
        return Some((host, None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let usable = address.port() != 0 && is_usable(address.ip());
        return usable.then(|| (Host::Address(address.ip()), Some(address.port())));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    Some((parse_host(host)?, Some(port)))
}

/// Whether a server can have this address.
fn is_usable(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// The address of a name server; port 53 if it names none.
pub(super) fn resolver(data: &Data) -> Result<SocketAddr, Wrong> {
    let text = text(data)?;
    let with_port = |ip: IpAddr| SocketAddr::new(ip, DNS_PORT);
    let address = text.parse().ok().or_else(|| text.parse().ok().map(with_port));
    address
        .filter(|address| address.port() != 0 && is_usable(address.ip()))
        .ok_or_else(|| Wrong::new(format!("`{text}` is not the address of a name server")).accepted(RESOLVER))
}

/// Where a server is.
pub(super) fn address(data: &Data) -> Result<IpAddr, Wrong> {
    let text = text(data)?;
    let address = text.parse().ok().filter(|address| is_usable(*address));
    address.ok_or_else(|| Wrong::new(format!("`{text}` is not the address of a server")).accepted(ADDRESS))
}

/// Where a server takes requests.
pub(super) fn listen_address(data: &Data) -> Result<SocketAddr, Wrong> {
    let text = text(data)?;
    let address: Option<SocketAddr> = text.parse().ok();
    address
        .filter(|address| address.port() != 0 && !address.ip().is_multicast())
        .ok_or_else(|| Wrong::new(format!("`{text}` cannot be listened on")).accepted(ADDRESS_AND_PORT))
}

/// Addresses of clients: `all` makes two prefixes, anything else one.
pub(super) fn prefixes(data: &Data) -> Result<Vec<IpNet>, Wrong> {
    let text = text(data)?;
    if text == "all" {
        return Ok(["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse().ok()).collect());
    }
    let prefix = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    let prefix = prefix.map_err(|_| Wrong::new(format!("`{text}` is no prefix")).accepted(PREFIX))?;
    if prefix.trunc() != prefix {
        let what = format!("`{text}` has address bits beyond its length: is `{}` meant?", prefix.trunc());
        return Err(Wrong::new(what).accepted(PREFIX));
    }
    Ok(vec![prefix])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Data {
        Data::String(text.to_owned())
    }

    #[test]
    fn durations_are_exact_and_need_a_unit() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("100ms", 100_000_000),
            ("2.5 s", 2_500_000_000),
            ("0.1us", 100),
            ("7ns", 7),
            ("1.5min", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1d", 86_400_000_000_000),
            ("0s", 0),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration.as_nanos(), nanos, "{text}");
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration), "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1 m", "1e3s", ".5s", "1.s", "1s ", "1,5s", "1sec", "99999999999999999d", "½s"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn servers_are_names_or_addresses_with_or_without_port() {
        for (text, host, port) in [
            ("ntp1.example", "ntp1.example", None),
            ("NTP1.Example.:1123", "ntp1.example", Some(1123)),
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:1123", "192.0.2.1", Some(1123)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:1123", "2001:db8::1", Some(1123)),
        ] {
            let (found, found_port) = host_and_port(&string(text)).unwrap();
            assert_eq!((found.to_string().as_str(), found_port), (host, port), "{text}");
        }
        for bad in [
            "",
            "a b",
            "host:",
            "host:0",
            "host:70000",
            "host:x",
            "192.0.2.256",
            "192.0.2",
            "0.0.0.0",
            "::",
            "224.0.1.1",
            "255.255.255.255",
            "[2001:db8::1]",
            "2001:db8::1:99999",
            "a..b",
        ] {
            assert!(host_and_port(&string(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_are_whole() {
        assert_eq!(prefixes(&string("192.0.2.1")).unwrap(), ["192.0.2.1/32".parse().unwrap()]);
        assert_eq!(prefixes(&string("all")).unwrap().len(), 2);
        let wrong = prefixes(&string("192.0.2.1/24")).unwrap_err();
        assert!(wrong.to_string().contains("is `192.0.2.0/24` meant?"), "{wrong}");
        for bad in ["192.0.2.0/33", "example.com", "192.0.2.0/", ""] {
            assert!(prefixes(&string(bad)).is_err(), "{bad}");
        }
    }
}
