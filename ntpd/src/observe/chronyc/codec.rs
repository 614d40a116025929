//! Fields of fixed length, one after the other, in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::float;

/// Something with a fixed place in a packet.
pub(crate) trait Field: Sized {
    /// Its length, in octets.
    const LEN: usize;

    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it off the front; `None` if there is too little.
    fn get(input: &mut &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => { $(
        impl Field for $integer {
            const LEN: usize = size_of::<Self>();

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn get(input: &mut &[u8]) -> Option<Self> {
                let (head, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(Self::from_be_bytes(*head))
            }
        }
    )* };
}

integers!(u8, i8, u16, i16, u32, i32, u64);

impl Field for f64 {
    const LEN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        float::encode(*self).put(out);
    }

    fn get(input: &mut &[u8]) -> Option<Self> {
        u32::get(input).map(float::decode)
    }
}

impl<T: Field, const N: usize> Field for [T; N] {
    const LEN: usize = N * T::LEN;

    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|field| field.put(out));
    }

    fn get(input: &mut &[u8]) -> Option<Self> {
        let all: Vec<T> = (0..N).map_while(|_| T::get(input)).collect();
        all.try_into().ok()
    }
}

/// Where something is, or which source is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Address {
    /// Nothing, or everything.
    #[default]
    Unspecified,
    /// An address.
    Ip(IpAddr),
    /// A source that has no address yet, by its number.
    Id(u32),
}

impl Address {
    const INET4: u16 = 1;
    const INET6: u16 = 2;
    const ID: u16 = 3;
}

impl Field for Address {
    const LEN: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        let mut octets = [0; 16];
        let family = match self {
            Self::Unspecified => 0,
            Self::Ip(IpAddr::V4(address)) => {
                octets[..4].copy_from_slice(&address.octets());
                Self::INET4
            }
            Self::Ip(IpAddr::V6(address)) => {
                octets = address.octets();
                Self::INET6
            }
            Self::Id(id) => {
                octets[..4].copy_from_slice(&id.to_be_bytes());
                Self::ID
            }
        };
        out.extend_from_slice(&octets);
        [family, 0].put(out);
    }

    /// Families that there are not become [`Address::Unspecified`], which no source is.
    fn get(input: &mut &[u8]) -> Option<Self> {
        let octets = <[u8; 16]>::get(input)?;
        let [family, _] = <[u16; 2]>::get(input)?;
        let first = [octets[0], octets[1], octets[2], octets[3]];
        Some(match family {
            Self::INET4 => Self::Ip(Ipv4Addr::from(first).into()),
            Self::INET6 => Self::Ip(Ipv6Addr::from(octets).into()),
            Self::ID => Self::Id(u32::from_be_bytes(first)),
            _ => Self::Unspecified,
        })
    }
}

/// A time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timespec {
    /// Seconds.
    pub(crate) seconds: i64,
    /// Nanoseconds, below a second.
    pub(crate) nanos: u32,
}

impl Timespec {
    /// The upper half of the seconds that some systems send.
    const NO_UPPER_HALF: u32 = 0x7fff_ffff;
    const MAX_NANOS: u32 = 999_999_999;

    /// Of seconds since 1970.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut below the largest there is")]
    pub(crate) fn from_seconds(seconds: f64) -> Self {
        let whole = seconds.floor();
        let nanos = ((seconds - whole) * 1e9) as u32;
        Self { seconds: whole as i64, nanos: nanos.min(Self::MAX_NANOS) }
    }

    /// As seconds since 1970.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for thousands of years")]
    pub(crate) fn to_seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }
}

impl Field for Timespec {
    const LEN: usize = 12;

    fn put(&self, out: &mut Vec<u8>) {
        self.seconds.cast_unsigned().put(out);
        self.nanos.put(out);
    }

    fn get(input: &mut &[u8]) -> Option<Self> {
        let [upper, lower, nanos] = <[u32; 3]>::get(input)?;
        let upper = if upper == Self::NO_UPPER_HALF { 0 } else { upper };
        let seconds = (u64::from(upper) << 32 | u64::from(lower)).cast_signed();
        Some(Self { seconds, nanos: nanos.min(Self::MAX_NANOS) })
    }
}

/// Defines what a packet carries as the list of its fields.
macro_rules! body {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name { $($(#[$field_about])* pub(crate) $field: $kind,)* }

        impl $crate::observe::chronyc::codec::Field for $name {
            const LEN: usize = 0 $(+ <$kind as $crate::observe::chronyc::codec::Field>::LEN)*;

            fn put(&self, out: &mut Vec<u8>) {
                $($crate::observe::chronyc::codec::Field::put(&self.$field, out);)*
            }

            fn get(input: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::observe::chronyc::codec::Field::get(input)?,)* })
            }
        }
    };
}

pub(super) use body;

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Field + PartialEq + std::fmt::Debug>(field: &T, bytes: &[u8]) {
        let mut out = Vec::new();
        field.put(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(out.len(), T::LEN);
        let mut rest = &out[..];
        assert_eq!(T::get(&mut rest).as_ref(), Some(field));
        assert!(rest.is_empty());
        assert_eq!(T::get(&mut &out[1..]), None, "too short");
    }

    #[test]
    fn fields_are_read_as_they_are_written() {
        round_trip(&-2_i16, &[0xff, 0xfe]);
        round_trip(&1.0_f64, &[0x04, 0x80, 0, 0]);
        let address = |first: [u8; 4], family| [&first[..], &[0; 12], &[0, family, 0, 0]].concat();
        round_trip(&Address::Unspecified, &address([0; 4], 0));
        round_trip(&Address::Ip([127, 0, 0, 1].into()), &address([127, 0, 0, 1], 1));
        round_trip(&Address::Id(258), &address([0, 0, 1, 2], 3));
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0, 2, 0, 0]].concat();
        round_trip(&Address::Ip("2001:db8::1".parse().unwrap()), &six);
        round_trip(
            &Timespec { seconds: 0x6b02_6686, nanos: 0x1cb7_e2ca },
            &[0, 0, 0, 0, 0x6b, 2, 0x66, 0x86, 0x1c, 0xb7, 0xe2, 0xca],
        );
        round_trip(&Timespec { seconds: -1, nanos: 0 }, &[255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn times_of_small_systems_are_read() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 7, 255, 255, 255, 255];
        assert_eq!(Timespec::get(&mut &bytes[..]), Some(Timespec { seconds: 7, nanos: 999_999_999 }));
    }
}
