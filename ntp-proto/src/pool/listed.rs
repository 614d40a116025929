//! Members from a list of places that give keys: the addresses of a name, or the targets of its service records.
//!
//! What the lists share is here: whom to ask next, whom to leave alone, when to ask for the list again. What differs is a
//! [`List`].
//!
//! A list may be long, and each answer a draw of it, so that a member whose place is missing from one may still be listed.
//! Two things judge a member that is held: its own key exchange, made again from time to time, and answers that are taken
//! for the whole list (`Census`); if one leaves a member out, others are asked for until that is known or cannot be. A
//! member that is not listed gets no more keys, and is replaced as soon as another place gives keys; until then it serves.

use core::{fmt::Debug, time::Duration};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use super::{
    Answer, KeyExchange, Leave, MAX_MEMBERS, Member, MemberId, Negotiated, Output, PoolMode, Question, QuestionId,
    census::Census,
    family::{Family, Tally},
    pace::{Backoff, Shunned},
};
use crate::time::Monotonic;

/// Answers are used for this long at least and at most, whatever they say themselves.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// Keys are had anew only from a list of at most this age, if there is an answer.
const MAX_LIST_AGE: Duration = LIFETIMES.1;

/// How long a place is left alone that was no good.
const SHUN: Duration = Duration::from_secs(3600);

/// How long a place is left alone that told us to go away.
const SHUN_DENIED: Duration = Duration::from_secs(86_400);

/// Where the places of a pool come from, and what each is asked.
pub trait List {
    /// Where keys can be had.
    type Place: Clone + Debug;
    /// What tells places apart.
    type Key: Clone + Debug + PartialEq;

    /// What the list is made of, for people: said while it is waited for.
    const WHAT: &'static str;

    /// An answer of at most so many places may be the whole list, if it stays the same. Zero if nothing can be said of any
    /// answer.
    const WHOLE: usize;

    /// Asks for the list.
    fn question(&self) -> Question;

    /// Reads the list from an answer: the places in the order to be tried, and when to ask again.
    ///
    /// # Errors
    ///
    /// What is said of an answer that holds no list.
    fn read(&mut self, answer: Answer) -> Result<(Vec<Self::Place>, Monotonic), &'static str>;

    /// What tells `place` from others.
    fn key(place: &Self::Place) -> Self::Key;

    /// Where `place` is, if it is an address and its server may have others that nobody knows to be its own.
    fn address(place: &Self::Place) -> Option<IpAddr>;

    /// Asks `place` for keys.
    fn exchange(&self, place: &Self::Place) -> KeyExchange;

    /// What the answer of `place` means in a pool of this kind.
    fn interpret(&self, place: &Self::Place, server: Negotiated) -> Negotiated;
}

/// Members from key exchanges with each place of a list.
#[derive(Clone, Debug)]
pub struct ListedPool<L: List> {
    list: L,
    target: usize,
    /// In the order to be tried.
    places: Vec<L::Place>,
    /// When `places` should be asked for again; `None` before the first good answer.
    until: Option<Monotonic>,
    /// When `places` were answered.
    listed_at: Option<Monotonic>,
    /// Whether `places` are to be asked for before the next exchange.
    due: bool,
    census: Census<L::Key>,
    /// When `places` are asked for again to find out who is listed, and whether they are asked for that alone now.
    doubt_at: Option<Monotonic>,
    doubts: bool,
    held: Vec<Held<L::Place>>,
    /// No good; and those that sent us away.
    shunned: Shunned<L::Key>,
    denied: Shunned<L::Key>,
    asked: Option<Asked<L::Place>>,
    joins: VecDeque<Member>,
    retry_at: Option<Monotonic>,
    /// What `retry_at` waits for.
    trouble: &'static str,
    failures: Backoff,
    losses: Backoff,
    /// When keys for a member are tried again that could not be had. It may serve long with its old ones, and must not hold
    /// up the look for others.
    rekey_at: Option<Monotonic>,
    rekey_failures: Backoff,
    next_question: u32,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Held<P> {
    id: MemberId,
    /// Where its keys come from.
    place: P,
    label: String,
    addresses: Vec<SocketAddr>,
    keys_lost: bool,
    /// Whether its place is listed still, as far as can be told.
    listed: bool,
}

#[derive(Clone, Debug)]
enum Asked<P> {
    List(QuestionId),
    Keys { id: QuestionId, place: P, rekeys: Option<MemberId> },
}

impl<L: List> ListedPool<L> {
    /// Starts with no members; `seed` decides the jitter of waits.
    #[must_use]
    pub fn new(list: L, seed: u64) -> Self {
        Self {
            list,
            target: 0,
            places: Vec::new(),
            until: None,
            listed_at: None,
            due: true,
            census: Census::default(),
            doubt_at: None,
            doubts: false,
            held: Vec::new(),
            shunned: Shunned::default(),
            denied: Shunned::default(),
            asked: None,
            joins: VecDeque::new(),
            retry_at: None,
            trouble: L::WHAT,
            failures: Backoff::new(seed),
            losses: Backoff::new(!seed),
            rekey_at: None,
            rekey_failures: Backoff::new(seed.rotate_left(32)),
            next_question: 0,
            next_member: 0,
        }
    }

