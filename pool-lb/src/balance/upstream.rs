//! Connections to members, kept and reused.
//!
//! Each worker has its own, and no user waits for another user's member. Threads share only the places for connections
//! that are being made.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ntp_proto::time::Monotonic;
use nts_ke::{
    error::{ErrorCode, KeError},
    message::Accepted,
    pool::{FixedKeys, PoolRequest, Support},
    upstream::{ALL_LISTS, Answer, COMMON_LISTS},
};
use pool_srv::directory::Member;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::debug;

mod tending;

use super::{
    Shared,
    assign::check_server,
    connection::Connection,
    health::{MOST, Sample},
    metrics::Counter,
    names::{MAX_ADDRESSES, resolve},
    now,
    pace::{Breaker, Capacity, Timings},
    trouble::Trouble,
};

/// Most users of one worker that wait for one member at a time.
const MAX_WAITING: usize = 64;

/// Most connections that one worker keeps to one member without use.
const MAX_IDLE: usize = 8;

/// How long one is kept: less than members keep it.
const MAX_IDLE_TIME: Duration = Duration::from_secs(200);

/// After this time without use, a kept connection has to prove that the member is still there before keys are sent.
const PING_AFTER: Duration = Duration::from_secs(2);

/// How long what a member can do is believed, and its addresses are.
const BELIEVED: Duration = Duration::from_secs(300);

/// How long a member that has a user's keys is waited for at least: nobody else may serve that user any more, so there is no
/// gain in giving it up as soon as others.
const LEAST_AFTER_KEYS: Duration = Duration::from_secs(1);

/// How often the judge hears that a member serves while nothing fails: each word wakes another thread.
const TELLING: Duration = Duration::from_secs(1);

/// All that one worker knows of one member.
pub(super) struct Link {
    pub(super) member: Member,
    #[expect(clippy::vec_box, reason = "a connection is large, and moves often")]
    idle: RefCell<Vec<Box<Connection>>>,
    support: RefCell<Option<(Rc<Support>, Monotonic)>>,
    resolved: RefCell<Option<(Vec<SocketAddr>, Monotonic)>>,
    resolving: Cell<bool>,
    /// The address that served last.
    good: Cell<Option<SocketAddr>>,
    breaker: Cell<Breaker>,
    capacity: Cell<Option<Capacity>>,
    connects: RefCell<Timings>,
    answers: RefCell<Timings>,
    /// Since when users wait for it.
    waiting: RefCell<BTreeMap<u64, Monotonic>>,
    next: Cell<u64>,
    /// Places for connections that are being made; all threads share them.
    dials: Arc<Semaphore>,
    last_used: Cell<Option<Monotonic>>,
    /// When the judge last heard that it serves, and how many successes it is to hear of at once.
    told: Cell<Option<Monotonic>>,
    owed: Cell<u8>,
    warming: Cell<bool>,
    /// Whether it does not know the request for server names.
    common_only: Cell<bool>,
}

/// Which members are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zeal {
    /// Those that are well.
    Usual,
    /// Those too that let others wait.
    Patient,
    /// Those too that failed too often.
    LastResort,
}

/// What becomes of who wants a new connection while others connect to the member.
enum Turn {
    /// It is its turn.
    Now(OwnedSemaphorePermit),
    /// It waits.
    Waits,
    /// It goes elsewhere.
    Skips,
}

/// A user that waits for a member. Dropping it ends the wait.
struct Wait {
    link: Rc<Link>,
    number: u64,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().remove(&self.number);
    }
}

/// A member that is ready to take keys.
pub(super) struct Ready {
    connection: Box<Connection>,
    pub(super) support: Rc<Support>,
    wait: Wait,
}

impl Link {
    /// `workers` share the capacity of the member, and the places for connections that are being made.
    pub(super) fn new(member: Member, workers: usize, dials: Arc<Semaphore>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a few threads")]
        let share = |capacity: u32| Capacity::new(f64::from(capacity) / workers.max(1) as f64);
        let capacity = Cell::new(member.capacity.map(share));
        Self {
            member,
            idle: RefCell::default(),
            support: RefCell::default(),
            resolved: RefCell::default(),
            resolving: Cell::default(),
            good: Cell::default(),
            breaker: Cell::default(),
            capacity,
            connects: RefCell::default(),
            answers: RefCell::default(),
            waiting: RefCell::default(),
            next: Cell::default(),
            dials,
            last_used: Cell::default(),
            told: Cell::default(),
            owed: Cell::default(),
            warming: Cell::default(),
            common_only: Cell::default(),
        }
    }

