//! Which pool mode serves an entry of the configuration.
//!
//! A `[[server]]` is a pool of one. The choice is an enum, matched exhaustively: a new mode is one variant.

use std::net::SocketAddr;

use ntp_proto::{
    pool::{
        Answer, Leave, MemberId, Name, Output, PoolMode, QuestionId, Service,
        addresses::{AddressPool, Addresses, Certificate},
        auto::{NtsPolicy, Route},
        classic::{ClassicPool, Host},
        plain::PlainPool,
    },
    time::Monotonic,
};
use pool_lb::LbPool;
use pool_srv::{SrvPool, srv_pool};

use crate::config::{self, NtsUse, Pool, PoolModeName, Server};

mod auto;

pub use auto::{AutoPool, Target};

/// What a mode is made from.
#[derive(Clone, Debug)]
pub struct Spec {
    way: Way,
    /// The name is one server.
    single: bool,
    members: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Way {
    Auto { target: Target, policy: NtsPolicy, remembered: Option<Route> },
    Srv(Name),
    Lb { server: Name, port: u16 },
    Addresses { name: Name, port: u16, certificate: Certificate },
    Plain { name: Name, port: u16 },
    Classic(Host),
}

impl Spec {
    /// How a `[[pool]]` is served. `remembered` is the route by which its name was served before; `seed` decides random
    /// choices and the jitter of waits.
    #[must_use]
    pub fn of_pool(pool: &Pool, remembered: Option<Route>, seed: u64) -> Self {
        let name = pool.name.clone();
        let target = Target { name: name.clone(), port: pool.port, ke_port: pool.ke_port };
        let way = match (pool.mode, pool.nts) {
            (PoolModeName::Auto, NtsUse::Auto) => Way::Auto { target, policy: NtsPolicy::Auto, remembered },
            (PoolModeName::Auto, NtsUse::Require) => Way::Auto { target, policy: NtsPolicy::Require, remembered },
            (PoolModeName::Srv, _) => Way::Srv(name),
            (PoolModeName::Lb, _) => Way::Lb { server: name, port: pool.ke_port },
            (PoolModeName::SharedCert, _) => {
                Way::Addresses { name, port: pool.ke_port, certificate: Certificate::OfName }
            }
            (PoolModeName::IpCert, _) => {
                Way::Addresses { name, port: pool.ke_port, certificate: Certificate::OfAddress }
            }
            (PoolModeName::Classic, _) | (PoolModeName::Auto, NtsUse::Off) => Way::Plain { name, port: pool.port },
        };
        Self { way, single: false, members: pool.count, seed }
    }

    /// How a `[[server]]` is served. The arguments are those of [`of_pool`](Self::of_pool).
    #[must_use]
    pub fn of_server(server: &Server, remembered: Option<Route>, seed: u64) -> Self {
        let plain = |host: &config::Host| match host {
            config::Host::Name(name) => Host::Name { name: name.clone(), port: server.port },
            config::Host::Address(address) => Host::Address(SocketAddr::new(*address, server.port)),
        };
        let nts = if server.key.is_some() { NtsUse::Off } else { server.nts };
        let way = match (nts, &server.host) {
            (NtsUse::Off, host) | (NtsUse::Auto, host @ config::Host::Address(_)) => Way::Classic(plain(host)),
            (NtsUse::Auto, config::Host::Name(name)) => {
                let target = Target { name: name.clone(), port: server.port, ke_port: server.ke_port };
                Way::Auto { target, policy: NtsPolicy::Auto, remembered }
            }
            (NtsUse::Require, config::Host::Name(name)) => Way::Lb { server: name.clone(), port: server.ke_port },
            (NtsUse::Require, config::Host::Address(address)) => {
                Way::Lb { server: Name::from(*address), port: server.ke_port }
            }
        };
        Self { way, single: true, members: 1, seed }
    }
}

/// A pool mode.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, and they stay for the whole run")]
pub enum Mode {
    /// Whatever the name turns out to need.
    Auto(AutoPool),
    /// Key exchange with each address of a name.
    Addresses(AddressPool),
    /// Plain NTP.
    Classic(ClassicPool),
    /// Plain NTP, by service records first.
    Plain(PlainPool),
    /// Repeated key exchange with one name.
    Lb(LbPool),
    /// Key exchange with the targets of service records.
    Srv(SrvPool),
}

impl Mode {
    /// Starts with no members, and with the configured number wanted.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let Spec { way, single, members, seed } = spec;
        let classic = |hosts| {
            let pool = ClassicPool::new(hosts, seed);
            Self::Classic(if single { pool.with_whole_hosts() } else { pool })
        };
        let mut mode = match way {
            Way::Auto { target, policy, remembered } => {
                let pool = AutoPool::new(&target, policy, remembered, seed);
                Self::Auto(if single { pool.with_one_server() } else { pool })
            }
            // The configuration refuses names that are too long; they would have no members.
            Way::Srv(name) => srv_pool(&name, seed).map_or_else(|_| classic(Vec::new()), Self::Srv),
            Way::Lb { server, port } => Self::Lb(LbPool::new(server, port, seed)),
            Way::Addresses { name, port, certificate } => {
                Self::Addresses(AddressPool::new(Addresses::new(name, port, certificate), seed))
            }
            Way::Plain { name, port } => Self::Plain(PlainPool::new(&name, port, seed)),
            Way::Classic(host) => classic(vec![host]),
        };
        mode.set_target(members);
        mode
    }

