//! Which replies are accepted.

use core::{fmt, time::Duration};

use super::{
    Arrival, LastReply, Outcome, Refinement, Source,
    exchange::{MAX_INTERLEAVED_FAILURES, Previous, Refined, Sent},
    request::TxToken,
};
use crate::{
    filter::Filter,
    ids::Leap,
    sample::{Exchange, ServerState},
    time::NtpTimestamp,
    wire::{Header, Kiss, Mode},
};

/// How long a server that told us to stay away is left alone.
pub(super) const DENIED_REST: Duration = Duration::from_secs(24 * 3600);
/// Longest round trip of a usable reply, in seconds, unless another is set.
pub(super) const MAX_DELAY: f64 = 3.0;
/// Timestamps of one server may contradict each other by this much, in seconds: servers spread or mark the lowest bits,
/// and their clocks have a resolution.
const SERVER_SLACK: f64 = 1e-6;
/// Rates of two clocks that are not adjusted yet may differ by this much, s/s.
const MAX_RATE_DIFFERENCE: f64 = 1e-3;
/// Longest time a server may take to answer, in seconds.
const MAX_SERVER_INTERVAL: f64 = 4.0;
/// Largest root distance of a server: MAXDISP of RFC 5905 section 7.2, in seconds.
const MAX_ROOT_DISTANCE: f64 = 16.0;
/// Highest stratum that is synchronized: below MAXSTRAT of RFC 5905 section 7.2.
const MAX_STRATUM: u8 = 15;

/// The test that a packet failed. RFC 5905 section 8 and appendix A.5.1.1 number some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No NTP packet.
    Malformed,
    /// Not a server's reply, or of another version than the request.
    Mode,
    /// Nothing was asked, or it was answered already (TEST1).
    NotAsked,
    /// It does not answer our last request (TEST2).
    Origin,
    /// The request's time of departure is not known.
    NoStamp,
    /// It carries no authentication though it must (TEST5).
    Unauthenticated,
    /// Its authentication is wrong (TEST5).
    Forged,
    /// The server does not accept our cookie; believed only at the next poll.
    NtsNak,
    /// The server says it is not synchronized (TEST6).
    Unsynchronized,
    /// The server is too far from true time, or its timestamps contradict each other (TEST7).
    RootDistance,
    /// The server took too long, or replied before it was asked.
    ServerInterval,
    /// The round trip took too long.
    Delay,
    /// The round trip took much longer than the shortest.
    DelayRatio,
    /// The round trip took longer than offsets spread.
    DelayDeviations,
    /// The server follows us.
    Loop,
    /// A reading of a reference clock is too old, from the future, or no newer than the last.
    Stale,
    /// Nothing tells which second a pulse begins.
    Unnumbered,
    /// A pulse is between two seconds that it could begin.
    Ambiguous,
    /// Readings of a reference clock differ too much.
    Dispersion,
    /// A reference clock tells TAI, and there is no list of leap seconds.
    NoTaiOffset,
}

impl Refusal {
    /// How many tests there are.
    const COUNT: usize = Self::NoTaiOffset as usize + 1;

    /// All of them, in the order in which packets meet them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Malformed,
        Self::Mode,
        Self::NotAsked,
        Self::Origin,
        Self::NoStamp,
        Self::Unauthenticated,
        Self::Forged,
        Self::NtsNak,
        Self::Unsynchronized,
        Self::RootDistance,
        Self::ServerInterval,
        Self::Delay,
        Self::DelayRatio,
        Self::DelayDeviations,
        Self::Loop,
        Self::Stale,
        Self::Unnumbered,
        Self::Ambiguous,
        Self::Dispersion,
        Self::NoTaiOffset,
    ];

    /// Whether the server itself sent what was refused, in answer to us.
    #[must_use]
    pub const fn is_an_answer(self) -> bool {
        match self {
            Self::Unsynchronized
            | Self::RootDistance
            | Self::ServerInterval
            | Self::Delay
            | Self::DelayRatio
            | Self::DelayDeviations
            | Self::Loop => true,
            // A reference clock is not asked, and the last of these is our own fault.
            Self::Malformed
            | Self::Mode
            | Self::NotAsked
            | Self::Origin
            | Self::Unauthenticated
            | Self::Forged
            | Self::NtsNak
            | Self::Stale
            | Self::Unnumbered
            | Self::Ambiguous
            | Self::Dispersion
            | Self::NoTaiOffset
            | Self::NoStamp => false,
        }
    }

    /// A short name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Mode => "mode",
            Self::NotAsked => "not-asked",
            Self::Origin => "origin",
            Self::NoStamp => "no-stamp",
            Self::Unauthenticated => "unauthenticated",
            Self::Forged => "forged",
            Self::NtsNak => "nts-nak",
            Self::Unsynchronized => "unsynchronized",
            Self::RootDistance => "root-distance",
            Self::ServerInterval => "server-interval",
            Self::Delay => "delay",
            Self::DelayRatio => "delay-ratio",
            Self::DelayDeviations => "delay-dev-ratio",
            Self::Loop => "loop",
            Self::Stale => "stale",
            Self::Unnumbered => "unnumbered",
            Self::Ambiguous => "ambiguous",
            Self::Dispersion => "dispersion",
            Self::NoTaiOffset => "no-tai-offset",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an NTP packet",
            Self::Mode => "not a reply of a server in our version",
            Self::NotAsked => "nothing was asked, or it was answered already",
            Self::Origin => "does not answer our last request",
            Self::NoStamp => "time of departure of the request unknown",
            Self::Unauthenticated => "not authenticated",
            Self::Forged => "authentication wrong",
            Self::NtsNak => "cookie not accepted by the server",
            Self::Unsynchronized => "server not synchronized",
            Self::RootDistance => "server too far from true time",
            Self::ServerInterval => "server took too long",
            Self::Delay => "round trip took too long",
            Self::DelayRatio => "round trip took much longer than the shortest",
            Self::DelayDeviations => "round trip took longer than offsets spread",
            Self::Loop => "server follows us",
            Self::Stale => "too old, from the future, or no newer than the last",
            Self::Unnumbered => "nothing tells which second the pulse begins",
            Self::Ambiguous => "pulse is between two seconds",
            Self::Dispersion => "readings differ too much",
            Self::NoTaiOffset => "TAI, and no list of leap seconds (clock.leap-file)",
        })
    }
}

