//! Whole clients in simulated time: pool mode, engine, name look-ups and key exchanges, and how often each of them needs
//! what.
//!
//! A client here is what the daemon makes of the same parts: the real mode asks, the real engine polls, and between them
//! members become sources. Name servers, resolvers and key exchanges are models that count. What a population does is a
//! function of its scenario and its seed.

mod counts;
mod daemon;
mod dns;
mod pool;
mod scenario;

pub use counts::{CAUSES, Cause, Counts};
pub use scenario::{Incident, ModeName, Offer, Scenario};

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use ntp_proto::{
    pool::{Answer, Failure, QuestionId},
    source::NtsKeys,
};

use self::{
    daemon::{Daemon, Next, Reason, What},
    dns::{Asking, Host, Resolvers},
    pool::Pool,
};
use super::{ClientSpec, Random, ServerId, Want, World};

/// How long a machine takes to start again.
const DOWN: f64 = 30.0;
/// Mean time for which a laptop is awake, and asleep, in seconds.
const AWAKE: f64 = 3_600.0;
const ASLEEP: f64 = 7_200.0;
/// Time within which all machines of a scenario start for the first time.
const FIRST_STARTS: f64 = 600.0;
/// Time within which they start again when the power comes back.
const POWER_BACK: f64 = 60.0;
/// Seconds in a day.
const DAY: f64 = 86_400.0;

#[derive(Clone, Copy, Debug)]
enum Event {
    Boot(usize),
    /// Restarts of one machine, each of which plans the next.
    Restart(usize),
    Sleep(usize),
    WakeUp(usize),
    Mode(usize),
    Answered {
        client: usize,
        run: u32,
        question: QuestionId,
    },
    Incident(usize),
}

/// Clients of one pool, and all that they talk to.
struct Population<'a> {
    scenario: &'a Scenario,
    random: Random,
    world: World,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    daemons: Vec<Daemon>,
    pool: Pool,
    resolvers: Resolvers,
    counts: Counts,
}

/// Runs a scenario and counts.
///
/// # Panics
///
/// If the scenario is impossible: no clients, or poll intervals out of range.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Counts {
    let mut population = Population::new(scenario, seed);
    population.run_until(Duration::from_secs_f64(scenario.days * DAY));
    population.finish()
}

