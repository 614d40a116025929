//! When certificate transparency logs took note of a certificate (RFC 6962), as its issuer put it there.
//!
//! The signatures of the logs are not looked at: the issuer's signature covers these times like `notBefore`.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Most times of one certificate; those in use have two to four.
pub(crate) const MAX_TIMES: usize = 8;

/// The times in Unix seconds (RFC 6962 section 3.2), as far as the list can be read; none if there is no list. Lists in TLS
/// or OCSP do not count: the issuer did not sign those.
pub(crate) fn timestamps(certificate: &CertificateDer<'_>) -> Vec<i64> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let Ok(list) = certificate.sct_log_timestamps() else { return Vec::new() };
    // RFC 6962 section 3.3: "out-of-date clients can still parse old SCTs while skipping over new SCTs whose versions they
    // don't understand". These are errors here, and so is the end of a list that is broken.
    let known = list.take(2 * MAX_TIMES).filter_map(Result::ok);
    known.take(MAX_TIMES).filter_map(|one| i64::try_from(one.timestamp_ms / 1000).ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// RFC 6962 section 3.3.
    const LIST: [u64; 10] = [1, 3, 6, 1, 4, 1, 11_129, 2, 4, 2];

    /// The extension with these versions and times in milliseconds.
    pub(crate) fn extension(entries: &[(u8, u64)]) -> CustomExtension {
        let one = |(version, time): &(u8, u64)| {
            // A log's identifier, the time, no extensions, an algorithm and a signature of two octets.
            with_length(&[&[*version][..], &[9; 32], &time.to_be_bytes(), &[0, 0, 4, 3, 0, 2, 5, 5]].concat())
        };
        wrapped(&with_length(&entries.iter().flat_map(one).collect::<Vec<u8>>()))
    }

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    /// In the OCTET STRING inside that of the extension.
    pub(crate) fn wrapped(list: &[u8]) -> CustomExtension {
        let length = u16::try_from(list.len()).unwrap().to_be_bytes();
        let head = match length {
            [0, short @ 0..0x80] => vec![4, short],
            [0, long] => vec![4, 0x81, long],
            long => vec![4, 0x82, long[0], long[1]],
        };
        CustomExtension::from_oid_content(&LIST, [&head, list].concat())
    }

    fn read(extension: CustomExtension) -> Vec<i64> {
        let mut parameters = CertificateParams::new(vec!["ntp.example".into()]).unwrap();
        parameters.custom_extensions.push(extension);
        timestamps(parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn times_of_version_1_are_read_and_others_are_skipped() {
        let times = read(extension(&[(0, 1_893_456_000_999), (1, 5), (0, 1_893_456_001_000)]));
        assert_eq!(times, [1_893_456_000, 1_893_456_001]);
        assert_eq!(read(extension(&[(0, u64::MAX)])), [i64::try_from(u64::MAX / 1000).unwrap()]);
        assert_eq!(read(extension(&[])), []);
        assert_eq!(read(extension(&[(0, 1000); 20])), [1; MAX_TIMES]);
        assert_eq!(read(CustomExtension::from_oid_content(&[1, 2, 3], vec![])), []);
    }

    #[test]
    fn a_broken_list_counts_as_far_as_it_can_be_read() {
        let whole = extension(&[(0, 1000), (0, 2000)]);
        let list = whole.content().get(2 + 2..).unwrap();
        for cut in 0..list.len() {
            let times = read(wrapped(&with_length(list.get(..cut).unwrap())));
            assert_eq!(times, if cut < list.len() / 2 { vec![] } else { vec![1] }, "{cut}");
            // The length at the beginning is that of the whole.
            assert_eq!(read(wrapped(whole.content().get(2..2 + cut).unwrap())), []);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(wrapped(&bytes)).len() <= MAX_TIMES);
            prop_assert!(read(wrapped(&with_length(&bytes))).len() <= MAX_TIMES);
            prop_assert!(timestamps(&CertificateDer::from(bytes)).is_empty());
        }
    }
}
