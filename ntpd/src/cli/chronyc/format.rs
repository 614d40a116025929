//! Values as chronyc prints them.

use std::net::IpAddr;

use crate::observe::{
    chronyc::client::{Address, NEVER, Timespec},
    table::{age, date, span},
};

/// An address, the number of a source without one, or what chronyc prints where there is none.
pub(super) fn address(address: Address) -> String {
    match address {
        Address::Unspecified => "[UNSPEC]".to_owned(),
        Address::Ip(address) => address.to_string(),
        Address::Id(id) => format!("ID#{id:010}"),
    }
}

/// The reference identifier that an address has: itself, or the first octets of its MD5 (RFC 5905 section 7.3).
pub(super) fn reference_id(address: Address) -> u32 {
    match address {
        Address::Ip(address @ (IpAddr::V4(_) | IpAddr::V6(_))) => {
            u32::from_be_bytes(ntp_proto::ids::ReferenceId::of_address(address).0)
        }
        Address::Unspecified | Address::Id(_) => 0,
    }
}

/// Cuts a name to a width, and shows that.
pub(super) fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width.saturating_sub(1)).chain(['>']).collect()
}

/// An amount of time with its sign, in at most four digits and a unit.
pub(super) fn signed(seconds: f64) -> String {
    let sign = if seconds < 0.0 { '-' } else { '+' };
    format!("{sign}{}", span(seconds))
}

/// The same without its sign.
pub(super) fn unsigned(seconds: f64) -> String {
    span(seconds)
}

/// How long ago something was.
pub(super) fn ago(seconds: u32) -> String {
    age((seconds != NEVER).then(|| f64::from(seconds)))
}

/// A point in time.
pub(super) fn time(at: Timespec) -> String {
    date(Some(at.to_seconds()))
}

/// A point in time for scripts.
pub(super) fn stamp(at: Timespec) -> String {
    format!("{}.{:09}", at.seconds, at.nanos)
}

/// What is said of leap seconds.
pub(super) const fn leap(leap: u16) -> &'static str {
    match leap {
        0 => "Normal",
        1 => "Insert second",
        2 => "Delete second",
        _ => "Not synchronised",
    }
}

pub(super) const fn yes_no(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

/// The letters of a reference identifier.
pub(super) fn text_of(reference_id: u32) -> String {
    let octets = reference_id.to_be_bytes();
    octets.into_iter().filter(u8::is_ascii_graphic).map(char::from).collect()
}