/// Refused packets, counted by test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; Refusal::COUNT]);

impl RefusalCounts {
    pub(super) fn add(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// Packets that failed this test.
    #[must_use]
    pub const fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }
}

/// How a reply relates to the request.
#[derive(Clone, Copy, Debug)]
enum Match {
    Basic,
    /// With the exchange before, whose reply is the one that the transmit timestamp belongs to.
    Interleaved(Previous),
}

impl Source {
    /// Puts a datagram through the tests, in this order: is it a reply, to what we asked, by whom we asked, and is what it
    /// says usable. Until the third question is answered it changes nothing, so that forged packets cannot get in the
    /// way of the true reply.
    pub(super) fn accept(&mut self, arrival: &Arrival, payload: &mut [u8]) -> Result<Outcome, Refusal> {
        let claimed = Header::read(payload).map_err(|_| Refusal::Malformed)?;
        if claimed.mode != Mode::Server || claimed.version != self.config.version {
            return Err(Refusal::Mode);
        }
        let kind = self.pair(&claimed)?;
        let flight = self.in_flight.as_mut().ok_or(Refusal::NotAsked)?;
        let header = self.association.check(payload, &flight.unique_id).inspect_err(|refusal| {
            flight.nak |= *refusal == Refusal::NtsNak && super::association::is_nak(&claimed);
        })?;
        let (token, sent) = (flight.token, flight.sent);
        self.in_flight = None;
        self.unanswered = 0;
        self.compared = None;
        self.schedule.handle_answer();
        self.counts.valid += 1;
        if let Some(kiss) = Kiss::of(&header) {
            return Ok(Outcome::Kissed(kiss));
        }
        check_server(&header)?;
        // From here on the server is alive and synchronized, whatever this one reply is worth.
        self.reach.handle_reply();
        self.unsynchronized = false;
        self.own_reference = Some(arrival.own_reference);
        let sent = sent.ok_or(Refusal::NoStamp)?;
        self.looping = header.stratum > 1 && header.reference_id == arrival.own_reference;
        if self.looping {
            return Err(Refusal::Loop);
        }
        self.complete(arrival, &header, (token, sent), kind)
    }

    /// TEST2: the reply must return what only the request contained.
    fn pair(&self, header: &Header) -> Result<Match, Refusal> {
        let flight = self.in_flight.as_ref().ok_or(Refusal::NotAsked)?;
        match self.previous.filter(|_| flight.interleaved_nonce == Some(header.origin)) {
            _ if header.origin == flight.nonce => Ok(Match::Basic),
            Some(previous) => Ok(Match::Interleaved(previous)),
            None => Err(Refusal::Origin),
        }
    }

    /// Makes a sample of a good reply. In basic mode it tells when it left itself; in interleaved mode it tells that of the
    /// reply before, whose sample thereby becomes exact, and its own sample is provisional until the next.
    fn complete(
        &mut self,
        arrival: &Arrival,
        header: &Header,
        (token, sent): (TxToken, Sent),
        kind: Match,
    ) -> Result<Outcome, Refusal> {
        let this = Previous {
            token,
            sent,
            server_received: header.receive,
            received: arrival.received,
            stamp: arrival.stamp,
            received_kernel: arrival.kernel,
            error: arrival.error,
            server: server_state(header),
            is_sampled: false,
            missed: 0,
        };
        let ((_, sent_stamp), (_, received_stamp)) = this.stamps();
        self.previous = Some(this);
        let mut reply = LastReply {
            at: arrival.now,
            leap: header.leap,
            reference_id: header.reference_id,
            reference_time: header.reference,
            poll: header.poll,
            server: this.server,
            exchange: None,
            refined: None,
            interleaved: matches!(kind, Match::Interleaved(_)),
            sent_stamp,
            received_stamp,
        };
        let Match::Interleaved(before) = kind else {
            let exchange = this.complete(header.transmit);
            self.last = Some(LastReply { exchange: Some(exchange), ..reply });
            let judged = self.check(&exchange).and_then(|()| self.judge(exchange.sample()));
            return self.handle_judged(arrival.now, judged, None);
        };
        self.counts.interleaved += 1;
        // RFC 9769 section 2: the transmit timestamp is that of the reply whose receive timestamp the request returned.
        let exact = before.complete(header.transmit);
        let refinement = self.refine(&before, &exact);
        let is_kept = matches!(refinement, Ok(Some(Some(_))));
        let ((_, sent_stamp), (_, received_stamp)) = before.stamps();
        reply.refined = Some(Refined { exchange: exact, sent_stamp, received_stamp, is_kept });
        reply.exchange = refinement.is_ok().then(|| self.provisional(&this)).flatten();
        self.last = Some(reply);
        let refinement = refinement?;
        let exchange = reply.exchange.ok_or(Refusal::ServerInterval)?;
        let judged = self.check(&exchange).and_then(|()| self.judge(exchange.sample()));
        self.handle_judged(arrival.now, judged, refinement)
    }

