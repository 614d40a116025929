//! `auto`: the mode that a name turns out to need.
//!
//! The decisions are those of [`ntp_proto::pool::auto`]; this runs the modes, shows it their answers, and keeps their
//! numbers apart.

use ntp_proto::{
    pool::{
        Answer, Backoff, Leave, Member, MemberId, Name, Output, PoolMode, Question, QuestionId, Service,
        auto::{NtsPolicy, Route, Step, first, next},
        plain::PlainPool,
    },
    time::Monotonic,
};
use pool_lb::LbPool;
use pool_srv::{SrvPool, srv_pool};

/// How many modes share the numbers of questions and members: each has those of one remainder.
const ROUTES: u32 = 3;

/// Most turns of one poll: each but the last begins the way anew, which happens once.
const MAX_TURNS: usize = 2;

/// Shortest and longest wait between two looks for NTS while the members have plain NTP: 2^12 and 2^16 s, 68 minutes and
/// 18 hours.
const LOOK_WAITS_LOG2: (u8, u8) = (12, 16);

/// Whose servers are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name.
    pub name: Name,
    /// Its port for plain NTP.
    pub port: u16,
    /// Its port for key exchange.
    pub ke_port: u16,
}

/// Members by service records, by key exchange with the name itself or by plain NTP, whichever is the first to work.
///
/// What has worked is kept until all members are lost. Then the way begins anew; it never leads from NTS to plain NTP.
///
/// While it is plain NTP that works, there are looks for something better: one connection that failed at the first start
/// must not mean plain NTP for good. A look goes the way from its beginning, beside the members, as far as it leads; if a
/// key exchange succeeds, its route is taken and each new member replaces a plain one. If none does, nothing changes.
#[derive(Clone, Debug)]
pub struct AutoPool {
    policy: NtsPolicy,
    /// The last route that worked, in this run or an earlier one.
    remembered: Option<Route>,
    /// The same, in this run.
    learned: Option<Route>,
    at: Route,
    /// Whether `at` has worked since the way began.
    kept: bool,
    target: usize,
    /// `None` if the name is too long to have service records.
    srv: Option<SrvPool>,
    lb: LbPool,
    classic: PlainPool,
    /// The open questions whose answers decide; every mode asks one of them at a time.
    deciding: Vec<QuestionId>,
    held: Vec<MemberId>,
    /// When the last member was lost, until it is known whether another takes its place.
    lost_at: Option<Monotonic>,
    /// Spaces the looks for NTS.
    looks: Backoff,
    /// When the next one begins.
    next_look: Option<Monotonic>,
    look: Option<Look>,
}

/// A look for NTS under way.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Where it has come to.
    at: Route,
    /// Its question that has no answer yet.
    open: Option<QuestionId>,
}

impl AutoPool {
    /// Starts with no members. `remembered` is the route that worked in an earlier run; `seed` decides random choices and
    /// the jitter of waits.
    #[must_use]
    pub fn new(target: &Target, policy: NtsPolicy, remembered: Option<Route>, seed: u64) -> Self {
        let Target { name, port, ke_port } = target;
        let mut pool = Self {
            policy,
            remembered,
            learned: None,
            at: first(policy),
            kept: false,
            target: 0,
            srv: srv_pool(name, seed).ok(),
            lb: LbPool::new(name.clone(), *ke_port, seed.rotate_left(21)),
            classic: PlainPool::new(name, *port, seed.rotate_left(42)),
            deciding: Vec::new(),
            held: Vec::new(),
            lost_at: None,
            looks: Backoff::between(LOOK_WAITS_LOG2, seed.rotate_left(10)),
            next_look: None,
            look: None,
        };
        pool.at = pool.beginning();
        pool
    }

    /// Takes the name for one server, whatever number of addresses it has.
    #[must_use]
    pub fn with_one_server(mut self) -> Self {
        self.classic = self.classic.with_one_server();
        self
    }

    /// Starts with targets of service records that there are keys for from an earlier run.
    pub fn resume(&mut self, known: Vec<Service>) {
        if let Some(srv) = self.srv.as_mut().filter(|_| self.remembered == Some(Route::Srv)) {
            srv.resume(known);
        }
    }

