//! From a query to its answer: all rules, no socket.

use std::{net::IpAddr, sync::Arc};

use ntp_proto::time::Monotonic;

use super::{
    cookie::CookieSecrets,
    counters::{Count, Counters},
    draws::DrawSecret,
    limit::{Grant, LimitSettings, Limiter},
    name::{WireName, sort_key},
    query::{Asked, Code, Edns, Fault, Query, read},
    record::{IN, kind},
    reply::{Reply, Section, bare},
    targets::{Candidates, Draws, MAX_EDNS, MAX_PLAIN, MAX_UDP},
    zone::{Found, Node, Zone},
};

/// Most zones of one server.
pub const MAX_ZONES: usize = 64;

/// Largest message by TCP.
const MAX_TCP: usize = 65_535;

/// One zone as it is now.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its records.
    pub zone: Arc<Zone>,
    /// Who can be drawn.
    pub candidates: Arc<Candidates>,
}

/// All zones as they are now.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// In the order of the configuration.
    pub zones: Vec<Served>,
    /// How queries are taken from now on.
    pub rules: Rules,
}

/// What a state changes of how queries are taken; what is `None` stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How many answers a prefix gets by UDP.
    pub limit: Option<LimitSettings>,
    /// The secrets behind cookies.
    pub secrets: Option<CookieSecrets>,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Whose source address anybody may have written.
    Udp,
    /// Whose source address is real.
    Tcp,
}

/// When a query came.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the machine's own clock.
    pub monotonic: Monotonic,
    /// In seconds since 1970.
    pub unix: u64,
}

/// Answers queries. Each thread has one of its own; only signatures and counters are shared.
#[derive(Debug)]
pub struct Responder {
    state: Arc<State>,
    draws: Draws,
    limit: LimitSettings,
    limiter: Limiter,
    tables: usize,
    secrets: CookieSecrets,
    counters: Arc<Counters>,
    /// The key of a name, and where those of the names above it end.
    key: Vec<u8>,
}

/// What is known of a query besides what it says.
struct Context {
    peer: IpAddr,
    transport: Transport,
    moment: Moment,
}

/// What an answer came to.
struct Outcome {
    code: Code,
    /// The scope of a tailored answer.
    scope: u8,
    /// Whether there must be no answer but one that says it was cut.
    cut: bool,
}

impl Outcome {
    fn of(code: Code) -> Self {
        Self { code, scope: 0, cut: false }
    }
}

impl Responder {
    /// A responder, one of `tables` that share a limit.
    #[must_use]
    pub fn new(
        state: Arc<State>,
        limit: LimitSettings,
        tables: usize,
        secrets: impl Into<CookieSecrets>,
        counters: Arc<Counters>,
    ) -> Self {
        let secrets = secrets.into();
        let limiter = Limiter::new(limit, tables, secrets.hashing());
        let (draws, key) = (Draws::new(DrawSecret::new(secrets.hashing())), Vec::new());
        let mut responder = Self { state: Arc::default(), draws, limit, limiter, tables, secrets, counters, key };
        responder.set_state(state);
        responder
    }

    /// Goes over to another state, and to its rules.
    pub fn set_state(&mut self, state: Arc<State>) {
        let Rules { limit, secrets } = &state.rules;
        if let Some(secrets) = secrets {
            self.secrets = secrets.clone();
            self.draws = Draws::new(DrawSecret::new(secrets.hashing()));
        }
        // What everybody has used up is forgotten with the old limit.
        if let Some(limit) = limit.filter(|limit| *limit != self.limit) {
            self.limit = limit;
            self.limiter = Limiter::new(limit, self.tables, self.secrets.hashing());
        }
        self.state = state;
    }

    /// Writes the answer to a message into `out`; whether there is one.
    pub fn respond(
        &mut self,
        message: &[u8],
        peer: IpAddr,
        transport: Transport,
        moment: Moment,
        out: &mut Vec<u8>,
    ) -> bool {
        let context = Context { peer, transport, moment };
        self.counters.add(if transport == Transport::Udp { Count::Udp } else { Count::Tcp });
        let query = match read(message) {
            Ok(query) => query,
            Err(fault) => {
                self.counters.add(Count::Malformed);
                let Fault::Says(code) = fault else { return false };
                if self.grant(&context, None) != Grant::Answer {
                    return false;
                }
                bare(out, message, code);
                return true;
            }
        };
        match self.grant(&context, query.edns.as_ref()) {
            Grant::Answer => self.answer(&query, &context, out),
            Grant::Short => {
                self.write(
                    &query,
                    &context,
                    Reply::new(out, &query, false),
                    Outcome { cut: true, ..Outcome::of(Code::NoError) },
                );
            }
            Grant::Nothing => return false,
        }
        true
    }

