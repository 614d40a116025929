//! One user: its request, a member for it, and the answer.

use std::{future::poll_fn, io, net::IpAddr, pin::Pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use ntp_proto::time::Monotonic;
use nts_ke::{
    error::{ErrorCode, KeError},
    message::{NTPV4, Request, Response},
    server::{Stage, UserOutput, UserSession},
};
use pool_srv::directory::Wish;
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::mpsc, task::spawn_local, time::timeout};
use tracing::debug;

use super::{
    Shared,
    assign::{self, Assignments, Choice, Terms},
    config::HandOut,
    metrics::Counter,
    now,
    serve::Worker,
    trouble::Trouble,
    upstream::{Link, Ready, Zeal},
};
use crate::acceptor::{Failure, PIECE, part, transmit};

/// How long a ready member is looked for, and how long the user waits in all.
const SEARCH: Duration = Duration::from_millis(2500);
const ANSWER: Duration = Duration::from_millis(4000);

/// After which time another member is asked beside one that is slow, and how many at a time.
const HEDGE: Duration = Duration::from_millis(300);
const MAX_BESIDE: usize = 3;

/// Members that may fail a user before it is told so: the time bounds them too, and most failures are quick.
const MAX_FAILURES: usize = 6;

/// Members that are looked at for one user.
const MAX_LOOKS: usize = 48;

/// After so many that failed too often, and no other, the rest of a large pool will hardly be better.
const MANY_BROKEN: usize = 32;

/// Serves one user; `stage` is told how far it comes.
pub(super) async fn attend(
    worker: &Rc<Worker>,
    stream: &mut TcpStream,
    first: &[u8],
    user: IpAddr,
    progress: &dyn Fn(Stage),
) {
    let close_by = now::monotonic() + worker.deadlines().total;
    let outcome = converse(worker, stream, first, user, progress).await;
    if let Err(failure) = &outcome {
        debug!("user {user}: {failure}");
        worker.shared.metrics.count(match failure {
            Failure::Exchange(KeError::Protocol(_)) => Counter::BadRequests,
            Failure::Exchange(_) | Failure::Io(_) | Failure::Stuck => Counter::Unfinished,
        });
    }
    if outcome.as_ref().err().is_none_or(Failure::was_told) {
        part(stream, now::until(close_by)).await;
    }
}

async fn converse(
    worker: &Rc<Worker>,
    stream: &mut TcpStream,
    first: &[u8],
    user: IpAddr,
    progress: &dyn Fn(Stage),
) -> Result<(), Failure> {
    // Workers run only where there is one.
    let Some(config) = worker.shared.server.load_full() else { return Err(Failure::Io(io::ErrorKind::Other.into())) };
    let session = UserSession::new(config, now::monotonic());
    let mut session = session.map_err(|fault| Failure::Exchange(KeError::Tls(fault)))?;
    let mut stage = session.stage();
    let mut piece = [0; PIECE];
    if !first.is_empty() {
        session.handle_input(now::monotonic(), first);
    }
    // Ends: the session has deadlines, and takes a bounded amount of data.
    loop {
        let deadline = match session.poll_output() {
            UserOutput::Transmit(bytes) => {
                transmit(stream, &bytes, now::until(session.final_deadline())).await?;
                continue;
            }
            UserOutput::Asked(request) => {
                progress(session.stage());
                answer(worker, &mut session, &request, user).await;
                continue;
            }
            UserOutput::Done => return Ok(()),
            UserOutput::Failed(error) => return Err(Failure::Exchange(error)),
            UserOutput::Timeout(deadline, _) => deadline.unwrap_or_else(|| session.final_deadline()),
        };
        if session.stage() != stage {
            stage = session.stage();
            progress(stage);
        }
        match timeout(now::until(deadline), stream.read(&mut piece)).await {
            Err(_) => session.handle_timeout(now::monotonic()),
            Ok(Ok(0)) => session.handle_eof(now::monotonic()),
            Ok(Ok(length)) => session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default()),
            Ok(Err(error)) => return Err(Failure::Io(error)),
        }
    }
}

