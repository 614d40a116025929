//! Keys from a TLS session (RFC 8915 section 5.1).

use ntp_proto::nts::{AeadAlgorithm, AeadKey, SessionKeys};
use rustls::Connection;
use zeroize::Zeroizing;

use crate::{error::TlsFault, message::NTPV4};

/// The exporter label of RFC 8915 section 5.1.
const LABEL: &[u8] = b"EXPORTER-network-time-security";

/// Exports both keys for `algorithm`, with `number` as the algorithm's number in the context.
///
/// The two agree, except with versions of chrony that put the number of AES-SIV-CMAC-256 there for AES-128-GCM-SIV.
pub(crate) fn session_keys(
    connection: &Connection,
    algorithm: AeadAlgorithm,
    number: u16,
) -> Result<SessionKeys, TlsFault> {
    let key = |direction: u8| {
        let mut secret = Zeroizing::new([0; AeadAlgorithm::MAX_KEY_LEN]);
        let out = secret.get_mut(..algorithm.key_len()).unwrap_or_default();
        let exported = connection
            .export_keying_material(out, LABEL, Some(&context(number, direction)))
            .map_err(|error| TlsFault::Other(error.to_string()))?;
        AeadKey::new(algorithm, exported).map_err(|error| TlsFault::Other(error.to_string()))
    };
    Ok(SessionKeys { c2s: key(CLIENT_TO_SERVER)?, s2c: key(SERVER_TO_CLIENT)? })
}

const CLIENT_TO_SERVER: u8 = 0;
const SERVER_TO_CLIENT: u8 = 1;

/// RFC 8915 section 5.1: the context of the exporter has five octets: protocol id,
/// algorithm id, direction.
fn context(number: u16, direction: u8) -> [u8; 5] {
    let ([p, q], [a, b]) = (NTPV4.to_be_bytes(), number.to_be_bytes());
    [p, q, a, b, direction]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_the_known_octets() {
        assert_eq!(context(15, CLIENT_TO_SERVER), [0, 0, 0, 15, 0]);
        assert_eq!(context(15, SERVER_TO_CLIENT), [0, 0, 0, 15, 1]);
        assert_eq!(context(0x1234, SERVER_TO_CLIENT), [0, 0, 0x12, 0x34, 1]);
    }
}