    /// Where the places come from.
    #[must_use]
    pub const fn list(&self) -> &L {
        &self.list
    }

    /// Starts with places that gave keys in an earlier run, which are at hand: they are asked first, and the list only if
    /// they are too few. To be called before the first [`poll_output`](crate::pool::PoolMode::poll_output).
    pub fn resume(&mut self, places: Vec<L::Place>) {
        self.due = places.is_empty();
        self.places = places;
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.held.len()
    }

    /// Whether there are too few members whose places are listed.
    fn short(&self) -> bool {
        self.held.iter().filter(|held| held.listed).count() < self.target
    }

    /// The next place to exchange keys with, and the member that needs them if it has one.
    fn candidate(&self) -> Option<(L::Place, Option<MemberId>)> {
        let free = |place: &&L::Place| {
            let key = L::key(place);
            !self.shunned.contains(&key)
                && !self.denied.contains(&key)
                && !self.held.iter().any(|held| L::key(&held.place) == key)
        };
        if let Some(place) = self.short().then(|| self.fresh(free)).flatten() {
            return Some((place.clone(), None));
        }
        let wanting = self.wanting().filter(|_| self.rekey_at.is_none());
        wanting.map(|held| (held.place.clone(), Some(held.id)))
    }

    /// The next place that is free, of the family of addresses that members should have.
    fn fresh(&self, is_free: impl Fn(&&L::Place) -> bool) -> Option<&L::Place> {
        let mut tally = Tally::default();
        let held = self.held.iter().map(|held| (&held.place, true));
        let free = self.places.iter().filter(&is_free).map(|place| (place, false));
        for (place, is_held) in held.chain(free) {
            if let Some(address) = L::address(place) {
                tally.add(address, is_held);
            }
        }
        let (family, alone) = tally.choose(self.target);
        let is_kin = |place: &&L::Place| L::address(place).is_none_or(|address| Family::of(address) == family);
        let mut free = self.places.iter().filter(&is_free);
        free.clone().find(is_kin).or_else(|| free.next().filter(|_| !alone))
    }

    /// The next member that is to have keys anew.
    fn wanting(&self) -> Option<&Held<L::Place>> {
        self.held.iter().find(|held| held.keys_lost && held.listed)
    }

    fn ask_list(&mut self) -> Output {
        let id = self.question();
        self.asked = Some(Asked::List(id));
        Output::Ask(id, self.list.question())
    }

    fn ask_keys(&mut self, place: L::Place, rekeys: Option<MemberId>) -> Output {
        let id = self.question();
        let exchange = self.list.exchange(&place);
        self.asked = Some(Asked::Keys { id, place, rekeys });
        Output::Ask(id, Question::KeyExchange(exchange))
    }

    fn question(&mut self) -> QuestionId {
        let id = QuestionId(self.next_question);
        self.next_question = self.next_question.wrapping_add(1);
        id
    }