    /// Starts with servers that there are keys for from an earlier run. To be called before the first
    /// [`poll_output`](PoolMode::poll_output).
    pub fn resume(&mut self, known: Vec<Service>) {
        match self {
            Self::Auto(pool) => pool.resume(known),
            Self::Srv(pool) => pool.resume(known),
            // These ask the same question as before, and what is saved answers it.
            Self::Addresses(_) | Self::Lb(_) | Self::Plain(_) | Self::Classic(_) => {}
        }
    }

    /// The mode in force, to be shown: that of the configuration, and in parentheses what `auto` came to.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Auto(pool) => match pool.learned() {
                None => "auto",
                Some(Route::Srv) => "auto (srv)",
                Some(Route::Lb) => "auto (lb)",
                Some(Route::Classic) => "auto (classic)",
            },
            Self::Addresses(pool) => match pool.list().certificate() {
                Certificate::OfName => PoolModeName::SharedCert.name(),
                Certificate::OfAddress => PoolModeName::IpCert.name(),
            },
            Self::Classic(_) | Self::Plain(_) => Route::Classic.label(),
            Self::Lb(_) => Route::Lb.label(),
            Self::Srv(_) => Route::Srv.label(),
        }
    }

    /// The route that works, to be remembered for the next run; `None` until it is known. That plain NTP works where
    /// nothing else was tried says nothing of the name.
    #[must_use]
    pub fn learned(&self) -> Option<Route> {
        match self {
            Self::Auto(pool) => pool.learned(),
            Self::Classic(_) | Self::Plain(_) => None,
            // A name whose servers share a certificate exchanges keys itself.
            Self::Addresses(pool) => {
                (pool.members() > 0 && pool.list().certificate() == Certificate::OfName).then_some(Route::Lb)
            }
            Self::Lb(pool) => (pool.members() > 0).then_some(Route::Lb),
            Self::Srv(pool) => (pool.members() > 0).then_some(Route::Srv),
        }
    }

    /// Whether each server is asked by its address, and certified for that.
    #[must_use]
    pub fn asks_by_address(&self) -> bool {
        match self {
            Self::Addresses(pool) => pool.list().certificate() == Certificate::OfAddress,
            Self::Auto(_) | Self::Classic(_) | Self::Plain(_) | Self::Lb(_) | Self::Srv(_) => false,
        }
    }

    /// Whether nothing depends on the answer to this question: it is asked to find something better than what serves.
    #[must_use]
    pub fn is_look(&self, question: QuestionId) -> bool {
        match self {
            Self::Auto(pool) => pool.is_look(question),
            Self::Addresses(_) | Self::Classic(_) | Self::Lb(_) | Self::Plain(_) | Self::Srv(_) => false,
        }
    }

    fn inner(&mut self) -> &mut dyn PoolMode {
        match self {
            Self::Auto(pool) => pool,
            Self::Addresses(pool) => pool,
            Self::Classic(pool) => pool,
            Self::Lb(pool) => pool,
            Self::Plain(pool) => pool,
            Self::Srv(pool) => pool,
        }
    }
}

impl PoolMode for Mode {
    fn set_target(&mut self, members: usize) {
        self.inner().set_target(members);
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        self.inner().handle_answer(now, id, answer);
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        self.inner().handle_leave(now, member, reason);
    }

    fn handle_refresh(&mut self, now: Monotonic) {
        self.inner().handle_refresh(now);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        self.inner().handle_timeout(now);
    }

    fn poll_output(&mut self) -> Output {
        self.inner().poll_output()
    }
}

#[cfg(test)]
mod tests;