impl<'a> Population<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut world = World::new(seed).without_traces();
        let pool = Pool::new(scenario, &mut world);
        let mut population = Self {
            scenario,
            random: Random::new(seed ^ 0x5eed),
            world,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            daemons: Vec::new(),
            pool,
            resolvers: Resolvers::new(scenario),
            counts: Counts::new(scenario),
        };
        for client in 0..scenario.clients {
            let number = population.world.add_managed(ClientSpec::new(Vec::new()));
            population.daemons.push(Daemon::new(number));
            let first = population.random.uniform() * FIRST_STARTS;
            population.after(first, Event::Boot(client));
            population.plan_restart(client, first);
            if scenario.laptops {
                let awake = first + population.random.exponential(AWAKE);
                population.after(awake, Event::Sleep(client));
            }
        }
        for (index, (at, _)) in scenario.incidents.iter().enumerate() {
            population.after(*at, Event::Incident(index));
        }
        population
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.at(self.world.now() + Duration::from_secs_f64(seconds), event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            let next = self.queue.peek().map_or(end, |Reverse((at, _))| *at).min(end);
            // What a client wants may bring about something earlier: one step of the world at a time.
            if self.world.advance(next) {
                self.attend();
                continue;
            }
            if self.queue.peek().is_none_or(|Reverse((at, _))| *at > end) {
                return;
            }
            let Some(Reverse((_, sequence))) = self.queue.pop() else { return };
            if let Some(event) = self.events.remove(&sequence) {
                self.handle(event);
                self.attend();
            }
        }
    }

    /// Gives the clients what their engines want.
    fn attend(&mut self) {
        while let Some((client, want)) = self.world.take_want() {
            self.handle_want(client, want);
        }
    }

    fn handle_want(&mut self, client: usize, want: Want) {
        let daemon = &mut self.daemons[client];
        let (source, reason, cause) = match want {
            Want::Keys(source, reason) => (source, Reason::Keys, Cause::of_keys(reason)),
            Want::Another(source, loss) => {
                let alive = daemon.server_of(source).is_some_and(|server| self.pool.is_alive(server));
                (source, Reason::of(loss), Cause::of_loss(loss, alive))
            }
        };
        let now = self.world.monotonic_of(client);
        daemon.handle_want(now, source, reason, cause);
        self.drain(client);
    }

    fn plan_restart(&mut self, client: usize, first: f64) {
        if self.scenario.restarts > 0.0 {
            let wait = first + self.random.exponential(DAY / self.scenario.restarts).max(DOWN);
            self.after(wait, Event::Restart(client));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Boot(client) if self.daemons[client].is_on() => {}
            Event::Boot(client) => {
                let seed = self.random.bits();
                self.daemons[client].boot(self.scenario, &mut self.world, seed);
                self.counts.restarts += u64::from(self.daemons[client].has_run_before());
                self.drain(client);
            }
            Event::Restart(client) => {
                self.switch_off(client, self.scenario.saved);
                self.after(DOWN, Event::Boot(client));
                self.plan_restart(client, 2.0 * DOWN);
            }
            Event::Sleep(client) => {
                if self.daemons[client].is_on() {
                    self.daemons[client].asleep = true;
                    self.world.suspend(client);
                }
                let asleep = self.random.exponential(ASLEEP);
                self.after(asleep, Event::WakeUp(client));
            }
            Event::WakeUp(client) => {
                if self.daemons[client].asleep {
                    self.world.resume(client);
                    self.daemons[client].wake_up(self.world.monotonic_of(client));
                    self.drain(client);
                }
                let awake = self.random.exponential(AWAKE);
                self.after(awake, Event::Sleep(client));
            }
            Event::Mode(client) => {
                let now = self.world.monotonic_of(client);
                if self.daemons[client].handle_timeout(now) {
                    self.drain(client);
                }
            }
            Event::Answered { client, run, question } => {
                let now = self.world.monotonic_of(client);
                if self.daemons[client].handle_answered(now, run, question) {
                    self.drain(client);
                }
            }
            Event::Incident(index) => self.happen(index),
        }
    }

    fn switch_off(&mut self, client: usize, saved: bool) {
        self.daemons[client].shut_down(&self.world, saved);
        self.world.suspend(client);
    }

    fn happen(&mut self, index: usize) {
        let Some((_, incident)) = self.scenario.incidents.get(index).copied() else { return };
        match incident {
            Incident::PowerCut => {
                for client in 0..self.daemons.len() {
                    self.switch_off(client, false);
                    let back = DOWN + self.random.uniform() * POWER_BACK;
                    self.after(back, Event::Boot(client));
                }
            }
            Incident::NamesFail(fail) => self.resolvers.set_failing(fail),
            Incident::Dies(_) | Incident::Leaves(_) | Incident::ForgetsKeys(_) | Incident::ExchangesFail(_) => {
                self.pool.handle(&mut self.world, incident);
            }
        }
    }

    /// Obeys a client's mode until it waits.
    fn drain(&mut self, client: usize) {
        while let Some(next) = self.daemons[client].poll(&mut self.world) {
            match next {
                Next::Ask(question, what) => {
                    let (time, answer, keys) = self.answer(client, &what);
                    let run = self.daemons[client].expect(question, answer, keys);
                    self.after(time, Event::Answered { client, run, question });
                }
                Next::Wait(at) => {
                    let at = self.world.world_time(client, at);
                    self.at(at.max(self.world.now()), Event::Mode(client));
                }
            }
        }
    }

    fn asking(&mut self, client: usize) -> Asking<'_> {
        Asking {
            resolver: client / self.scenario.clients_per_resolver,
            now: self.world.now(),
            present: self.world.monotonic_of(client),
            resolvers: &mut self.resolvers,
            pool: &self.pool,
            random: &mut self.random,
            counts: &mut self.counts,
        }
    }

    /// What a question is answered with, and after how many seconds.
    fn answer(&mut self, client: usize, what: &What) -> (f64, Answer, Option<NtsKeys>) {
        match what {
            What::Addresses => {
                let (time, answer) = self.asking(client).pool_addresses();
                (time, answer, None)
            }
            // The one query that it takes is not counted.
            What::PlainServices => (0.0, Answer::NoRecord, None),
            What::Services => {
                let (time, answer) = self.asking(client).services();
                (time, answer, None)
            }
            What::Keys { server, denied, cause } => {
                let (mut time, mut done) = (0.0, None);
                let failure = self.exchange(client, *server, denied, *cause, &mut time, &mut done);
                match (failure, done) {
                    (Ok(given), Some(keys)) => (time, Answer::KeyExchange(pool::negotiated(given)), Some(keys)),
                    (Ok(_), None) => (time, Answer::Failed(Failure::Connect), None),
                    (Err(failure), _) => (time, Answer::Failed(failure), None),
                }
            }
        }
    }

    /// One key exchange with a member, or with the balancer if `server` is `None`; adds up the time it takes.
    fn exchange(
        &mut self,
        client: usize,
        server: Option<usize>,
        denied: &[String],
        cause: Cause,
        time: &mut f64,
        keys: &mut Option<NtsKeys>,
    ) -> Result<usize, Failure> {
        let host = server.map_or(Host::Balancer, Host::Member);
        self.asking(client).host(host, time)?;
        self.counts.add_exchange(self.world.now(), cause);
        let given = self.pool.exchange(&mut self.random, server, denied, time)?;
        // The balancer names the server; a server's own key exchange names none.
        if server.is_none() {
            self.asking(client).host(Host::Member(given), time)?;
        }
        *keys = self.world.exchange_keys(ServerId(given));
        self.counts.done += u64::from(keys.is_some());
        Ok(given)
    }

    fn finish(mut self) -> Counts {
        for client in 0..self.daemons.len() {
            self.counts.add_client(self.world.traffic(client), self.world.cookies_sent(client));
            self.counts.spared += self.daemons[client].spared;
            self.counts.lost_members += self.daemons[client].lost;
            self.counts.replaced += self.daemons[client].replaced;
            let held = self.daemons[client].addresses().filter_map(pool::member_at);
            let unlisted = held.filter(|member| !self.pool.is_listed(self.world.now(), *member)).count();
            self.counts.unlisted += unlisted as u64;
            self.counts.short += u64::from(self.daemons[client].members() < self.scenario.wanted);
        }
        self.counts
    }
}
