//! Whether a server is who it should be, and at which time that is judged.

use core::{fmt, time::Duration};
use std::sync::{Arc, OnceLock};

use ntp_proto::{
    bootstrap::{Chain, Judgement, Window, keep_latest},
    time::UnixTime,
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto,
    pki_types::{self, CertificateDer, ServerName},
    time_provider::TimeProvider,
};
use sha2::{Digest as _, Sha256};

use crate::{
    cert_time::Validity,
    dane::{self, Mismatch, Tlsa},
    der,
    error::{MAX_SHOWN_NAMES, TlsFault},
    path::{Path, Presented},
    sct,
    verify::{MAX_CHAIN_CERTIFICATES, MAX_CHAIN_OCTETS, Verifier},
};

/// At how many times a chain is tried whose dates are deferred. Each costs as many signatures as the library allows. Whoever
/// changes authorities shows two or three that overlap; more tries are for those alone who want to keep us busy.
const MAX_TRIES: usize = 4;

/// Verifies what the server of one session shows (RFC 5280, RFC 6125 by subject alternative names; by TLSA records, where
/// there are any), with bounds on what is looked at, and keeps what it says of the time.
#[derive(Debug)]
pub(crate) struct Judge {
    verifier: Verifier,
    records: Vec<Tlsa>,
    judgement: Judgement,
    chain: OnceLock<Chain>,
}

impl Judge {
    pub(crate) fn new(verifier: Verifier, records: &[Tlsa], judgement: Judgement) -> Self {
        Self { verifier, records: records.to_vec(), judgement, chain: OnceLock::new() }
    }

    /// What the server's chain says of the time; `None` if there is none yet or something else than its dates is wrong.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain.get()
    }

    fn judge(&self, presented: Presented<'_>) -> Result<Chain, Error> {
        let at = match self.judgement {
            Judgement::At(at) => at.seconds,
            Judgement::Deferred { now, floor } => return self.deferred(presented, now, floor),
        };
        let outcome = self.at(presented, at);
        if outcome.as_ref().is_err_and(is_of_dates) {
            // The session fails all the same; but when the chain was signed may show that it is the clock that is wrong.
            if let Ok(chain) = self.deferred(presented, at, i64::MIN) {
                let _ = self.chain.set(chain);
            }
        }
        outcome
    }

    /// Verifies at the first time of the [`candidates`] that will do.
    fn deferred(&self, presented: Presented<'_>, now: i64, floor: i64) -> Result<Chain, Error> {
        // RFC 7671 section 5.1: here dates do not count, and any time will do.
        if dane::vouch_for_end_entity(&self.records, presented.end_entity) {
            return self.at(presented, now.max(floor));
        }
        let own = Validity::of(presented.end_entity).ok_or(CertificateError::BadEncoding)?.window();
        if own.not_after < own.not_before {
            return Err(CertificateError::Expired.into());
        }
        if own.not_after < floor {
            let (time, not_after) = (to_pki(floor), to_pki(own.not_after));
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        let mut first = None;
        for at in candidates(presented, &own, now, floor) {
            match self.at(presented, at) {
                Err(error) if is_of_dates(&error) => first = first.or(Some(error)),
                outcome => return outcome,
            }
        }
        Err(first.unwrap_or_else(|| CertificateError::Expired.into()))
    }

    fn at(&self, presented: Presented<'_>, at: i64) -> Result<Chain, Error> {
        let presented = Presented { now: to_pki(at), ..presented };
        let path = if self.records.is_empty() {
            Some(self.verifier.verify_usual(presented)?)
        } else {
            dane::verify(&self.records, &self.verifier, presented)?
        };
        Ok(chain(presented.end_entity, path))
    }
}

/// Times at which a chain may be valid, at most [`MAX_TRIES`], best first: the times nearest to `now` at which all of it is
/// valid that ever is together with the server's own certificate, or that certificate is; then when others begin to be.
///
/// A server may show certificates that its chain does not need, of which some are never valid together with it. If any way
/// to a root is valid at any time from `floor` on, then it is at that of its beginnings that comes last, or at `floor`: so
/// one of these times will do. Where no other certificates are valid than at another of these times, nothing else can come
/// of it, and that time is left out: a chain without certificates to spare is tried once.
fn candidates(presented: Presented<'_>, own: &Window, now: i64, floor: i64) -> Vec<i64> {
    let possible = own.and(&Window { not_before: floor, not_after: i64::MAX });
    let others: Vec<Window> = presented
        .intermediates
        .iter()
        .filter_map(|one| Some(Validity::of(one)?.window().and(&possible)))
        .filter(|window| !window.is_empty())
        .collect();
    let all = others.iter().fold(possible, |all, one| all.and(one));
    let base = now.max(floor);
    let first = (if all.is_empty() { possible } else { all }).nearest(base);
    let mut beginnings: Vec<i64> = others.iter().map(|one| one.not_before).chain([possible.not_before]).collect();
    beginnings.sort_unstable_by_key(|at| at.abs_diff(base));
    let times: Vec<i64> = [first, possible.nearest(base)].into_iter().chain(beginnings).collect();
    let valid = |at: i64| others.iter().map(move |window| window.contains(at, 0));
    let adds_nothing = |at: i64, to: i64| valid(at).zip(valid(to)).all(|(here, there)| there || !here);
    let is_worth_it = |place: usize, at: i64| {
        let more_elsewhere = times.iter().any(|other| adds_nothing(at, *other) && !adds_nothing(*other, at));
        place == 0 || !(more_elsewhere || times.iter().take(place).any(|earlier| adds_nothing(at, *earlier)))
    };
    let worth_it = times.iter().enumerate().filter(|(place, at)| is_worth_it(*place, **at));
    worth_it.map(|(_, at)| *at).take(MAX_TRIES).collect()
}

