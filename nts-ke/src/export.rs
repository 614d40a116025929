//! Keys from a TLS session (RFC 8915 section 5.1).

use ntp_proto::nts::{AeadAlgorithm, AeadKey, SessionKeys};
use rustls::Connection;
use zeroize::Zeroizing;

use crate::{error::TlsFault, message::NTPV4, pool::FixedKeys, record::FIXED_KEY_LENGTHS};

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
        let secret = secret(connection, context(NTPV4, number, direction), algorithm.key_len())?;
        AeadKey::new(algorithm, &secret).map_err(|error| TlsFault::Other(error.to_string()))
    };
    Ok(SessionKeys { c2s: key(CLIENT_TO_SERVER)?, s2c: key(SERVER_TO_CLIENT)? })
}

/// Exports both keys of a user, each of `length` octets, for an algorithm that this side need not know
/// (draft-ietf-ntp-nts-keyexchange-pool-01: a pool exports for its member).
pub(crate) fn fixed_keys(
    connection: &Connection,
    protocol: u16,
    algorithm: u16,
    length: usize,
) -> Result<FixedKeys, TlsFault> {
    if !FIXED_KEY_LENGTHS.contains(&length) {
        return Err(TlsFault::Other(format!("keys of {length} octets")));
    }
    let key = |direction| secret(connection, context(protocol, algorithm, direction), length);
    Ok(FixedKeys { protocol, algorithm, c2s: key(CLIENT_TO_SERVER)?, s2c: key(SERVER_TO_CLIENT)? })
}

fn secret(connection: &Connection, context: [u8; 5], length: usize) -> Result<Zeroizing<Vec<u8>>, TlsFault> {
    let out = Zeroizing::new(vec![0; length]);
    connection.export_keying_material(out, LABEL, Some(&context)).map_err(|error| TlsFault::Other(error.to_string()))
}

const CLIENT_TO_SERVER: u8 = 0;
const SERVER_TO_CLIENT: u8 = 1;

/// RFC 8915 section 5.1: the context of the exporter has five octets: protocol id,
/// algorithm id, direction.
fn context(protocol: u16, number: u16, direction: u8) -> [u8; 5] {
    let ([p, q], [a, b]) = (protocol.to_be_bytes(), number.to_be_bytes());
    [p, q, a, b, direction]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_the_known_octets() {
        assert_eq!(context(NTPV4, 15, CLIENT_TO_SERVER), [0, 0, 0, 15, 0]);
        assert_eq!(context(NTPV4, 15, SERVER_TO_CLIENT), [0, 0, 0, 15, 1]);
        assert_eq!(context(NTPV4, 0x1234, SERVER_TO_CLIENT), [0, 0, 0x12, 0x34, 1]);
    }
}
