//! As much of DER (X.690) as it takes to find a field of a certificate (RFC 5280 section 4.1).

pub(crate) const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;

/// The contents of the DER element with `tag` that `bytes` begins with, and what follows it.
pub(crate) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    // Long form (X.690 section 8.1.3.5), up to three octets: more than any certificate.
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet)), rest)
        }
        0x80 | 0x84.. => return None,
    };
    rest.split_at_checked(length)
}

/// Whether `bytes` is one element with `tag` and nothing else.
pub(crate) fn is_one(bytes: &[u8], tag: u8) -> bool {
    element(bytes, tag).is_some_and(|(_, rest)| rest.is_empty())
}

/// The fields of a certificate from `issuer` on (RFC 5280 section 4.1): issuer, validity, subject,
/// subjectPublicKeyInfo and what follows.
pub(crate) fn fields_from_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // serialNumber, signature
    for tag in [INTEGER, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    Some(fields)
}

/// The whole `SubjectPublicKeyInfo` of a certificate, its tag and length included.
pub(crate) fn public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = fields_from_issuer(certificate)?;
    // issuer, validity, subject
    for tag in [SEQUENCE; 3] {
        (_, fields) = element(fields, tag)?;
    }
    let (_, rest) = element(fields, SEQUENCE)?;
    fields.get(..fields.len().checked_sub(rest.len())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    use super::*;

    #[test]
    fn the_key_is_found_in_real_certificates() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["ntp.example".into()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(public_key_info(certificate.der()).unwrap(), key.subject_public_key_info());
        assert!(is_one(certificate.der(), SEQUENCE));
        assert!(!is_one(&[certificate.der().as_ref(), &[0]].concat(), SEQUENCE));
        for cut in 0..certificate.der().len() {
            assert_eq!(public_key_info(certificate.der().get(..cut).unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = public_key_info(&bytes);
        }
    }
}