    /// Whether it is of use for a member with this entry. Weights, regions and lines, which change with every other member,
    /// are nothing to it.
    pub(super) fn leads_to(&self, member: &Member) -> bool {
        let reached = |member: &Member| (member.port, member.capacity);
        let Member { name, addresses, token, tlsa, .. } = &self.member;
        reached(&self.member) == reached(member)
            && (name, addresses, token, tlsa) == (&member.name, &member.addresses, &member.token, &member.tlsa)
    }

    /// The address that served last.
    pub(super) fn good_address(&self) -> Option<IpAddr> {
        self.good.get().map(|address| address.ip())
    }

    fn token(&self) -> Result<&str, Trouble> {
        let token = self.member.token.as_ref().map(pool_srv::directory::Token::reveal);
        token.ok_or(Trouble::Skipped("it has no token"))
    }

    /// Gets a connection on which keys can be sent. Nothing of the user is told to the member.
    pub(super) async fn prepare(
        self: &Rc<Self>,
        shared: &Rc<Shared>,
        by: Monotonic,
        zeal: Zeal,
    ) -> Result<Ready, Trouble> {
        let wait = self.enter(zeal)?;
        let turn = if zeal == Zeal::Usual { Turn::Skips } else { Turn::Waits };
        match self.connect(shared, by, &wait, turn).await {
            Ok((connection, support)) => {
                self.last_used.set(Some(now::monotonic()));
                Ok(Ready { connection, support, wait })
            }
            Err(trouble) => {
                self.failed(shared, &trouble);
                Err(trouble)
            }
        }
    }

