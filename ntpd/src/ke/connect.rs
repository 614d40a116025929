//! Key exchange as a client.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    bootstrap::{Chain, Judgement, Window},
    nts::{AeadAlgorithm, CookieJar},
    pool::{Answer, KeyExchange, Name, Negotiated},
    source::NtsKeys,
};
use nts_ke::{
    client::{ClientConfig, Established, Order},
    dane::Tlsa,
    error::KeError,
    verify::{NoUsableRoots, TrustRoots},
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::roots::{self, RootsError};
use crate::{
    config::{DEFAULT_AEADS, Family, NTP_PORT, Require, SourceRoots, TrustSettings},
    resolve::{Hints, Resolver},
};

mod problem;
mod race;
mod redirect;
mod session;
mod sessions;
#[cfg(test)]
pub(crate) mod tests;
mod trust;
mod turn;

use problem::Failed;
pub use problem::{Cause, KeProblem};
use race::Race;
use sessions::Sessions;
use turn::Turn;

/// How long connections and sessions with all addresses of a server may take together.
const DEADLINE: Duration = Duration::from_secs(8);

/// Makes key exchanges.
#[derive(Clone, Debug)]
pub struct KeyExchanger {
    /// What is trusted, or why nothing is: a system without certificates can still use servers without NTS.
    config: Result<ClientConfig, String>,
    /// What is offered, best first.
    algorithms: Vec<AeadAlgorithm>,
    /// Digest of the certificates that are trusted.
    trusted: [u8; 32],
    resolver: Resolver,
    deadline: Duration,
}

/// How what vouches for a server is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judgements {
    /// Certificates, and the signatures of TLSA records.
    pub certificates: Judgement,
    /// Signatures of addresses.
    pub addresses: Judgement,
}

impl From<Judgement> for Judgements {
    fn from(all: Judgement) -> Self {
        Self { certificates: all, addresses: all }
    }
}

/// What a key exchange gave.
#[derive(Debug)]
pub struct Exchanged {
    /// For the pool mode that asked.
    pub negotiated: Negotiated,
    /// Where the keys were exchanged.
    pub peer: SocketAddr,
    /// For the source.
    pub keys: NtsKeys,
    /// The AEAD algorithm of the keys.
    pub algorithm: AeadAlgorithm,
    /// When all its certificates are valid, if their dates count.
    pub certificates: Option<Window>,
    /// What vouches for the server, its certificates and TLSA records, says of the time.
    pub chain: Option<Chain>,
}