    /// Whether this client gets an answer: by TCP, with a good cookie, or within its rate.
    fn grant(&mut self, context: &Context, edns: Option<&Edns<'_>>) -> Grant {
        if context.transport == Transport::Tcp {
            return Grant::Answer;
        }
        let cookie = edns.and_then(|edns| edns.cookie);
        let good = |cookie: super::query::SentCookie<'_>| {
            self.secrets.is_good(cookie.client, cookie.server, context.peer, context.moment.unix)
        };
        if cookie.is_some_and(good) {
            self.counters.add(Count::GoodCookie);
            return Grant::Answer;
        }
        let grant = self.limiter.grant(context.peer, context.moment.monotonic);
        match grant {
            Grant::Answer => {}
            Grant::Short => self.counters.add(Count::LimitedShort),
            Grant::Nothing => self.counters.add(Count::LimitedDropped),
        }
        grant
    }

    fn answer(&mut self, query: &Query<'_>, context: &Context, out: &mut Vec<u8>) {
        self.counters.add(match query.kind {
            kind::SRV => Count::Srv,
            kind::A | kind::AAAA => Count::Address,
            kind::TLSA => Count::Tlsa,
            kind::DNSKEY | kind::CDS | kind::CDNSKEY => Count::Keys,
            _ => Count::Other,
        });
        let dnssec = query.edns.is_some_and(|edns| edns.dnssec_ok && edns.version == 0);
        let mut reply = Reply::new(out, query, dnssec);
        let outcome = self.fill(query, context, &mut reply);
        self.write(query, context, reply, outcome);
    }

    /// Writes the records of an answer.
    fn fill(&mut self, query: &Query<'_>, context: &Context, reply: &mut Reply<'_>) -> Outcome {
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return Outcome::of(Code::BadVers);
        }
        let state = Arc::clone(&self.state);
        let transfer = [kind::AXFR, kind::IXFR].contains(&query.kind);
        let found = if query.class == IN && !transfer { zone_of(&state, &query.name) } else { None };
        let Some((start, served)) = found else {
            self.counters.add(Count::Refused);
            return Outcome::of(Code::Refused);
        };
        reply.set_zone(start);
        let zone = &served.zone;
        let mut key = core::mem::take(&mut self.key);
        sort_key(query.name.wire().get(..start).unwrap_or_default(), &mut key);
        // A key ends each label with 0, which stands nowhere else in it: what is cut there is the key of a name above.
        let parents =
            (0..key.len().saturating_sub(1)).rev().filter(|at| *at == 0 || key.get(at.wrapping_sub(1)) == Some(&0));
        let found = zone.find(&key, parents.filter_map(|end| key.get(..end)));
        let outcome = match found {
            Found::Node(node) => self.node(query, context, served, node, reply),
            Found::Empty(before) => {
                self.absent(zone, reply, &[before]);
                Outcome::of(Code::NoError)
            }
            Found::Absent(before, wildcard) => {
                self.absent(zone, reply, &[before, wildcard]);
                Outcome::of(Code::NxDomain)
            }
        };
        self.key = key;
        outcome
    }

    fn node(
        &mut self,
        query: &Query<'_>,
        context: &Context,
        served: &Served,
        node: &Node,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let Served { zone, candidates } = served;
        // RFC 8482 section 4.1: one set stands for all of them. Signatures alone are those of one set as well.
        let one = query.kind == kind::ANY || query.kind == kind::RRSIG;
        let first = if node.is_service { kind::SRV } else { node.sets.first().map_or(kind::NSEC, |set| set.kind) };
        let wanted = if one { first } else { query.kind };
        let signatures_alone = query.kind == kind::RRSIG;
        if node.is_service && wanted == kind::SRV {
            let subnet = query.edns.and_then(|edns| edns.subnet).filter(|subnet| subnet.source > 0);
            let (client, known) = subnet.map_or((context.peer, 0), |subnet| (subnet.address, subnet.source));
            let Moment { monotonic, unix } = context.moment;
            return match self.draws.targets(zone, candidates, client, monotonic, unix) {
                Some(drawn) => {
                    reply.answer(&drawn.1, &node.owner, &zone.signer, signatures_alone);
                    self.counters.add(Count::Answered);
                    Outcome { scope: candidates.scope(client, known), ..Outcome::of(Code::NoError) }
                }
                None => Outcome { cut: true, ..Outcome::of(Code::NoError) },
            };
        }
        if let Some(set) = node.set(wanted) {
            reply.answer(set, &node.owner, &zone.signer, signatures_alone);
            if wanted == kind::NS {
                glue(zone, reply, limit(query, context.transport).saturating_sub(MAX_EDNS));
            }
            self.counters.add(Count::Answered);
        } else {
            self.absent(zone, reply, &[node]);
        }
        Outcome::of(Code::NoError)
    }

    /// Writes that there is nothing: the start of authority (RFC 2308 section 3), and proofs (RFC 4035 section 3.1.3).
    fn absent(&self, zone: &Zone, reply: &mut Reply<'_>, proofs: &[&Node]) {
        let apex = zone.apex();
        let cap = Some(zone.settings.negative_ttl);
        if let Some(soa) = apex.set(kind::SOA) {
            reply.set(Section::Authority, soa, &zone.origin, &zone.origin, &zone.signer, cap);
        }
        let mut last: Option<&WireName> = None;
        for node in proofs {
            if last != Some(&node.owner) {
                reply.proof(node, &zone.origin, &zone.signer);
            }
            last = Some(&node.owner);
        }
        self.counters.add(if proofs.len() > 1 { Count::NxDomain } else { Count::NoData });
    }

    /// Ends an answer; one that is too long is cut to nothing, so that the client comes by TCP (RFC 2181 section 9).
    fn write(&self, query: &Query<'_>, context: &Context, mut reply: Reply<'_>, outcome: Outcome) {
        let Outcome { mut code, scope, cut } = outcome;
        let edns = query.edns;
        let options = edns.map_or(0, |edns| {
            11 + edns.subnet.map_or(0, |s| 8 + usize::from(s.source.div_ceil(8))) + edns.cookie.map_or(0, |_| 28)
        });
        let mut truncated = false;
        if cut || reply.len().saturating_add(options) > limit(query, context.transport) {
            reply.clear(query.question.len());
            truncated = context.transport == Transport::Udp;
            if truncated {
                self.counters.add(Count::Truncated);
            } else {
                code = Code::ServFail;
            }
        }
        if let Some(edns) = &edns {
            let cookie = edns.cookie.map(|cookie| self.secrets.make(cookie.client, context.peer, context.moment.unix));
            reply.edns(edns, code, edns.subnet.map(|subnet| (subnet, scope)), cookie);
        }
        let authoritative = matches!(code, Code::NoError | Code::NxDomain);
        reply.finish(&query.header, code, authoritative, truncated);
    }
}