    fn handle_list(&mut self, now: Monotonic, answer: Answer) {
        let doubted = core::mem::take(&mut self.doubts);
        self.trouble = match self.list.read(answer) {
            Ok((places, until)) => {
                let until = until.max(now + LIFETIMES.0).min(now + LIFETIMES.1);
                self.count(now, &places, until, doubted);
                self.places = places;
                self.listed_at = Some(now);
                self.until = Some(until);
                self.due = false;
                "next key exchange"
            }
            Err(why) => {
                // Without that answer nothing is lost.
                self.due &= !doubted || self.short();
                why
            }
        };
        if !self.due {
            self.plan(now);
        } else if self.candidate().is_some() {
            // The last good answer still serves; the next one is asked for later.
            self.until = Some(self.failures.trouble(now));
            self.due = false;
        } else {
            self.retry_at = Some(self.failures.trouble(now));
        }
    }

    /// Takes from an answer who is listed, as far as it can be told.
    fn count(&mut self, now: Monotonic, places: &[L::Place], until: Monotonic, doubted: bool) {
        let named: Vec<L::Key> = places.iter().map(L::key).collect();
        self.census.take(now, &named, until, L::WHOLE);
        let is_whole = self.census.is_whole(now);
        let mut is_one_missing = false;
        for held in &mut self.held {
            let is_named = named.contains(&L::key(&held.place));
            is_one_missing |= !is_named && held.listed;
            held.listed = is_named || (held.listed && !is_whole);
        }
        // One that was asked for out of doubt and is another still is a draw, as far as can be told.
        let is_of_use = is_one_missing && (!doubted || self.census.agrees());
        self.doubt_at = self.census.next(now).filter(|_| is_of_use);
    }

    fn handle_keys(
        &mut self,
        now: Monotonic,
        id: QuestionId,
        place: L::Place,
        rekeys: Option<MemberId>,
        answer: Answer,
    ) {
        let rekeys = rekeys.filter(|id| self.held.iter().any(|held| held.id == *id));
        let Answer::KeyExchange(server) = answer else {
            if let Some(at) = self.held.iter().position(|held| Some(held.id) == rekeys) {
                // Others that want keys come first next time.
                let last = self.held.remove(at);
                self.held.push(last);
                self.rekey_at = Some(self.rekey_failures.trouble(now));
                self.trouble = "next key exchange";
                self.plan(now);
            } else {
                self.shunned.insert(L::key(&place), now + SHUN);
                self.plan(now);
            }
            return;
        };
        let server = self.list.interpret(&place, server);
        // Two places may be one server: it counts once.
        let known = self.held.iter().find(|held| Some(held.id) != rekeys && is_same(held, &server));
        let known = known.map(|held| (held.id, held.listed));
        match (rekeys, known) {
            (Some(_), _) => {
                self.rekey_failures.reset();
                self.join(id, place, server, rekeys);
            }
            (None, Some((_, true))) => self.shunned.insert(L::key(&place), now + SHUN),
            (None, _) if !self.short() => {}
            (None, known) => {
                let unlisted = || self.held.iter().find(|held| !held.listed).map(|held| held.id);
                let replaces = known.map(|(id, _)| id).or_else(unlisted);
                self.join(id, place, server, replaces);
            }
        }
        self.plan(now);
    }

    fn join(&mut self, keys: QuestionId, place: L::Place, server: Negotiated, replaces: Option<MemberId>) {
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.wrapping_add(1);
        let Negotiated { ntp_server: label, addresses, trust } = server;
        let held =
            Held { id, place, label: label.clone(), addresses: addresses.clone(), keys_lost: false, listed: true };
        match self.held.iter_mut().find(|held| Some(held.id) == replaces) {
            Some(old) => *old = held,
            None => self.held.push(held),
        }
        self.joins.push_back(Member { id, label, addresses, keys: Some(keys), trust, replaces });
    }

    /// Sets the time for another look if all places are used up and there are still too few members.
    fn plan(&mut self, now: Monotonic) {
        if !self.short() {
            self.failures.reset();
        } else if self.candidate().is_some() {
            // There is one to ask.
        } else if self.until.is_none() {
            // Those from an earlier run are used up.
            self.due = true;
        } else if !self.due && self.retry_at.is_none() {
            let wait = self.failures.trouble(now);
            let news = self.until.unwrap_or(now).min(now + SHUN);
            self.trouble = "next look for members";
            self.retry_at = Some(if self.held.is_empty() { wait } else { wait.max(news) });
        }
    }