/// Finds an answer for a user and gives it.
async fn answer(worker: &Rc<Worker>, session: &mut UserSession, request: &Request, user: IpAddr) {
    let started = now::monotonic();
    let metrics = &worker.shared.metrics;
    let failed = Response::Error(ErrorCode::Internal);
    let (ready, terms) = match find(worker, request, user, started + SEARCH).await {
        Ok(found) => found,
        Err(nothing) => {
            let counter = if nothing == failed { Counter::NoMember } else { Counter::NoOverlap };
            metrics.count(counter);
            session.answer(now::monotonic(), &nothing);
            return;
        }
    };
    let link = Rc::clone(ready.link());
    let Ok(keys) = session.export(NTPV4, terms.algorithm, terms.key_length) else {
        ready.put_back();
        metrics.count(Counter::OwnFaults);
        session.answer(now::monotonic(), &failed);
        return;
    };
    let config = &worker.shared.config;
    let address = match config.hand_out {
        HandOut::Name => None,
        HandOut::Address => assign::address_for(user, &link.member, link.good_address(), config.allow_private),
    };
    let member = &link.member.name;
    let called = address.as_deref().unwrap_or_else(|| member.as_str());
    let trouble = match ready.hand_over(keys, started + ANSWER).await {
        Ok(accepted) => match assign::grant(&terms, member, called, &accepted, config.allow_private) {
            Ok(grant) => {
                if let Some(server) = grant.server {
                    worker.shared.learn_alias(member, server);
                }
                session.answer(now::monotonic(), &Response::Established(grant));
                link.served(&worker.shared);
                metrics.observe(now::monotonic().since(started));
                return metrics.count(Counter::Served);
            }
            Err(unfit) => {
                metrics.count(Counter::Unfit);
                Trouble::Member(unfit.to_string())
            }
        },
        Err(trouble) => trouble,
    };
    // The member may know the keys of this user: no other one may have them.
    link.failed(&worker.shared, &trouble);
    metrics.count(Counter::Lost);
    session.answer(now::monotonic(), &failed);
}

/// Whom a user may get.
struct Search<'a> {
    worker: &'a Worker,
    assignments: Arc<Assignments>,
    user: IpAddr,
    denied: Vec<usize>,
    has_some: bool,
    tried: Vec<usize>,
    /// Those of them that were not even asked.
    skipped: Vec<usize>,
    respects_wish: bool,
    zeal: Zeal,
    /// Members that were not asked since they failed too often.
    broken: usize,
    /// Members that failed.
    failures: usize,
    /// What some member has not in common with the user.
    no_overlap: Option<Response<'static>>,
}

impl<'a> Search<'a> {
    fn new(worker: &'a Worker, request: &Request, user: IpAddr) -> Self {
        let assignments = worker.shared.assignments.load_full();
        let denied = assignments.excluded(&request.denied, &worker.shared.aliases.load());
        let has_some = !request.denied.is_empty();
        let (tried, skipped) = (Vec::new(), Vec::new());
        Self {
            worker,
            assignments,
            user,
            denied,
            has_some,
            tried,
            skipped,
            respects_wish: true,
            zeal: Zeal::Usual,
            broken: 0,
            failures: 0,
            no_overlap: None,
        }
    }

    /// The next member. First come those who are well, then the slow ones, then, as the draft has it, those not wanted:
    /// better than nobody. If all are left alone because of failures, now and then one is tried all the same.
    fn next(&mut self) -> Option<(usize, Rc<Link>)> {
        // Ends: each round tries one more, or gives up one wish.
        for _ in 0..MAX_LOOKS {
            if self.broken == MANY_BROKEN && self.all_broken() && self.worker.has_last_resort() {
                self.zeal = Zeal::LastResort;
            }
            let mut excluded = self.tried.clone();
            if self.respects_wish {
                excluded.extend(&self.denied);
            }
            let wish = Wish { client: Some(self.user), has_some: self.has_some, excluded: &excluded };
            if let Some(place) = self.worker.draw(&self.assignments, &wish) {
                self.tried.push(place);
                if let Some(link) = self.worker.link(&self.assignments, place) {
                    return Some((place, link));
                }
            } else if self.zeal == Zeal::Usual && !self.skipped.is_empty() {
                self.zeal = Zeal::Patient;
                self.tried.retain(|place| !self.skipped.contains(place));
            } else if self.respects_wish && !self.denied.is_empty() {
                self.respects_wish = false;
            } else if self.all_broken() && (self.zeal == Zeal::LastResort || self.worker.has_last_resort()) {
                self.zeal = Zeal::LastResort;
                self.broken = 0;
                self.tried.clear();
            } else {
                return None;
            }
        }
        None
    }

    fn all_broken(&self) -> bool {
        self.broken > 0 && self.broken == self.tried.len()
    }