/// Most octets of an answer: what the client takes, and what fits into a packet.
fn limit(query: &Query<'_>, transport: Transport) -> usize {
    match (transport, query.edns) {
        (Transport::Tcp, _) => MAX_TCP,
        (Transport::Udp, None) => MAX_PLAIN,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(MAX_PLAIN, MAX_UDP),
    }
}

/// The smallest zone that a name lies in, and where its name begins in that name.
fn zone_of<'s>(state: &'s State, name: &Asked) -> Option<(usize, &'s Served)> {
    let wire = name.wire();
    name.label_starts().find_map(|start| {
        let above = wire.get(start..)?;
        let is = |served: &&Served| served.zone.origin.as_wire() == above;
        state.zones.iter().find(is).map(|served| (start, served))
    })
}

/// Adds the addresses of name servers that lie in the zone, as far as there is room.
fn glue(zone: &Zone, reply: &mut Reply<'_>, room: usize) {
    let mut key = Vec::new();
    for (name, _) in &zone.settings.name_servers {
        let Some(node) = zone.host(&WireName::of(name), &mut key) else { continue };
        for set in [kind::A, kind::AAAA].into_iter().filter_map(|kind| node.set(kind)) {
            let most = set.len().saturating_add(zone.signer.rrsig_len()).saturating_add(node.owner.wire_len());
            if reply.len().saturating_add(most) <= room {
                reply.set(Section::Additional, set, &node.owner, &zone.origin, &zone.signer, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