    /// The last route that worked in this run.
    #[must_use]
    pub const fn learned(&self) -> Option<Route> {
        self.learned
    }

    /// Whether it may yet turn out that the name offers NTS.
    #[must_use]
    pub fn may_have_nts(&self) -> bool {
        self.at.is_nts() && self.learned != Some(Route::Classic)
    }

    /// Whether nothing depends on the answer to this question: members that serve go on without it.
    #[must_use]
    pub fn is_look(&self, question: QuestionId) -> bool {
        self.look.is_some_and(|look| look.open == Some(question))
    }

    fn beginning(&self) -> Route {
        match first(self.policy) {
            Route::Srv if self.srv.is_none() => Route::Lb,
            route @ (Route::Srv | Route::Lb | Route::Classic) => route,
        }
    }

    fn mode(&mut self, route: Route) -> Option<&mut dyn PoolMode> {
        match route {
            Route::Srv => self.srv.as_mut().map(|pool| pool as &mut dyn PoolMode),
            Route::Lb => Some(&mut self.lb),
            Route::Classic => Some(&mut self.classic),
        }
    }

    fn follow(&mut self, now: Monotonic, route: Route, answer: &Answer) {
        if route != self.at {
            return;
        }
        match next(self.policy, self.remembered, route, answer) {
            Step::Keep(route) => {
                self.kept = true;
                self.remembered = Some(route);
                self.learned = Some(route);
            }
            Step::Try(route) if !self.kept => self.turn_to(now, route),
            Step::Try(_) | Step::Wait => {}
        }
    }

    fn turn_to(&mut self, now: Monotonic, route: Route) {
        self.end_look();
        let (at, target) = (self.at, self.target);
        if let Some(mode) = self.mode(at) {
            mode.set_target(0);
        }
        self.at = route;
        self.kept = false;
        self.next_look = (route == Route::Classic).then(|| self.looks.trouble(now));
        if let Some(mode) = self.mode(route) {
            // It may have been asleep past the end of a wait.
            mode.handle_timeout(now);
            mode.set_target(target);
        }
    }

    fn begin_look(&mut self, now: Monotonic) {
        if self.next_look.is_none() {
            return;
        }
        self.next_look = Some(self.looks.trouble(now));
        if self.look.is_none() && self.target > 0 {
            self.look_at(now, self.beginning());
        }
    }

    fn look_at(&mut self, now: Monotonic, route: Route) {
        self.end_look();
        self.look = Some(Look { at: route, open: None });
        let target = self.target;
        if let Some(mode) = self.mode(route) {
            mode.set_target(target);
            // Whatever it waited for is over.
            mode.handle_refresh(now);
        }
    }

    fn end_look(&mut self) {
        if let Some(mode) = self.look.take().and_then(|look| self.mode(look.at)) {
            mode.set_target(0);
        }
    }

    /// What the answer to a question of a look leads to. That there are service records is not enough to leave members
    /// that serve: keys must be had.
    fn follow_look(&mut self, now: Monotonic, id: QuestionId, decides: bool, answer: &Answer) {
        let Some(look) = self.look.as_mut().filter(|look| look.open == Some(id)) else { return };
        look.open = None;
        let route = look.at;
        if matches!(answer, Answer::KeyExchange(_)) {
            self.turn_to(now, route);
            self.kept = true;
            self.remembered = Some(route);
            self.learned = Some(route);
        } else if decides {
            match next(self.policy, self.remembered, route, answer) {
                Step::Keep(_) => {}
                Step::Try(next) if next.is_nts() => self.look_at(now, next),
                Step::Try(_) | Step::Wait => self.end_look(),
            }
        }
    }

    /// The next question of a look; it is over when it has none and waits for no answer.
    fn poll_look(&mut self) -> Option<Output> {
        let Look { at, open } = self.look?;
        if let Some(Output::Ask(id, question)) = self.mode(at).map(|mode| mode.poll_output()) {
            let asked = self.ask(at, id, question);
            if let (Output::Ask(id, _), Some(look)) = (&asked, &mut self.look) {
                look.open = Some(*id);
            }
            return Some(asked);
        }
        if open.is_none() {
            self.end_look();
        }
        None
    }

