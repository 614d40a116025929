//! One user: its request, a member for it, and the answer.

use std::{fmt, io, net::IpAddr, rc::Rc, time::Duration};

use ntp_proto::time::Monotonic;
use nts_ke::{
    error::{ErrorCode, KeError},
    message::{NTPV4, Request, Response},
    server::{Stage, UserOutput, UserSession},
};
use pool_srv::directory::Wish;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

use super::{
    assign::{self, Choice, Terms},
    metrics::Counter,
    now,
    serve::Worker,
    upstream::{Ready, Trouble},
};

/// Octets read at a time.
const PIECE: usize = 4096;

/// How long a user may take to close after its answer, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Octets that are thrown away meanwhile.
const MAX_LINGER_BYTES: usize = 16 * PIECE;

/// How long a ready member is looked for, and how long the user waits in all.
const SEARCH: Duration = Duration::from_millis(2500);
const ANSWER: Duration = Duration::from_millis(4000);

/// Members that may fail a user before it is told so: the time bounds them too, and most failures are quick.
const MAX_FAILURES: usize = 6;

/// Members that are looked at for one user.
const MAX_LOOKS: usize = 48;

/// Why a user got nothing.
#[derive(Debug)]
enum Failure {
    Exchange(KeError),
    Io(io::Error),
    /// It did not take what was sent.
    Stuck,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Stuck => f.write_str("the answer was not taken in time"),
        }
    }
}

/// Serves one user; `stage` is told how far it comes.
pub(super) async fn attend(
    worker: &Rc<Worker>,
    stream: &mut TcpStream,
    first: &[u8],
    user: IpAddr,
    progress: &dyn Fn(Stage),
) {
    let close_by = now::monotonic() + worker.deadlines().total;
    let told = match converse(worker, stream, first, user, progress).await {
        Ok(()) => true,
        Err(failure) => {
            debug!("user {user}: {failure}");
            worker.shared.metrics.count(match &failure {
                Failure::Exchange(KeError::Protocol(_)) => Counter::BadRequests,
                Failure::Exchange(_) | Failure::Io(_) | Failure::Stuck => Counter::Unfinished,
            });
            matches!(&failure, Failure::Exchange(error) if !matches!(error, KeError::Timeout(_)))
        }
    };
    if told {
        // Closing a connection with unread data resets it, and the user could lose what it was told.
        let _ = timeout(LINGER.min(now::until(close_by)), part(stream)).await;
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
                let sent = timeout(now::until(session.final_deadline()), stream.write_all(&bytes)).await;
                sent.map_err(|_| Failure::Stuck)?.map_err(Failure::Io)?;
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

/// Reads and drops what the user still sends, until it closes.
async fn part(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut piece = [0; PIECE];
    let mut taken = 0_usize;
    while taken < MAX_LINGER_BYTES {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => taken = taken.saturating_add(length),
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
    let member = &link.member.name;
    let trouble = match ready.hand_over(keys, started + ANSWER).await {
        Ok(accepted) => match assign::grant(&terms, member, &accepted, worker.shared.config.allow_private) {
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

/// Finds a member that is ready to take the user's keys. Until then any number may fail without harm.
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
    let assignments = worker.shared.assignments.load_full();
    let denied = assignments.excluded(&request.denied, &worker.shared.aliases.load());
    let (mut tried, mut skipped) = (Vec::new(), Vec::new());
    let (mut respects_wish, mut patient, mut failures, mut no_overlap) = (true, false, 0, None);
    for _ in 0..MAX_LOOKS {
        if failures >= MAX_FAILURES || by <= now::monotonic() {
            break;
        }
        let mut excluded = tried.clone();
        if respects_wish {
            excluded.extend(&denied);
        }
        let wish = Wish { client: Some(user), has_some: !request.denied.is_empty(), excluded: &excluded };
        let Some(place) = worker.draw(&assignments, &wish) else {
            // First the slow ones, then, as the draft has it, those not wanted: better than nobody.
            if !patient && !skipped.is_empty() {
                patient = true;
                tried.retain(|place| !skipped.contains(place));
            } else if respects_wish && !denied.is_empty() {
                respects_wish = false;
            } else {
                break;
            }
            continue;
        };
        tried.push(place);
        let Some(link) = worker.link(&assignments, place) else { continue };
        let ready = match link.prepare(&worker.shared, by, patient).await {
            Ok(ready) => ready,
            Err(Trouble::Skipped(_)) => {
                skipped.push(place);
                continue;
            }
            Err(Trouble::Member(_) | Trouble::Ours(_)) => {
                failures += 1;
                worker.shared.metrics.count(Counter::Failovers);
                continue;
            }
        };
        match assign::choose(request, &ready.support) {
            Choice::Use(terms) => return Ok((ready, terms)),
            Choice::NoProtocol => no_overlap = no_overlap.or(Some(Response::NoProtocol)),
            Choice::NoAlgorithm => no_overlap = Some(Response::NoAlgorithm),
        }
        ready.put_back();
    }
    // A member that failed might have had something in common.
    Err(no_overlap.filter(|_| failures == 0).unwrap_or(Response::Error(ErrorCode::Internal)))
}