    /// Takes what came of a member; returns it if it is the one.
    fn weigh(&mut self, place: usize, result: Prepared, request: &Request) -> Option<(Ready, Terms)> {
        let ready = match result {
            Ok(ready) => ready,
            Err(trouble) => {
                match trouble {
                    Trouble::Skipped(_) => self.skipped.push(place),
                    Trouble::Broken => self.broken += 1,
                    Trouble::Member(_) | Trouble::Ours(_) => {
                        self.failures += 1;
                        self.worker.shared.metrics.count(Counter::Failovers);
                    }
                }
                return None;
            }
        };
        if self.respects_wish && assign::is_denied(&ready.support.servers, &request.denied) {
            // It has only now said what it calls itself.
            self.denied.push(place);
            self.tried.retain(|tried| *tried != place);
        } else {
            match assign::choose(request, &ready.support) {
                Choice::Use(terms) => return Some((ready, terms)),
                Choice::NoProtocol => self.no_overlap = self.no_overlap.take().or(Some(Response::NoProtocol)),
                Choice::NoAlgorithm => self.no_overlap = Some(Response::NoAlgorithm),
            }
        }
        ready.put_back();
        None
    }

    /// How the next member is to be asked. The last resort is for one.
    fn take_zeal(&mut self) -> Zeal {
        let zeal = self.zeal;
        if zeal == Zeal::LastResort {
            self.zeal = Zeal::Patient;
        }
        zeal
    }
}

/// Finds a member that is ready to take the user's keys. Until then any number may fail without harm. If one is slow
/// another one is asked beside it, and the first that is ready serves; the others' connections are kept for later.
async fn find(
    worker: &Rc<Worker>,
    request: &Request,
    user: IpAddr,
    by: Monotonic,
) -> Result<(Ready, Terms), Response<'static>> {
    if !request.protocols.contains(&NTPV4) {
        return Err(Response::NoProtocol);
    }
    if request.algorithms.is_empty() {
        return Err(Response::NoAlgorithm);
    }
    let mut search = Search::new(worker, request, user);
    // Made when somebody has to be waited for, which is seldom.
    let mut channel = None;
    let mut asked = 0_usize;
    let mut next_at = now::monotonic();
    for _ in 0..MAX_LOOKS {
        let now = now::monotonic();
        if search.failures >= MAX_FAILURES || by <= now {
            break;
        }
        let mut come = None;
        if (asked == 0 || next_at <= now) && asked < MAX_BESIDE {
            if let Some((place, link)) = search.next() {
                next_at = now + HEDGE;
                let zeal = search.take_zeal();
                match at_once(Box::pin(prepare(Rc::clone(&worker.shared), link, by, zeal))).await {
                    Ok(result) => come = Some((place, result)),
                    Err(preparing) => {
                        asked += 1;
                        let (tell, _) = channel.get_or_insert_with(|| mpsc::channel(MAX_BESIDE));
                        spawn_local(finish(place, preparing, tell.clone()));
                    }
                }
            } else if asked == 0 {
                break;
            } else {
                next_at = by;
            }
        }
        let (place, result) = match (come, &mut channel) {
            (Some(come), _) => come,
            (None, None) => continue,
            (None, Some((_, told))) => {
                let until = if asked < MAX_BESIDE { next_at.min(by) } else { by };
                let Ok(Some(told)) = timeout(now::until(until), told.recv()).await else { continue };
                asked -= 1;
                told
            }
        };
        if let Some(found) = search.weigh(place, result, request) {
            return Ok(found);
        }
    }
    // A member that failed might have had something in common.
    Err(search.no_overlap.filter(|_| search.failures == 0).unwrap_or(Response::Error(ErrorCode::Internal)))
}

type Prepared = Result<Ready, Trouble>;

async fn prepare(shared: Rc<Shared>, link: Rc<Link>, by: Monotonic, zeal: Zeal) -> Prepared {
    link.prepare(&shared, by, zeal).await
}

/// Runs until there is something to wait for, and gives back the rest then: a member that a connection is kept to is ready
/// without a task of its own.
async fn at_once<F: Future + Unpin>(mut future: F) -> Result<F::Output, F> {
    match poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(future),
    }
}

/// Gets a member ready for whoever still waits for one.
async fn finish(place: usize, preparing: impl Future<Output = Prepared>, tell: mpsc::Sender<(usize, Prepared)>) {
    if let Err(late) = tell.try_send((place, preparing.await))
        && let Ok(ready) = late.into_inner().1
    {
        ready.put_back();
    }
}

#[cfg(test)]
mod tests;
