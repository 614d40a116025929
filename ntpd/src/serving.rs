//! What is served to others: NTP by threads, NTS key exchange beside them.

use std::{sync::Arc, time::Duration};

use ntp_proto::{counters::ServerCounters, nts::Keyring, time::Monotonic, wire::SymmetricKey};
use nts_ke::server::Deadlines;

use crate::{
    config::{self, Config, Serve, ServeNts},
    ke::{
        accept::{KeServer, Listeners},
        admission::Limits,
        pair::{Credentials, Identity},
    },
    now,
    observe::KeCounters,
    serve::{ClientLog, Ready, Server, Settings, StatusCell, keys::CookieKeys},
    start::StartError,
    state::StateDirectory,
};

/// Time between two looks at certificate files and the age of cookie keys.
const TEND_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest time between two looks, when a key is due.
const MIN_TEND_INTERVAL: Duration = Duration::from_secs(1);

/// The servers of this daemon, if any.
#[derive(Debug)]
pub struct Serving {
    status: Arc<StatusCell>,
    state: Option<Arc<StateDirectory>>,
    cookies: Option<CookieKeys>,
    config: Option<Serve>,
    server: Option<Server>,
    clients: Option<Arc<ClientLog>>,
    exchange: Option<KeServer>,
    /// What servers counted that were replaced: a reload does not begin to count anew.
    ended: (ServerCounters, KeCounters),
    next_tending: Monotonic,
}

/// A new state of the servers that only needs to be put in force: everything is read, bound and started that can fail.
#[derive(Debug)]
pub struct Prepared {
    config: Option<Serve>,
    settings: Option<Settings>,
    /// Servers for addresses that were not served before; `None` keeps those that run.
    server: Option<Ready>,
    clients: Option<Arc<ClientLog>>,
    exchange: Option<PreparedExchange>,
    cookies: Option<CookieKeys>,
}

#[derive(Debug)]
struct PreparedExchange {
    credentials: Credentials,
    keyring: Keyring,
    /// `None` if they stay as they are.
    listeners: Option<Listeners>,
    limits: Limits,
}

impl Serving {
    /// Starts what the configuration wants served.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the address or file, and the cause.
    pub fn start(
        config: &Config,
        keys: &[SymmetricKey],
        state: Option<Arc<StateDirectory>>,
        status: Arc<StatusCell>,
    ) -> Result<Self, StartError> {
        let next_tending = now::monotonic();
        let mut serving = Self {
            status,
            state,
            cookies: None,
            config: None,
            server: None,
            clients: None,
            exchange: None,
            ended: Default::default(),
            next_tending,
        };
        let prepared = serving.prepare(config, keys)?;
        serving.commit(prepared);
        Ok(serving)
    }

    /// Does everything that can fail: reads files, then binds addresses that are new. What runs goes on.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing has changed then.
    pub fn prepare(&self, config: &Config, keys: &[SymmetricKey]) -> Result<Prepared, StartError> {
        let Some(serve) = &config.serve else {
            return Ok(Prepared {
                config: None,
                settings: None,
                server: None,
                clients: None,
                exchange: None,
                cookies: None,
            });
        };
        let credentials = serve.nts.as_ref().map(|nts| {
            // Not judged by a date: the time may not be known yet. Clients judge it anyhow.
            Identity::of(nts, &config.trust.aeads).read(None).map_err(StartError::new)
        });
        let credentials = credentials.transpose()?;
        let cookies = serve.nts.as_ref().map(|nts| self.cookies_for(nts)).transpose()?.flatten();
        let keyring = cookies.as_ref().or(self.cookies.as_ref()).map(CookieKeys::keyring).cloned();
        let keyring = keyring.filter(|_| serve.nts.is_some());
        let settings =
            Settings::from_config(serve, keys.to_vec()).map_err(StartError::new)?.with_keyring(keyring.clone());
        let exchange = match (&serve.nts, credentials, keyring) {
            (Some(nts), Some(credentials), Some(keyring)) => {
                let listeners = self.new_listeners(nts)?;
                Some(PreparedExchange { credentials, keyring, listeners, limits: limits(nts) })
            }
            (Some(_) | None, _, _) => None,
        };
        // Last, since requests already wait in sockets that are bound beside those of a server that runs.
        let same_clients = |old: &Serve| old.client_log == serve.client_log;
        let clients = if self.config.as_ref().is_some_and(same_clients) {
            self.clients.clone()
        } else {
            ClientLog::new(serve.client_log).map_err(StartError::new)?
        };
        let settings = settings.with_client_log(clients.clone());
        let same_place = |old: &Serve| old.listen == serve.listen && old.threads == serve.threads && same_clients(old);
        let server = if self.config.as_ref().is_some_and(same_place) {
            None
        } else {
            let status = Arc::clone(&self.status);
            let held = self.server.as_ref().map_or(&[][..], Server::addresses);
            let server = Server::ready(held, &serve.listen, serve.threads, settings.clone(), status);
            Some(server.map_err(StartError::new)?)
        };
        Ok(Prepared { config: Some(serve.clone()), settings: Some(settings), server, clients, exchange, cookies })
    }