    fn enter(self: &Rc<Self>, zeal: Zeal) -> Result<Wait, Trouble> {
        self.token()?;
        let now = now::monotonic();
        let (count, oldest) = {
            let waiting = self.waiting.borrow();
            (waiting.len(), waiting.values().next().copied())
        };
        if count >= MAX_WAITING {
            return Err(Trouble::Skipped("too many wait for it"));
        }
        if zeal == Zeal::Usual && oldest.is_some_and(|since| now.since(since) > self.answers.borrow().patience()) {
            return Err(Trouble::Skipped("it lets others wait"));
        }
        let mut breaker = self.breaker.get();
        let admitted = breaker.admits(now);
        self.breaker.set(breaker);
        if !admitted && zeal != Zeal::LastResort {
            return Err(Trouble::Broken);
        }
        if let Some(mut capacity) = self.capacity.get() {
            let taken = capacity.take(now);
            self.capacity.set(Some(capacity));
            if !taken {
                return Err(Trouble::Skipped("its capacity is used up"));
            }
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.waiting.borrow_mut().insert(number, now);
        Ok(Wait { link: Rc::clone(self), number })
    }

    /// The time by which an answer must be here.
    fn answer_by(&self, by: Monotonic) -> Monotonic {
        (now::monotonic() + self.answers.borrow().wait()).min(by)
    }

    async fn connect(
        self: &Rc<Self>,
        shared: &Rc<Shared>,
        by: Monotonic,
        wait: &Wait,
        turn: Turn,
    ) -> Result<(Box<Connection>, Rc<Support>), Trouble> {
        if let Some(kept) = self.kept(shared, by, wait).await {
            return Ok(kept);
        }
        // Until the member has taken the token, the connection counts as any host's there.
        let _place = match turn {
            Turn::Now(place) => place,
            Turn::Skips => self.place(by, false).await?,
            Turn::Waits => {
                let place = self.place(by, true).await?;
                // Others may have given theirs back meanwhile.
                if let Some(kept) = self.kept(shared, by, wait).await {
                    return Ok(kept);
                }
                place
            }
        };
        self.waiting.borrow_mut().insert(wait.number, now::monotonic());
        let mut connection = self.dial(shared, by).await?;
        // However much is known: on this connection the token has not been tried, and keys must not be what tries it.
        let mut answer = self.ask_support(&mut connection, shared, by).await;
        if let Err((error, refused)) = &answer {
            if !refused || self.common_only.get() {
                return Err(Trouble::Member(error.clone()));
            }
            // There are members that know no request for server names, and answer it with an error.
            self.common_only.set(true);
            connection = self.dial(shared, by).await?;
            answer = self.ask_support(&mut connection, shared, by).await;
        }
        if answer.is_err() {
            self.common_only.set(false);
        }
        let support = answer.map_err(|(error, _)| Trouble::Member(error))?;
        if connection.is_alive() {
            return Ok((connection, support));
        }
        // It does not keep connections.
        Ok((self.dial(shared, by).await?, support))
    }

    /// A connection that was kept, if one is alive.
    async fn kept(&self, shared: &Rc<Shared>, by: Monotonic, wait: &Wait) -> Option<(Box<Connection>, Rc<Support>)> {
        // Ends: each round takes one away, or returns.
        while let Some(mut connection) = self.take_idle() {
            let known = self.known_support();
            if connection.idle_for() < PING_AFTER
                && let Some(support) = known
            {
                return Some((connection, support));
            }
            if let Ok(support) = self.ask_support(&mut connection, shared, by).await
                && connection.is_alive()
            {
                return Some((connection, support));
            }
            self.waiting.borrow_mut().insert(wait.number, now::monotonic());
        }
        None
    }

    /// A place for a connection that is being made.
    async fn place(&self, by: Monotonic, patient: bool) -> Result<OwnedSemaphorePermit, Trouble> {
        const TAKEN: Trouble = Trouble::Skipped("others connect to it");
        let dials = Arc::clone(&self.dials);
        if !patient {
            return dials.try_acquire_owned().map_err(|_| TAKEN);
        }
        timeout(now::until(by), dials.acquire_owned()).await.ok().and_then(Result::ok).ok_or(TAKEN)
    }

    fn known_support(&self) -> Option<Rc<Support>> {
        let known = self.support.borrow();
        known.as_ref().filter(|(_, until)| *until > now::monotonic()).map(|(support, _)| Rc::clone(support))
    }

    /// Asks what the member can do. The error says whether it refused by a proper answer.
    async fn ask_support(
        &self,
        connection: &mut Connection,
        shared: &Shared,
        by: Monotonic,
    ) -> Result<Rc<Support>, (String, bool)> {
        let lists = if self.common_only.get() { COMMON_LISTS } else { ALL_LISTS };
        let token = self.token().map_err(|trouble| (trouble.to_string(), false))?;
        let started = now::monotonic();
        let answer = connection.exchange(PoolRequest::Support(lists), token, self.answer_by(by)).await;
        let support = match answer {
            Ok(Answer::Support(support)) => Rc::new(support),
            Ok(Answer::Cookies(_)) => return Err(("an answer to something else".to_owned(), false)),
            Err(error) => {
                let refused = matches!(
                    error,
                    KeError::Refused(ErrorCode::UnrecognizedCritical | ErrorCode::BadRequest) | KeError::Eof(_)
                );
                return Err((error.to_string(), refused));
            }
        };
        self.answers.borrow_mut().push(now::monotonic().since(started));
        for server in &support.servers {
            if let Err(unfit) = check_server(server, shared.config.allow_private) {
                return Err((format!("{server:?} among its names: {unfit}"), false));
            }
            shared.learn_alias(&self.member.name, server);
        }
        *self.support.borrow_mut() = Some((Rc::clone(&support), now::monotonic() + BELIEVED));
        Ok(support)
    }

    fn take_idle(&self) -> Option<Box<Connection>> {
        // The one used last is most likely alive. Ends: each round takes one away.
        loop {
            let connection = self.idle.borrow_mut().pop()?;
            if connection.is_alive() && connection.idle_for() < MAX_IDLE_TIME {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next user, who looks at it again.
    fn put_idle(&self, connection: Box<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if connection.is_ready() && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    async fn dial(&self, shared: &Shared, by: Monotonic) -> Result<Box<Connection>, Trouble> {
        let started = now::monotonic();
        let by = (started + self.connects.borrow().wait()).min(by);
        let addresses = self.addresses(shared, by).await?;
        let mut trouble = None;
        let count = u32::try_from(addresses.len()).unwrap_or(1).max(1);
        for (address, left) in addresses.into_iter().zip((1..=count).rev()) {
            // The time left is shared with the addresses that are still to be tried.
            let by = now::monotonic() + now::until(by) / left;
            match Connection::open(shared, &self.member, address, by).await {
                Ok(connection) => {
                    self.good.set(Some(address));
                    self.connects.borrow_mut().push(now::monotonic().since(started));
                    shared.metrics.count(Counter::UpstreamConnections);
                    return Ok(Box::new(connection));
                }
                Err(failed) => trouble = Some(Trouble::or(trouble, failed)),
            }
        }
        Err(trouble.unwrap_or_else(|| Trouble::Member("it has no address".to_owned())))
    }

    async fn addresses(&self, shared: &Shared, by: Monotonic) -> Result<Vec<SocketAddr>, Trouble> {
        let mut addresses = self.known_addresses();
        if addresses.is_empty() {
            let looked_up = timeout(now::until(by), self.resolve(shared)).await;
            addresses = looked_up.map_err(|_| Trouble::Member("its name is not resolved in time".to_owned()))??;
            *self.resolved.borrow_mut() = Some((addresses.clone(), now::monotonic() + BELIEVED));
        }
        if let Some(good) = self.good.get()
            && let Some(place) = addresses.iter().position(|address| *address == good)
        {
            addresses.swap(0, place);
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    async fn resolve(&self, shared: &Shared) -> Result<Vec<SocketAddr>, Trouble> {
        resolve(self.member.name.as_str(), self.member.port, shared.config.allow_private).await
    }

    fn known_addresses(&self) -> Vec<SocketAddr> {
        if self.member.addresses.is_empty() {
            return self.resolved.borrow().as_ref().map(|(addresses, _)| addresses.clone()).unwrap_or_default();
        }
        self.member.addresses.iter().map(|address| SocketAddr::new(*address, self.member.port)).collect()
    }

    /// Takes word that it failed.
    pub(super) fn failed(&self, shared: &Shared, trouble: &Trouble) {
        match trouble {
            Trouble::Skipped(_) | Trouble::Broken => return,
            Trouble::Member(why) => {
                self.owed.set(MOST + 1);
                // It may have changed.
                self.support.take();
                shared.tell(&self.member.name, Sample::Failed(why.clone()));
            }
            Trouble::Ours(_) => {
                shared.metrics.count(Counter::OwnFaults);
                debug!("member {}: {trouble}", self.member.name.as_str());
                return;
            }
        }
        debug!("member {}: {trouble}", self.member.name.as_str());
        let mut breaker = self.breaker.get();
        breaker.fail(now::monotonic());
        self.breaker.set(breaker);
    }

    /// Takes word that it served.
    pub(super) fn served(&self, shared: &Shared) {
        let mut breaker = self.breaker.get();
        breaker.succeed();
        self.breaker.set(breaker);
        let now = now::monotonic();
        let owed = self.owed.get();
        // So many outweigh whatever is held against it; more say nothing new.
        if owed > 0 || self.told.get().is_none_or(|at| now.since(at) >= TELLING) {
            self.owed.set(owed.saturating_sub(1));
            self.told.set(Some(now));
            shared.tell(&self.member.name, Sample::Served);
        }
    }
}

impl Ready {
    /// The member.
    pub(super) fn link(&self) -> &Rc<Link> {
        &self.wait.link
    }

    /// Hands over the keys of a user. From here on no other member may have them, whatever happens.
    pub(super) async fn hand_over(mut self, keys: FixedKeys, by: Monotonic) -> Result<Accepted, Trouble> {
        let link = Rc::clone(self.link());
        let started = now::monotonic();
        let wait = link.answers.borrow().wait().max(LEAST_AFTER_KEYS);
        let by = (started + wait).min(by);
        let answer = self.connection.exchange(keys.into(), link.token()?, by).await?;
        link.answers.borrow_mut().push(now::monotonic().since(started));
        match answer {
            Answer::Cookies(accepted) => {
                link.put_idle(self.connection);
                Ok(accepted)
            }
            Answer::Support(_) => Err(Trouble::Member("an answer to something else".to_owned())),
        }
    }

    /// Gives the connection back unused.
    pub(super) fn put_back(self) {
        let link = Rc::clone(self.link());
        link.put_idle(self.connection);
    }
}
