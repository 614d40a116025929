//! The pool: its members, who of them is listed, and its balancer.

use std::{net::SocketAddr, time::Duration};

use ntp_proto::{
    ids::Trust,
    pool::{Failure, Name, Negotiated},
};

use super::{Incident, Offer, Scenario};
use crate::sim::{Path, Random, ServerId, ServerSpec, World};

/// The name of the pool.
pub(super) const POOL: &str = "pool.example";
/// Time after which the operator no longer lists a member that died, in seconds.
const HEALTH: f64 = 120.0;
/// A round trip to a key-exchange server, in seconds.
const ROUND_TRIP: f64 = 0.032;
/// Round trips of one exchange over TLS 1.3: connection, handshake, request.
const ROUND_TRIPS: usize = 3;
/// First wait for a lost packet of a connection not yet made, and of one that is made (RFC 6298), in seconds.
const RESENT_AFTER: [f64; 2] = [1.0, 0.2];
/// Time that connections and sessions may take together, as in the daemon, in seconds.
const DEADLINE: f64 = 8.0;

/// The members and the balancer.
pub(super) struct Pool {
    members: Vec<Member>,
    loss: f64,
    offer: Offer,
    exchanges_fail: bool,
}

#[derive(Clone, Copy)]
struct Member {
    alive: bool,
    /// Not listed after this time.
    listed_until: f64,
}

impl Pool {
    pub(super) fn new(scenario: &Scenario, world: &mut World) -> Self {
        for _ in 0..scenario.members {
            world.add_server(ServerSpec::default());
        }
        let member = Member { alive: true, listed_until: f64::INFINITY };
        Self {
            members: vec![member; scenario.members],
            loss: scenario.loss,
            offer: scenario.mode.offer(),
            exchanges_fail: false,
        }
    }

    pub(super) fn is_alive(&self, member: usize) -> bool {
        self.members.get(member).is_some_and(|member| member.alive)
    }

    pub(super) fn is_listed(&self, now: Duration, member: usize) -> bool {
        self.members.get(member).is_some_and(|member| member.listed_until > now.as_secs_f64())
    }

    pub(super) fn handle(&mut self, world: &mut World, incident: Incident) {
        let now = world.now().as_secs_f64();
        match incident {
            Incident::Dies(number) => {
                world.server_mut(ServerId(number)).silent_from = now;
                self.members[number].alive = false;
                self.members[number].listed_until = now + HEALTH;
            }
            Incident::Leaves(number) => self.members[number].listed_until = now,
            Incident::ForgetsKeys(number) => world.forget_keys(ServerId(number)),
            Incident::ExchangesFail(fail) => self.exchanges_fail = fail,
            Incident::PowerCut | Incident::NamesFail(_) => {}
        }
    }

    /// Some of the members that are listed at this time.
    pub(super) fn list(&self, now: Duration, count: usize, random: &mut Random) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.members.len()).filter(|number| self.is_listed(now, *number)).collect();
        let mut some = Vec::new();
        while !all.is_empty() && some.len() < count {
            some.push(all.swap_remove(pick(random, all.len())));
        }
        some
    }

    /// One exchange of keys with a member, or through the balancer; returns who is to be asked for the time, and adds the
    /// time it took.
    pub(super) fn exchange(
        &self,
        random: &mut Random,
        server: Option<usize>,
        denied: &[String],
        time: &mut f64,
    ) -> Result<usize, Failure> {
        let mut took = 0.0;
        let mut lost = false;
        for trip in 0..ROUND_TRIPS {
            let mut wait = RESENT_AFTER[usize::from(trip > 0)];
            took += ROUND_TRIP;
            while random.chance(self.loss) || random.chance(self.loss) {
                took += wait;
                wait *= 2.0;
                if took >= DEADLINE {
                    lost = true;
                    break;
                }
            }
        }
        *time += took.min(DEADLINE);
        if lost {
            return Err(Failure::Connect);
        }
        // Nobody listens there.
        if server.is_none() && self.offer == Offer::Classic {
            return Err(Failure::Connect);
        }
        if self.exchanges_fail {
            return Err(Failure::Tls);
        }
        match server {
            Some(member) if self.is_alive(member) => Ok(member),
            Some(_) => {
                *time += DEADLINE - took.min(DEADLINE);
                Err(Failure::Connect)
            }
            None => self.assign(random, denied).ok_or(Failure::Protocol),
        }
    }

    /// A member that answers and is not denied; any that answers, if all are denied.
    fn assign(&self, random: &mut Random, denied: &[String]) -> Option<usize> {
        let alive = |number: &usize| self.members[*number].alive && self.members[*number].listed_until.is_infinite();
        let wanted = |number: &usize| !denied.contains(&member_name(*number));
        let all: Vec<usize> = (0..self.members.len()).filter(alive).collect();
        let free: Vec<usize> = all.iter().copied().filter(wanted).collect();
        let from = if free.is_empty() { all } else { free };
        (!from.is_empty()).then(|| from[pick(random, from.len())])
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
fn pick(random: &mut Random, below: usize) -> usize {
    ((random.uniform() * below as f64) as usize).min(below.saturating_sub(1))
}

/// A member's own name.
pub(super) fn member_name(number: usize) -> String {
    format!("s{number}.{POOL}")
}

/// The member of this name.
pub(super) fn member_of(name: &Name) -> Option<usize> {
    name.as_str().strip_suffix(POOL)?.strip_prefix('s')?.strip_suffix('.')?.parse().ok()
}

/// Where a member answers: each in a network of its own.
pub(super) fn address(number: usize) -> SocketAddr {
    let octet = u8::try_from(number).expect("250 members at most");
    SocketAddr::from(([10, 1, octet, 1], 123))
}

/// The member at this address.
pub(super) fn member_at(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) => Some(usize::from(address.ip().octets()[2])),
        SocketAddr::V6(_) => None,
    }
}

/// What a key exchange says of a member.
pub(super) fn negotiated(number: usize) -> Negotiated {
    Negotiated { ntp_server: member_name(number), addresses: vec![address(number)], trust: Trust::Pki }
}

/// The way from any client to any member.
pub(super) fn path(loss: f64) -> Path {
    Path { loss, ..Path::wan() }
}
