//! What a population needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ntp_proto::source::{KeysReason, Loss};

use super::{DAY, Scenario};
use crate::sim::Traffic;

/// Why keys are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The first start of a client.
    Start,
    /// A later start.
    Restart,
    /// The server refuses the cookies (NTS NAK).
    Refused,
    /// All cookies are used up: eight replies in a row were lost.
    NoCookies,
    /// The server does not answer any more, and is gone.
    Gone,
    /// It does not seem to answer, but is there: packets were lost.
    Silent,
    /// It cannot be used, or refuses us.
    Useless,
    /// The keys are a week old.
    Age,
    /// Something else.
    Other,
}

/// All of them, with their words in tables.
pub const CAUSES: [(Cause, &str); 9] = [
    (Cause::Start, "start"),
    (Cause::Restart, "restart"),
    (Cause::Refused, "refused"),
    (Cause::NoCookies, "no cookies"),
    (Cause::Gone, "gone"),
    (Cause::Silent, "silent"),
    (Cause::Useless, "useless"),
    (Cause::Age, "age"),
    (Cause::Other, "other"),
];

impl Cause {
    pub(super) const fn of_keys(reason: KeysReason) -> Self {
        match reason {
            KeysReason::None => Self::Other,
            KeysReason::NoCookies => Self::NoCookies,
            KeysReason::Refused => Self::Refused,
            KeysReason::Age => Self::Age,
        }
    }

    pub(super) const fn of_loss(loss: Loss, alive: bool) -> Self {
        match (loss, alive) {
            (Loss::Unreachable, true) => Self::Silent,
            (Loss::Unreachable, false) => Self::Gone,
            (Loss::Denied | Loss::Unusable, _) => Self::Useless,
        }
    }
}

/// Sums over all clients and the whole time of a scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Clients times days.
    pub client_days: f64,
    /// Queries that left the clients, repetitions included.
    pub dns: u64,
    /// Queries that reached the pool's own name servers from resolvers.
    pub dns_pool: u64,
    /// Queries that reached other name servers: the root, the zones above the pool's, the members' own zones.
    pub dns_other: u64,
    /// Key exchanges begun, by cause.
    pub exchanges: BTreeMap<Cause, u64>,
    /// Key exchanges that gave keys.
    pub done: u64,
    /// Key exchanges that saved keys made unnecessary.
    pub spared: u64,
    /// Members that clients gave up.
    pub lost_members: u64,
    /// Members that others took the place of although they answered.
    pub replaced: u64,
    /// Members held at the end that are not listed any more.
    pub unlisted: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// Clients that had too few members at the end.
    pub short: u64,
    /// NTP packets.
    pub ntp: Traffic,
    /// Cookies seen on the wire.
    pub cookies: u64,
    /// Of those, cookies seen before.
    pub cookies_reused: u64,
    /// Key exchanges begun in each second.
    pub exchanges_by_second: BTreeMap<u64, u64>,
    /// Queries to the pool's own name servers in each second.
    pub dns_pool_by_second: BTreeMap<u64, u64>,
}

impl Counts {
    pub(super) fn new(scenario: &Scenario) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred clients")]
        let clients = scenario.clients as f64;
        Self { client_days: clients * scenario.days, ..Self::default() }
    }

    pub(super) fn add_exchange(&mut self, now: Duration, cause: Cause) {
        *self.exchanges.entry(cause).or_default() += 1;
        *self.exchanges_by_second.entry(now.as_secs()).or_default() += 1;
    }

    pub(super) fn add_pool_query(&mut self, now: Duration) {
        self.dns_pool += 1;
        *self.dns_pool_by_second.entry(now.as_secs()).or_default() += 1;
    }

    pub(super) fn add_client(&mut self, traffic: Traffic, cookies: &[Vec<u8>]) {
        self.ntp.requests += traffic.requests;
        self.ntp.request_octets += traffic.request_octets;
        self.ntp.replies += traffic.replies;
        self.ntp.reply_octets += traffic.reply_octets;
        let distinct: BTreeSet<_> = cookies.iter().collect();
        self.cookies += cookies.len() as u64;
        self.cookies_reused += (cookies.len() - distinct.len()) as u64;
    }

    /// Key exchanges begun, whatever for.
    #[must_use]
    pub fn all_exchanges(&self) -> u64 {
        self.exchanges.values().sum()
    }

    /// Key exchanges begun for one cause.
    #[must_use]
    pub fn exchanges_for(&self, cause: Cause) -> u64 {
        self.exchanges.get(&cause).copied().unwrap_or(0)
    }

    /// Key exchanges begun within a span of seconds.
    #[must_use]
    pub fn exchanges_between(&self, from: u64, to: u64) -> u64 {
        self.exchanges_by_second.range(from..to).map(|(_, count)| count).sum()
    }

    /// A sum per client and day.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn per_client_day(&self, sum: u64) -> f64 {
        sum as f64 / self.client_days
    }

    /// Days of the scenario for one client.
    #[must_use]
    pub const fn seconds_per_day() -> f64 {
        DAY
    }
}