    fn ask(&mut self, route: Route, id: QuestionId, question: Question) -> Output {
        let id = QuestionId(outer(route, id.0));
        let decides = match (&question, route) {
            (Question::Services { .. }, Route::Srv)
            | (Question::KeyExchange(_), Route::Lb)
            | (Question::Addresses { .. }, Route::Classic) => true,
            // They only say at which addresses plain NTP is to be tried.
            (
                Question::Services { .. } | Question::KeyExchange(_) | Question::Addresses { .. },
                Route::Srv | Route::Lb | Route::Classic,
            ) => false,
        };
        if decides {
            self.deciding.push(id);
        }
        Output::Ask(id, question)
    }

    fn join(&mut self, route: Route, member: Member) -> Output {
        let id = MemberId(outer(route, member.id.0));
        let plain = || self.held.iter().copied().find(|held| route.is_nts() && !inner(held.0).0.is_nts());
        let replaces = member.replaces.map(|old| MemberId(outer(route, old.0))).or_else(plain);
        let keys = member.keys.map(|keys| QuestionId(outer(route, keys.0)));
        self.held.retain(|held| Some(*held) != replaces);
        self.held.push(id);
        self.lost_at = None;
        self.kept = true;
        if route.is_nts() {
            self.learned = Some(route);
        }
        Output::Join(Member { id, replaces, keys, ..member })
    }
}

/// The number that the outside knows for number `inner` of the mode on `route`. It would not be unique after 2^32/3 of
/// them, which no wait between questions lets come.
const fn outer(route: Route, inner: u32) -> u32 {
    inner.wrapping_mul(ROUTES).wrapping_add(match route {
        Route::Srv => 0,
        Route::Lb => 1,
        Route::Classic => 2,
    })
}

const fn inner(outer: u32) -> (Route, u32) {
    let route = match outer % ROUTES {
        0 => Route::Srv,
        1 => Route::Lb,
        _ => Route::Classic,
    };
    (route, outer / ROUTES)
}

impl PoolMode for AutoPool {
    fn set_target(&mut self, members: usize) {
        self.target = members;
        for route in [Some(self.at), self.look.map(|look| look.at)].into_iter().flatten() {
            if let Some(mode) = self.mode(route) {
                mode.set_target(members);
            }
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let (route, number) = inner(id.0);
        let decides = self.deciding.contains(&id);
        self.deciding.retain(|open| *open != id);
        let Some(mode) = self.mode(route) else { return };
        mode.handle_answer(now, QuestionId(number), answer.clone());
        self.follow_look(now, id, decides, &answer);
        if decides {
            self.follow(now, route, &answer);
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        let (route, number) = inner(member.0);
        if let Some(mode) = self.mode(route) {
            mode.handle_leave(now, MemberId(number), reason);
        }
        let before = self.held.len();
        if reason != Leave::KeysLost {
            self.held.retain(|held| *held != member);
        }
        if self.held.is_empty() && before > 0 {
            self.lost_at = Some(now);
        }
    }

    fn handle_refresh(&mut self, now: Monotonic) {
        let at = self.at;
        if let Some(mode) = self.mode(at) {
            mode.handle_refresh(now);
        }
        self.begin_look(now);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        let at = self.at;
        if let Some(mode) = self.mode(at) {
            mode.handle_timeout(now);
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.begin_look(now);
        }
    }

    fn poll_output(&mut self) -> Output {
        if let Some(output) = self.poll_look() {
            return output;
        }
        let mut output = Output::Timeout(None, "");
        for _ in 0..MAX_TURNS {
            let at = self.at;
            output = self.mode(at).map_or(Output::Timeout(None, "another route"), |mode| mode.poll_output());
            match output {
                Output::Ask(id, question) => return self.ask(at, id, question),
                Output::Join(member) => return self.join(at, member),
                Output::Timeout(..) => {}
            }
            // Nobody takes the place of the last member now.
            let Some(now) = self.lost_at.take() else { break };
            let beginning = self.beginning();
            if at == beginning {
                self.kept = false;
                break;
            }
            self.turn_to(now, beginning);
        }
        match (output, self.next_look.filter(|_| self.target > 0)) {
            (Output::Timeout(at, _), Some(look)) if at.is_none_or(|at| look < at) => {
                Output::Timeout(Some(look), "next look for NTS")
            }
            (output, _) => output,
        }
    }
}