    /// Addresses for key exchange, unless they are those that are served.
    fn new_listeners(&self, nts: &ServeNts) -> Result<Option<Listeners>, StartError> {
        let old = self.config.as_ref().and_then(|old| old.nts.as_ref());
        if self.exchange.is_some() && old.is_some_and(|old| old.listen == nts.listen) {
            return Ok(None);
        }
        let held = self.exchange.as_ref().map(KeServer::listeners);
        Listeners::bind(&nts.listen, held.as_ref()).map(Some).map_err(StartError::new)
    }

    /// The keys of cookies, unless those in use stay.
    fn cookies_for(&self, nts: &ServeNts) -> Result<Option<CookieKeys>, StartError> {
        if let Some(file) = &nts.cookie_secret {
            let secrets = config::cookie_secrets(file, nts.cookie_period).map_err(StartError::new)?;
            return Ok(Some(CookieKeys::shared(secrets, now::unix())));
        }
        if self.cookies.as_ref().is_some_and(|cookies| !cookies.is_shared()) {
            return Ok(None);
        }
        self.load_cookies().map(Some)
    }

    fn load_cookies(&self) -> Result<CookieKeys, StartError> {
        let Some(state) = &self.state else { return CookieKeys::fresh(now::unix()).map_err(StartError::new) };
        let (cookies, complaint) = CookieKeys::load(state, now::unix()).map_err(StartError::new)?;
        if let Some(complaint) = complaint {
            tracing::warn!("{complaint}; clients will exchange keys once more");
        }
        Ok(cookies)
    }

    /// Puts a prepared state in force; nothing of it can fail. Requests under way are answered, and key exchanges under
    /// way come to their end.
    pub fn commit(&mut self, prepared: Prepared) {
        let Prepared { config, settings, server, clients, exchange, cookies } = prepared;
        self.clients = clients;
        if cookies.is_some() {
            self.cookies = cookies;
        }
        let old = match (server, settings) {
            (Some(server), _) => self.server.replace(server.start()),
            (None, Some(settings)) => {
                self.server.iter().for_each(|server| server.set(settings.clone()));
                None
            }
            (None, None) => self.server.take(),
        };
        old.into_iter().for_each(|old| self.ended.0.add(&old.stop()));
        self.commit_exchange(exchange);
        self.exchange.iter().for_each(|exchange| exchange.set_client_log(self.clients.clone()));
        self.spread_keyring();
        if let Some(exchange) = &self.exchange {
            let (validity, now) = (exchange.validity(), now::unix());
            if now < validity.not_before || now > validity.not_after {
                tracing::warn!(
                    "by this machine's clock the certificate for NTS is not valid now, so clients will refuse it; replace it, or mend the \
                     clock"
                );
            }
        }
        self.config = config;
        self.next_tending = now::monotonic();
    }

    /// Changes who is answered, and nothing else.
    ///
    /// # Errors
    ///
    /// [`StartError`] if there are more rules than the server has room for; nothing has changed then.
    pub fn set_access(&mut self, serve: &Serve, keys: &[SymmetricKey]) -> Result<(), StartError> {
        let keyring = self.cookies.as_ref().map(CookieKeys::keyring).cloned();
        let settings = Settings::from_config(serve, keys.to_vec()).map_err(StartError::new)?.with_keyring(keyring);
        let settings = settings.with_client_log(self.clients.clone());
        self.server.iter().for_each(|server| server.set(settings.clone()));
        self.config = Some(serve.clone());
        Ok(())
    }

    fn commit_exchange(&mut self, prepared: Option<PreparedExchange>) {
        match (prepared, &self.exchange) {
            (Some(PreparedExchange { credentials, listeners, limits, .. }), Some(running)) => {
                running.set_limits(limits);
                running.set_credentials(credentials);
                if let Some(listeners) = listeners {
                    running.listen_at(listeners);
                }
            }
            (Some(PreparedExchange { credentials, keyring, listeners: Some(listeners), limits }), None) => {
                let deadlines = Deadlines::default();
                self.exchange = Some(KeServer::new(listeners, credentials, limits, deadlines, keyring));
            }
            // Without listeners there is one that runs.
            (Some(PreparedExchange { listeners: None, .. }), None) => {}
            (None, _) => {
                if let Some(running) = self.exchange.take() {
                    self.ended.1 = sum(self.ended.1, counted(&running));
                    running.retire();
                }
                self.cookies = None;
            }
        }
    }

