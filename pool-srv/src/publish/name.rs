//! Domain names as they stand in messages.

use core::fmt;

use ntp_proto::pool::Name;

/// Most octets of a name (RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 255;

/// A name in wire form, in lower case; its last label is the empty one of the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireName(Box<[u8]>);

impl WireName {
    /// The wire form of a host name.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        Self(labels(name.as_str()).chain([0]).collect())
    }

    /// A name below this one; `None` if it were too long.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Option<Self> {
        let wire: Box<[u8]> = labels(prefix).chain(self.0.iter().copied()).collect();
        (wire.len() <= MAX_NAME).then_some(Self(wire))
    }

    /// Its octets.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// How many octets it has in a message, uncompressed.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.0.len()
    }

    /// How many labels it has, without the root's.
    #[must_use]
    pub fn label_count(&self) -> u8 {
        u8::try_from(label_starts(&self.0).count()).unwrap_or(u8::MAX)
    }

    /// The part in front of `zone`; `None` if it does not lie in `zone`. Empty for the name of the zone itself.
    #[must_use]
    pub fn relative_to(&self, zone: &Self) -> Option<&[u8]> {
        let split = self.0.len().checked_sub(zone.0.len())?;
        let front = self.0.get(..split)?;
        let aligned = split == self.0.len() || label_starts(&self.0).any(|start| start == split) || zone.0.len() == 1;
        (aligned && self.0.ends_with(&zone.0)).then_some(front)
    }
}

fn labels(text: &str) -> impl Iterator<Item = u8> {
    text.split('.').flat_map(|label| {
        let len = u8::try_from(label.len()).unwrap_or(u8::MAX);
        core::iter::once(len).chain(label.bytes().map(|octet| octet.to_ascii_lowercase()))
    })
}

impl fmt::Display for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for start in label_starts(&self.0) {
            let len = self.0.get(start).copied().map_or(0, usize::from);
            let label = self.0.get(start.saturating_add(1)..).and_then(|rest| rest.get(..len)).unwrap_or_default();
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where each label begins, the root's left out.
pub(super) fn label_starts(wire: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let length = |at: usize| wire.get(at).copied().filter(|len| *len > 0);
    core::iter::successors(Some(0_usize), move |at| {
        Some(at.saturating_add(usize::from(length(*at)?)).saturating_add(1))
    })
    .take_while(move |at| length(*at).is_some())
}

/// Writes what sorts the names of a zone in canonical order (RFC 4034 section 6.1): labels from the last to the first,
/// each compared as octets. `front` is the part of a name in front of the zone; what lies below another name begins with
/// that name's key.
pub(super) fn sort_key(front: &[u8], key: &mut Vec<u8>) {
    key.clear();
    let mut starts = [0_u8; MAX_NAME / 2 + 1];
    let mut count = 0;
    let mut at = 0_usize;
    while let (Some(len), Some(start)) = (front.get(at), starts.get_mut(count)) {
        *start = u8::try_from(at).unwrap_or(u8::MAX);
        count = count.saturating_add(1);
        at = at.saturating_add(usize::from(*len)).saturating_add(1);
    }
    for start in starts.iter().take(count).rev().map(|start| usize::from(*start)) {
        let len = front.get(start).copied().map_or(0, usize::from);
        let label = front.get(start.saturating_add(1)..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        for octet in label {
            // A label ends with 0; the two lowest octets within one are written so that none of them looks like it.
            match octet {
                0 | 1 => key.extend([1, octet.saturating_add(1)]),
                octet => key.push(*octet),
            }
        }
        key.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> WireName {
        WireName::of(&Name::parse(text).unwrap())
    }

    #[test]
    fn names_go_to_the_wire_and_back_to_text() {
        let name = wire("NTP1.Time.Example");
        assert_eq!(name.as_wire(), b"\x04ntp1\x04time\x07example\0");
        assert_eq!((name.to_string().as_str(), name.label_count()), ("ntp1.time.example.", 3));
        let zone = wire("time.example");
        assert_eq!(name.relative_to(&zone), Some(&b"\x04ntp1"[..]));
        assert_eq!(zone.relative_to(&zone), Some(&b""[..]));
        assert_eq!(wire("xtime.example").relative_to(&zone), None);
        assert_eq!(wire("example").relative_to(&zone), None);
        assert_eq!(zone.below("_ntske._tcp").unwrap().to_string(), "_ntske._tcp.time.example.");
        assert_eq!(
            wire(&format!("{0}.{0}.{0}.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a".repeat(63))).below(&"b".repeat(30)),
            None
        );
    }

    #[test]
    fn names_sort_as_the_example_of_the_rfc() {
        // RFC 4034 section 6.1, below example.
        let fronts: [&[u8]; 9] = [
            b"",
            b"\x01a",
            b"\x08yljkjljk\x01a",
            b"\x01z\x01a",
            b"\x04zabc\x01a",
            b"\x01z",
            b"\x01\x01\x01z",
            b"\x01*\x01z",
            b"\x01\xc8\x01z",
        ];
        let keys = fronts.map(|front| {
            let mut key = Vec::new();
            sort_key(front, &mut key);
            key
        });
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys[8].starts_with(&keys[5]) && !keys[8].starts_with(&keys[4]));
        let key = |front: &[u8]| {
            let mut key = Vec::new();
            sort_key(front, &mut key);
            key
        };
        assert!(key(b"\x01\x00") < key(b"\x01\x01") && key(b"\x01\x01") < key(b"\x01\x02"));
        assert!(key(b"\x01a") < key(b"\x02a\x00") && key(b"\x02a\x00") < key(b"\x02aa"));
    }
}