/// What a verified chain says of the time.
fn chain(end_entity: &CertificateDer<'_>, path: Option<Path>) -> Chain {
    let key = Sha256::digest(der::public_key_info(end_entity).unwrap_or_default()).into();
    // Nobody but the server itself may have signed this certificate: nothing it says of time is worth anything, though DNS
    // vouches for all of it. When DNS did is known to whoever asked for the records.
    let Some(Path { window, mut signed, pinned }) = path else {
        return Chain { window: Window::ALWAYS, signed: Vec::new(), records: Vec::new(), life: 0, key, pinned: false };
    };
    let own = Validity::of(end_entity).map_or(window, |own| own.window());
    signed.extend(sct::timestamps(end_entity).into_iter().filter(|at| *at <= own.not_after));
    keep_latest(&mut signed);
    // RFC 5280 section 4.1.2.5: both ends are included.
    let life = own.not_after.saturating_sub(own.not_before).saturating_add(1);
    Chain { window, signed, records: Vec::new(), life, key, pinned }
}

/// Whether another time would make a difference. The library names this fault rather than any other.
pub(crate) const fn is_of_dates(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. }
        )
    )
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let octets = intermediates.iter().fold(end_entity.len(), |sum, one| sum.saturating_add(one.len()));
        if intermediates.len() >= MAX_CHAIN_CERTIFICATES || octets > MAX_CHAIN_OCTETS {
            return Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(ChainTooLong)))));
        }
        let chain = self.judge(Presented { end_entity, intermediates, name, now })?;
        let _ = self.chain.set(chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.provider().signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct ChainTooLong;

impl fmt::Display for ChainTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_CHAIN_CERTIFICATES} certificates or {MAX_CHAIN_OCTETS} octets")
    }
}

impl core::error::Error for ChainTooLong {}

/// The time of day that the library is told, for the whole life of a session. Certificates are judged by a [`Judge`], which
/// has its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeOfDay(pub(crate) i64);

impl TimeProvider for TimeOfDay {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        Some(to_pki(self.0))
    }
}

/// What the library says of a certificate, in our terms.
pub(crate) fn certificate_fault(error: &CertificateError, judgement: Judgement) -> TlsFault {
    let (told, floor) = match judgement {
        Judgement::At(at) => (Some(at), i64::MIN),
        Judgement::Deferred { floor, .. } => (None, floor),
    };
    let judged_at = |time: &pki_types::UnixTime| told.unwrap_or_else(|| from_pki(*time));
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open, and its own words will do")]
    match error {
        CertificateError::ExpiredContext { not_after, .. } if from_pki(*not_after).seconds < floor => {
            TlsFault::ExpiredAtFloor { not_after: from_pki(*not_after), floor: UnixTime { seconds: floor, nanos: 0 } }
        }
        CertificateError::ExpiredContext { time, not_after } => {
            TlsFault::Expired { not_after: from_pki(*not_after), judged_at: judged_at(time) }
        }
        // The library's word for a life that ends before it begins; what has expired at a time comes with that.
        CertificateError::Expired => TlsFault::NeverValid,
        CertificateError::NotValidYetContext { time, not_before } => {
            TlsFault::NotYetValid { not_before: from_pki(*not_before), judged_at: judged_at(time) }
        }
        CertificateError::NotValidForNameContext { expected, presented } => TlsFault::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().take(MAX_SHOWN_NAMES).map(|name| bare(name)).collect(),
        },
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::Revoked => TlsFault::Revoked,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => TlsFault::WrongPurpose,
        CertificateError::Other(other) if other.0.is::<ChainTooLong>() => TlsFault::ChainTooLong,
        CertificateError::Other(other) => match other.0.downcast_ref::<Mismatch>() {
            Some(Mismatch { records }) => TlsFault::NotInDns { records: *records },
            None => TlsFault::Certificate(error.to_string()),
        },
        other => TlsFault::Certificate(other.to_string()),
    }
}

/// A name without what the library puts around it, as in `DnsName("ke.example")`.
fn bare(shown: &str) -> String {
    let quoted = shown.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    quoted.map_or(shown, |(name, _)| name).to_owned()
}

/// Times before 1970 are judged as 1970: no certificate is valid at either.
pub(crate) fn to_pki(seconds: i64) -> pki_types::UnixTime {
    pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn from_pki(time: pki_types::UnixTime) -> UnixTime {
    UnixTime { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
mod tests;