    /// Whether an exchange can be what it seems to be, and took no longer than it may.
    fn check(&self, exchange: &Exchange) -> Result<(), Refusal> {
        check_order(exchange)?;
        let delay = (exchange.local_interval() - exchange.server_interval()).to_seconds();
        if delay > self.config.rules.max_delay { Err(Refusal::Delay) } else { Ok(()) }
    }
}

/// Interleaved mode.
impl Source {
    /// Whether requests may be interleaved.
    pub(super) const fn interleaves(&self) -> bool {
        self.config.interleaved && self.interleaved_failures < MAX_INTERLEAVED_FAILURES
    }

    /// What becomes of the newest sample now that its exchange is `exact`.
    ///
    /// A server that mixes up the times at which its replies left is asked in basic mode next, and after a few such
    /// replies for good; what the sample was before stays.
    fn refine(&mut self, before: &Previous, exact: &Exchange) -> Result<Option<Refinement>, Refusal> {
        if let Err(refusal) = check_order(exact) {
            self.interleaved_failures = self.interleaved_failures.saturating_add(1);
            self.previous = None;
            return Err(refusal);
        }
        self.interleaved_failures = 0;
        self.residence.learn(exact.server_interval().to_seconds());
        let sample = self.config.rules.correct(exact.sample());
        let expected = self.filter.surprise(&sample);
        let is_fit = self.check(exact).and_then(|()| self.config.rules.check(&sample, expected.as_ref())).is_ok();
        Ok(before.is_sampled.then(|| is_fit.then_some(sample)))
    }

    /// The exchange as far as it can be known before the server tells when its reply left.
    fn provisional(&self, this: &Previous) -> Option<Exchange> {
        // As if the server had taken no time: all of it was spent on the way, on which no packet was ever faster than the
        // fastest. Thus what the server took before never makes a new shortest delay.
        let slowest = this.complete(this.server_received);
        let most = match self.filter.surprise(&slowest.sample()) {
            Some(expected) => expected.extra_delay,
            None => slowest.local_interval().to_seconds(),
        };
        Some(this.provisional(self.residence.usual(most)?))
    }
}

const fn server_state(header: &Header) -> ServerState {
    ServerState {
        precision: header.precision,
        stratum: header.stratum,
        root_delay: header.root_delay,
        root_dispersion: header.root_dispersion,
    }
}

/// TEST6 and TEST7: whether the server claims a time that can be used at all.
fn check_server(header: &Header) -> Result<(), Refusal> {
    if header.leap == Leap::Unsynchronized || header.stratum == 0 || header.stratum > MAX_STRATUM {
        return Err(Refusal::Unsynchronized);
    }
    let distance = header.root_delay.to_seconds() / 2.0 + header.root_dispersion.to_seconds();
    // A server cannot have been set later than it answers. In interleaved mode the transmit timestamp is that of the reply
    // before, so the receive timestamp counts as well.
    let age = |timestamp: NtpTimestamp| (timestamp - header.reference).to_seconds();
    let reference_is_late =
        !header.reference.is_zero() && age(header.transmit).max(age(header.receive)) < -SERVER_SLACK;
    if distance >= MAX_ROOT_DISTANCE || reference_is_late {
        return Err(Refusal::RootDistance);
    }
    if header.receive.is_zero() || header.transmit.is_zero() {
        return Err(Refusal::ServerInterval);
    }
    Ok(())
}

/// Whether the four timestamps can be those of one exchange.
fn check_order(exchange: &Exchange) -> Result<(), Refusal> {
    let server = exchange.server_interval().to_seconds();
    if !(-SERVER_SLACK..=MAX_SERVER_INTERVAL).contains(&server) {
        return Err(Refusal::ServerInterval);
    }
    let local = exchange.local_interval().to_seconds();
    // A reply cannot come before its request left, except by the error of the stamps and of both clocks' rates.
    let least = -(exchange.precision() + MAX_RATE_DIFFERENCE * local);
    if local < 0.0 || local - server < least { Err(Refusal::Delay) } else { Ok(()) }
}