    /// When the certificate for NTS expires, in Unix seconds; `None` if NTS is not served.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<i64> {
        self.exchange.as_ref().map(|exchange| exchange.validity().not_after.seconds)
    }

    /// When [`tend`](Self::tend) is to be called next.
    #[must_use]
    pub const fn next_tending(&self) -> Monotonic {
        self.next_tending
    }

    /// Makes a new cookie key when it is time, and takes up certificates that were replaced.
    pub fn tend(&mut self) {
        if self.server.as_ref().is_some_and(|server| !server.is_whole()) {
            tracing::error!("a thread that serves NTP has died, which is a fault of this program; restart it");
        }
        let mut rest = TEND_INTERVAL;
        if let Some(cookies) = &mut self.cookies {
            match cookies.tend(self.state.as_deref(), now::unix()) {
                Ok(tended) => {
                    if let Some(complaint) = tended.complaint {
                        tracing::warn!(
                            "cookie keys not saved, so after a restart all clients exchange keys again: {complaint}"
                        );
                    }
                    rest = rest.min(cookies.rest(now::unix())).max(MIN_TEND_INTERVAL);
                    if tended.rotated {
                        self.spread_keyring();
                    }
                }
                Err(error) => tracing::warn!("no new cookie key, so the old one stays in use: {error}"),
            }
        }
        self.next_tending = now::monotonic() + rest;
        match self.exchange.as_ref().and_then(|exchange| exchange.reload_if_changed(None)) {
            Some(Ok(_)) => tracing::info!("certificate for NTS replaced"),
            Some(Err(error)) => tracing::error!("certificate not replaced, the old one stays in use: {error}"),
            None => {}
        }
    }

    /// Makes a new cookie key now; `false` if NTS is not served, or keys are shared and follow the time.
    pub fn rekey(&mut self) -> bool {
        let Some(cookies) = self.cookies.as_mut().filter(|cookies| !cookies.is_shared()) else { return false };
        if let Err(error) = cookies.rotate(now::unix()) {
            tracing::warn!("no new cookie key, so the old one stays in use: {error}");
            return false;
        }
        // Saved first, so that no cookie is made with a key that a restart would not know.
        self.tend();
        self.spread_keyring();
        true
    }

    /// The NTP server learns a key before any cookie is made with it.
    fn spread_keyring(&self) {
        let Some(cookies) = &self.cookies else { return };
        self.server.iter().for_each(|server| server.set_keyring(Some(cookies.keyring().clone())));
        self.exchange.iter().for_each(|exchange| exchange.set_keyring(cookies.keyring().clone()));
    }

    /// What the NTP server has counted.
    #[must_use]
    pub fn counters(&self) -> Option<ServerCounters> {
        let mut counters = self.server.as_ref()?.counters();
        counters.add(&self.ended.0);
        Some(counters)
    }

    /// Who was served, if note is taken of that.
    #[must_use]
    pub const fn clients(&self) -> Option<&Arc<ClientLog>> {
        self.clients.as_ref()
    }

    /// What the key-exchange server has counted.
    #[must_use]
    pub fn key_exchange_counters(&self) -> Option<KeCounters> {
        Some(sum(self.ended.1, counted(self.exchange.as_ref()?)))
    }

    /// Stops serving.
    pub fn stop(&mut self) {
        self.exchange = None;
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// What a server of key exchanges has counted.
fn counted(server: &KeServer) -> KeCounters {
    let counters = server.counters();
    KeCounters {
        accepted: counters.accepted,
        refused: counters.refused_peer + counters.refused_full + counters.refused_busy + counters.evicted,
        failed: counters.failed_handshake + counters.failed_request,
        completed: counters.completed,
        pool_requests: counters.pool_requests,
    }
}

const fn sum(one: KeCounters, other: KeCounters) -> KeCounters {
    KeCounters {
        accepted: one.accepted + other.accepted,
        refused: one.refused + other.refused,
        failed: one.failed + other.failed,
        completed: one.completed + other.completed,
        pool_requests: one.pool_requests + other.pool_requests,
    }
}

/// What hosts may have: more where a pool may come.
fn limits(nts: &ServeNts) -> Limits {
    if nts.pool_tokens.is_some() { Limits::for_members() } else { Limits::default() }
}

#[cfg(test)]
mod tests;