    /// Marks the list if keys are to be had anew and nobody knows whether their place is still listed.
    fn check(&mut self, now: Monotonic) {
        self.due |= self.listed_at.is_none_or(|at| now.since(at) >= MAX_LIST_AGE);
    }

    /// Marks the list if it is out of date.
    fn renew(&mut self, now: Monotonic) {
        if self.short() && self.until.is_none_or(|until| until <= now) {
            self.due = true;
        }
    }
}

fn is_same<P>(held: &Held<P>, server: &Negotiated) -> bool {
    held.label.eq_ignore_ascii_case(&server.ntp_server)
        || held.addresses.iter().any(|address| server.addresses.contains(address))
}

impl<L: List> PoolMode for ListedPool<L> {
    fn set_target(&mut self, members: usize) {
        self.target = members.min(MAX_MEMBERS);
        if self.short() && self.candidate().is_none() {
            self.due = true;
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let ours = |asked: &mut Asked<L::Place>| match asked {
            Asked::List(asked) | Asked::Keys { id: asked, .. } => *asked == id,
        };
        match self.asked.take_if(ours) {
            None => {}
            Some(Asked::List(_)) => {
                self.shunned.expire(now);
                self.handle_list(now, answer);
            }
            Some(Asked::Keys { id, place, rekeys }) => self.handle_keys(now, id, place, rekeys, answer),
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        let Some(at) = self.held.iter().position(|held| held.id == member) else { return };
        if reason == Leave::KeysLost {
            let Some(held) = self.held.get_mut(at).filter(|held| !held.keys_lost) else { return };
            held.keys_lost = true;
            self.check(now);
        } else {
            let key = L::key(&self.held.remove(at).place);
            if reason == Leave::Denied {
                self.denied.insert(key, now + SHUN_DENIED);
            } else {
                self.shunned.insert(key, now + SHUN);
            }
        }
        self.trouble = "next key exchange";
        self.retry_at = self.retry_at.max(Some(self.losses.trouble(now)));
    }

    /// The key exchange at a place says where its server is; the list is asked for only if it is old or members are missing.
    fn handle_refresh(&mut self, now: Monotonic) {
        (self.retry_at, self.rekey_at) = (None, None);
        self.held.iter_mut().for_each(|held| held.keys_lost = true);
        self.denied.expire(now);
        self.check(now);
        if self.short() {
            self.shunned = Shunned::default();
            self.due = true;
        }
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        if self.rekey_at.take_if(|at| *at <= now).is_some() && self.wanting().is_some() {
            self.check(now);
        }
        self.doubts |= self.doubt_at.take_if(|at| *at <= now).is_some();
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.shunned.expire(now);
        self.denied.expire(now);
        if self.held.is_empty() && self.candidate().is_none() {
            // One that was no good is better than none.
            self.shunned = Shunned::default();
        }
        self.renew(now);
        if self.asked.is_none() {
            self.plan(now);
        }
    }

    fn poll_output(&mut self) -> Output {
        if let Some(member) = self.joins.pop_front() {
            return Output::Join(member);
        }
        let candidate = self.candidate();
        if self.doubts && self.asked.is_none() {
            return self.ask_list();
        }
        if !self.short() && candidate.is_none() {
            let rekey_at = self.rekey_at.filter(|_| self.wanting().is_some());
            let (doubt_at, why) = (self.doubt_at, rekey_at.map_or("enough members", |_| "next key exchange"));
            return Output::Timeout([rekey_at, doubt_at].into_iter().flatten().min(), why);
        }
        match (&self.asked, self.retry_at) {
            (Some(Asked::List(_)), _) => return Output::Timeout(None, L::WHAT),
            (Some(Asked::Keys { .. }), _) => return Output::Timeout(None, "key exchange"),
            (None, Some(at)) => return Output::Timeout(Some(at), self.trouble),
            (None, None) => {}
        }
        match candidate {
            Some((place, rekeys)) if !self.due => self.ask_keys(place, rekeys),
            Some(_) | None if self.due => self.ask_list(),
            // All places are used up, and `plan` has set no time since: the target was raised.
            Some(_) | None => Output::Timeout(self.rekey_at, "next look for members"),
        }
    }
}