impl KeyExchanger {
    /// Trusts the certificates that the settings name. If the system has none, every exchange fails for that reason.
    ///
    /// # Errors
    ///
    /// [`RootsError`] if a file that the settings name cannot be used.
    pub fn new(settings: &TrustSettings, resolver: Resolver) -> Result<Self, RootsError> {
        let mut trusted = [0; 32];
        let config = match roots::load(settings) {
            Ok(roots) => {
                trusted = roots.fingerprint();
                ClientConfig::new(&roots).map_err(|cause| cause.to_string())
            }
            Err(error @ RootsError::NoSystem(_)) => {
                tracing::warn!("{error}; no key exchange will succeed");
                Err(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(Self { config, algorithms: settings.aeads.clone(), trusted, resolver, deadline: DEADLINE })
    }

    /// Trusts these certificates, and offers [`DEFAULT_AEADS`].
    ///
    /// # Errors
    ///
    /// [`NoUsableRoots`] if they cannot be used.
    pub fn with_roots(roots: TrustRoots, resolver: Resolver) -> Result<Self, NoUsableRoots> {
        let algorithms = DEFAULT_AEADS.to_vec();
        let (config, trusted) = (Ok(ClientConfig::new(&roots)?), roots.fingerprint());
        Ok(Self { config, algorithms, trusted, resolver, deadline: DEADLINE })
    }

    /// The same, but certificates are judged by these roots. If they cannot be used, that is said, and every exchange fails
    /// for that reason: others never take their place.
    #[must_use]
    pub fn judging_by(&self, roots: &SourceRoots) -> Self {
        let (certificates, certificate_file) = (roots.which, roots.file.clone());
        let settings = TrustSettings { certificates, certificate_file, ..TrustSettings::default() };
        let loaded = roots::load(&settings).map_err(|error| error.to_string()).and_then(|roots| {
            let config = ClientConfig::new(&roots).map_err(|cause| cause.to_string())?;
            Ok((config, roots.fingerprint()))
        });
        let (config, trusted) = match loaded {
            Ok((config, trusted)) => (Ok(config), trusted),
            Err(why) => {
                tracing::warn!("{why}");
                (Err(why), [0; 32])
            }
        };
        Self { config, trusted, ..self.clone() }
    }

    /// The same, but it finds addresses of this family alone.
    #[must_use]
    pub fn within(self, family: Option<Family>) -> Self {
        Self { resolver: self.resolver.within(family), ..self }
    }

    /// Whether an algorithm is one that is offered.
    #[must_use]
    pub fn offers(&self, algorithm: AeadAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// A digest of all that may vouch for a server, the certificates and the keys of DNSSEC, to tell whether keys were had
    /// under the same.
    #[must_use]
    pub fn trusted(&self) -> [u8; 32] {
        Sha256::digest([self.trusted, self.resolver.trusted()].concat()).into()
    }

    /// Who is asked about names.
    #[must_use]
    pub const fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The same for one name that can be found without DNS.
    #[must_use]
    pub fn with_hints(self, name: Name, hints: Hints) -> Self {
        Self { resolver: self.resolver.with_hints(name, hints), ..self }
    }

    /// Exchanges keys once, if what vouches for the server is what is required. Certificates, and signatures of DNS records,
    /// are judged as `judgements` say. It takes no longer than a look-up of the server, 8 s, and a look-up of the NTP server
    /// that the exchange names.
    ///
    /// # Errors
    ///
    /// [`KeProblem`] says why there are no keys.
    pub async fn exchange(
        &self,
        question: &KeyExchange,
        require: Require,
        judgements: impl Into<Judgements>,
    ) -> Result<Exchanged, KeProblem> {
        let Judgements { certificates: judgement, addresses: of_addresses } = judgements.into();
        let (known, tlsa) = tokio::join!(
            async {
                match &question.addresses {
                    Some(addresses) => Ok(addresses.clone()),
                    None => self.addresses(&question.server, question.port, of_addresses).await,
                }
            },
            self.resolver.tlsa(&question.server, question.port, judgement),
        );
        let mut chain = None;
        let outcome = async {
            let known = known?;
            let trust = trust::of(question, &tlsa, require)?;
            let (peer, mut established) = match self.establish(question, tlsa.records(), judgement, &known).await {
                Ok(established) => established,
                Err(failed) => {
                    chain = failed.chain.map(|chain| *chain);
                    return Err(failed.cause);
                }
            };
            chain = established.chain.take();
            let addresses = self.ntp_addresses(question, peer, &known, &established, of_addresses).await?;
            Ok((trust, peer, established, addresses))
        }
        .await;
        let certificates = chain.as_ref().map(|chain| chain.window).filter(|window| *window != Window::ALWAYS);
        // Records that vouch for a certificate count with it.
        if let Some(signatures) = tlsa.signatures() {
            chain = chain.map(|chain| chain.found_by(signatures));
        }
        let (trust, peer, established, addresses) = match outcome {
            Ok(done) => done,
            Err(cause) => {
                let (server, port) = (question.server.clone(), question.port);
                return Err(KeProblem { server, port, cause, chain: chain.map(Box::new) });
            }
        };

        let Established { algorithm, keys, fallback_keys, cookies, server, .. } = established;
        let mut jar = CookieJar::new();
        for cookie in &cookies {
            jar.put(cookie.as_bytes());
        }
        let ntp_server = server.unwrap_or_else(|| question.server.to_string());
        Ok(Exchanged {
            negotiated: Negotiated { ntp_server, addresses, trust },
            peer,
            keys: NtsKeys { keys, fallback: fallback_keys, cookies: jar },
            algorithm,
            certificates,
            chain,
        })
    }

    async fn addresses(&self, name: &Name, port: u16, judgement: Judgement) -> Result<Vec<SocketAddr>, Cause> {
        match self.resolver.addresses(name, port, judgement).await {
            (Answer::Addresses { addresses, .. }, _) => Ok(addresses),
            (
                Answer::NoRecord
                | Answer::Failed(_)
                | Answer::Insecure
                | Answer::Bogus
                | Answer::KeyExchange(_)
                | Answer::Services { .. },
                text,
            ) => Err(Cause::Name(text.unwrap_or_default())),
        }
    }

    /// Connects to the addresses, and exchanges keys with the first that can. One that is slow is given company, but only
    /// one session at a time sends its request.
    async fn establish(
        &self,
        question: &KeyExchange,
        tlsa: &[Tlsa],
        judgement: Judgement,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, Established), Failed> {
        let config = match &self.config {
            Ok(config) => config.clone(),
            // What DNS vouches for needs no other authority.
            Err(_) if !tlsa.is_empty() => ClientConfig::without_roots(),
            Err(why) => return Err(Cause::NoRoots(why.clone()).into()),
        };
        let end = Instant::now() + self.deadline;
        let order = Order {
            server: question.server.as_str(),
            algorithms: &self.algorithms,
            tlsa,
            denied: &question.denied,
            judgement,
            deadline: crate::now::monotonic() + self.deadline,
        };
        let turn = Turn::new();
        let mut race = Race::new(addresses);
        let mut sessions = Sessions::default();
        let mut last: Option<Failed> = None;
        let mut all_begun = false;
        // Ends: every turn takes a connection or the outcome of a session, or is the last before both have ended.
        while !all_begun || !sessions.is_empty() {
            tokio::select! {
                biased;
                (peer, outcome) = sessions.next(), if !sessions.is_empty() => match outcome {
                    Ok(established) => return Ok((peer, *established)),
                    Err(failed) if is_final(&failed.cause) => return Err(failed),
                    Err(failed) => {
                        last = Some(failed.after(last));
                        race.hurry();
                    }
                },
                next = race.next(end), if !all_begun => match next {
                    Some((peer, stream)) => {
                        let left = end.saturating_duration_since(Instant::now());
                        let (config, order, turn) = (&config, &order, &turn);
                        sessions.push(async move { (peer, session::run(config, order, stream, left, turn).await) });
                    }
                    None => all_begun = true,
                },
            }
        }
        Err(last.unwrap_or_else(|| race.into_cause(self.deadline).into()))
    }

    /// Where the NTP server answers, best first.
    async fn ntp_addresses(
        &self,
        question: &KeyExchange,
        peer: SocketAddr,
        known: &[SocketAddr],
        established: &Established,
        judgement: Judgement,
    ) -> Result<Vec<SocketAddr>, Cause> {
        // RFC 8915 section 4.1.8: 123 without a port record.
        let port = established.port.unwrap_or(NTP_PORT);
        if port == 0 {
            return Err(Cause::BadNtpServer("port 0".to_owned()));
        }
        let found = match &established.server {
            // RFC 8915 section 4.1.7: without a server record it is at the address of the key-exchange server.
            None => known.to_vec(),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(address) if !self.resolver.takes(address) => {
                    return Err(Cause::BadNtpServer(format!("{address}, of a family of addresses that is not used")));
                }
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => {
                    let name = Name::parse(text).map_err(|_| Cause::BadNtpServer(format!("{text:?}")))?;
                    self.addresses(&name, port, judgement).await?
                }
            },
        };
        let to_ntp = |mut address: SocketAddr| {
            address.set_port(port);
            address
        };
        let mut addresses: Vec<_> = found.iter().copied().map(to_ntp).collect();
        addresses.retain(|address| redirect::is_allowed(peer.ip(), address.ip()));
        if addresses.is_empty() {
            let named = established.server.clone().unwrap_or_else(|| question.server.to_string());
            return Err(Cause::Redirect(named, found.iter().map(SocketAddr::ip).collect()));
        }
        let is_peer = |address: &SocketAddr| address.ip() == peer.ip();
        addresses.sort_by_key(|address| !is_peer(address));
        Ok(addresses)
    }
}

/// Whether another address of the same server would say the same.
fn is_final(cause: &Cause) -> bool {
    match cause {
        Cause::Session(error) => !matches!(error, KeError::Tls(_) | KeError::Timeout(_) | KeError::Eof(_)),
        Cause::Stalled(..) | Cause::Broken(_) => false,
        Cause::Name(_)
        | Cause::Unreachable(_)
        | Cause::NoConnection(_)
        | Cause::Order(_)
        | Cause::BadNtpServer(_)
        | Cause::NoRoots(_)
        | Cause::Forged(_)
        | Cause::Missing(..)
        | Cause::Redirect(..) => true,
    }
}
