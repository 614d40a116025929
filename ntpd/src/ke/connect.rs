//! Key exchange as a client.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    nts::{AeadAlgorithm, CookieJar},
    pool::{Answer, KeyExchange, Name, Negotiated},
    source::NtsKeys,
    time::UnixTime,
};
use nts_ke::{
    cert_time::Validity,
    client::{ClientConfig, Established, Order},
    dane::Tlsa,
    error::KeError,
    verify::{NoUsableRoots, TrustRoots},
};
use tokio::{sync::Semaphore, time::Instant};

use super::roots::{self, RootsError};
use crate::{
    config::{DEFAULT_AEADS, NTP_PORT, Require, TrustSettings},
    resolve::Resolver,
};

mod problem;
mod race;
mod redirect;
mod session;
mod sessions;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

pub use problem::{Cause, KeProblem};
use race::Race;
use sessions::Sessions;

/// How long connections and sessions with all addresses of a server may take together.
const DEADLINE: Duration = Duration::from_secs(8);

/// Makes key exchanges.
#[derive(Clone, Debug)]
pub struct KeyExchanger {
    /// What is trusted, or why nothing is: a system without certificates can still use servers without NTS.
    config: Result<ClientConfig, String>,
    /// What is offered, best first.
    algorithms: Vec<AeadAlgorithm>,
    trusted: [u8; 32],
    resolver: Resolver,
    deadline: Duration,
}

/// What a key exchange gave.
#[derive(Debug)]
pub struct Exchanged {
    /// For the pool mode that asked.
    pub negotiated: Negotiated,
    /// For the source.
    pub keys: NtsKeys,
    /// The AEAD algorithm of the keys.
    pub algorithm: AeadAlgorithm,
    /// The time in which every certificate that the server showed is valid, if there is one.
    pub validity: Option<Validity>,
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

    /// Whether an algorithm is one that is offered.
    #[must_use]
    pub fn offers(&self, algorithm: AeadAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// A digest of the certificates that are trusted, to tell whether keys were had under the same ones.
    #[must_use]
    pub const fn trusted(&self) -> [u8; 32] {
        self.trusted
    }

    /// Who is asked about names.
    #[must_use]
    pub const fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Exchanges keys once, if what vouches for the server is what is required. Certificates are judged at `judged_at`. It
    /// takes no longer than a look-up of the server, 8 s, and a look-up of the NTP server that the exchange names.
    ///
    /// # Errors
    ///
    /// [`KeProblem`] says why there are no keys.
    pub async fn exchange(
        &self,
        question: &KeyExchange,
        require: Require,
        judged_at: UnixTime,
    ) -> Result<Exchanged, KeProblem> {
        let problem = |cause| KeProblem { server: question.server.clone(), port: question.port, cause };
        let (known, tlsa) = tokio::join!(
            async {
                match &question.addresses {
                    Some(addresses) => Ok(addresses.clone()),
                    None => self.addresses(&question.server, question.port).await,
                }
            },
            self.resolver.tlsa(&question.server, question.port, judged_at),
        );
        let known = known.map_err(problem)?;
        let trust = trust::of(question, &tlsa, require).map_err(problem)?;
        let (peer, established) = self.establish(question, tlsa.records(), judged_at, &known).await.map_err(problem)?;
        let addresses = self.ntp_addresses(question, peer, &known, &established).await.map_err(problem)?;

        let Established { algorithm, keys, fallback_keys, cookies, server, validity, .. } = established;
        let mut jar = CookieJar::new();
        for cookie in &cookies {
            jar.put(cookie.as_bytes());
        }
        let ntp_server = server.unwrap_or_else(|| question.server.to_string());
        Ok(Exchanged {
            negotiated: Negotiated { ntp_server, addresses, trust },
            keys: NtsKeys { keys, fallback: fallback_keys, cookies: jar },
            algorithm,
            validity,
        })
    }

    async fn addresses(&self, name: &Name, port: u16) -> Result<Vec<SocketAddr>, Cause> {
        match self.resolver.addresses(name, port).await {
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
        judged_at: UnixTime,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, Established), Cause> {
        let config = match &self.config {
            Ok(config) => config.clone(),
            // What DNS vouches for needs no other authority.
            Err(_) if !tlsa.is_empty() => ClientConfig::without_roots(),
            Err(why) => return Err(Cause::NoRoots(why.clone())),
        };
        let end = Instant::now() + self.deadline;
        let order = Order {
            server: question.server.as_str(),
            algorithms: &self.algorithms,
            tlsa,
            denied: &question.denied,
            judged_at,
            deadline: crate::now::monotonic() + self.deadline,
        };
        let turn = Semaphore::new(1);
        let mut race = Race::new(addresses);
        let mut sessions = Sessions::default();
        let mut last = None;
        let mut all_begun = false;
        // Ends: every turn takes a connection or the outcome of a session, or is the last before both have ended.
        while !all_begun || !sessions.is_empty() {
            tokio::select! {
                biased;
                (peer, outcome) = sessions.next(), if !sessions.is_empty() => match outcome {
                    Ok(established) => return Ok((peer, *established)),
                    Err(cause) if is_final(&cause) => return Err(cause),
                    Err(cause) => {
                        last = Some(cause);
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
        Err(last.unwrap_or_else(|| race.into_cause(self.deadline)))
    }

    /// Where the NTP server answers, best first.
    async fn ntp_addresses(
        &self,
        question: &KeyExchange,
        peer: SocketAddr,
        known: &[SocketAddr],
        established: &Established,
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
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => {
                    let name = Name::parse(text).map_err(|_| Cause::BadNtpServer(format!("{text:?}")))?;
                    self.addresses(&name, port).await?
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
