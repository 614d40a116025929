//! Who belongs to the pool, from its zone: transferred into a file, which is watched as others are. So what came last and was
//! good stays in force, over restarts too.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use pool_srv::directory::{
    Listed, Mark, Member, Problem, Takes, TransferWish, Transferred, Watched, ZoneSource, load, load_list,
    parse_foreign, replace,
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Shared,
    assign::is_public,
    config::{Config, ZoneMembers},
    control::Reply,
};

/// The pause after a zone could not be had.
const RETRY: Duration = Duration::from_secs(10);

/// How long whoever asked for an attempt waits for what comes of it: a command has to be answered in five seconds.
const WAIT: Duration = Duration::from_secs(4);

/// Attempts that may be asked for before the first is made.
pub(super) const MAX_POKES: usize = 4;

/// Names that are told of many.
const SHOWN: usize = 8;

/// How it is with the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The list that a name server last said is its own, and when, in seconds since 1970.
    pub(super) confirmed: Option<(Mark, u64)>,
    /// Attempts that failed.
    pub(super) failures: u64,
    /// Why the last attempt failed.
    pub(super) problem: Option<String>,
}

/// An attempt that somebody asks for.
pub(super) struct Poke {
    pub(super) wish: TransferWish,
    pub(super) told: oneshot::Sender<Reply>,
}

/// The directory as its files have it.
///
/// # Errors
///
/// [`Problem`] of a file.
pub fn kept(config: &Config) -> Result<Watched, Problem> {
    let takes: Takes = if config.allow_private { |_| true } else { is_public };
    match &config.zone {
        Some(zone) => Watched::open_listed(&config.members, (&zone.list, takes)),
        None => Watched::open(&config.members),
    }
}

/// The directory as the configuration has it, read for the first time. If there is no list of its zone that can be used, it
/// is transferred now.
///
/// # Errors
///
/// [`Problem`] of a file, or of the zone.
pub(super) fn open(config: &Config) -> Result<Watched, Problem> {
    if let Some(zone) = &config.zone
        && let Err(problem) = load_list(&zone.list)
    {
        if zone.list.exists() {
            warn!("{problem}; it is had from the zone again");
        }
        // This thread may belong to a runtime, which must not wait.
        let asked = std::thread::scope(|scope| {
            scope.spawn(|| Builder::new_current_thread().enable_all().build()?.block_on(first(config, zone))).join()
        });
        asked
            .unwrap_or_else(|_| Err(io::Error::other("the transfer ended early")))
            .map_err(|error| Problem::whole(&zone.list, error))?;
    }
    kept(config)
}

async fn first(config: &Config, zone: &ZoneMembers) -> io::Result<()> {
    let source = zone.source().map_err(io::Error::other)?;
    match source.transfer(None, TransferWish::Whole, || config.unix_seconds(), id).await.map_err(io::Error::other)? {
        Transferred::New { listed, .. } => {
            replace(&zone.list, &listed.text)?;
            remember(zone, &listed.mark, config.unix_seconds());
            Ok(())
        }
        Transferred::Same { .. } => Ok(()),
    }
}

/// A number for a message. Who may answer, the signatures say.
fn id() -> u16 {
    let mut octets = [0; 2];
    // Without randomness the number can be foreseen, and nothing follows from that.
    let _ = getrandom::fill(&mut octets);
    u16::from_be_bytes(octets)
}

/// Beside the list: when it was confirmed. Not in it, since each change of it has all members read again.
fn confirmation(zone: &ZoneMembers) -> PathBuf {
    let mut name: OsString = zone.list.clone().into();
    name.push(".confirmed");
    name.into()
}

fn remember(zone: &ZoneMembers, mark: &Mark, now: u64) {
    let file = confirmation(zone);
    if let Err(error) = replace(&file, &format!("{now} {mark}\n")) {
        // It is told until the next start all the same.
        debug!("{}: {error}", file.display());
    }
}

/// How it was when this was last looked at, perhaps by another process.
pub(super) fn remembered(config: &Config) -> Standing {
    let read = |zone: &ZoneMembers| {
        let text = fs::read_to_string(confirmation(zone)).ok()?;
        let (at, mark) = text.trim_end().split_once(' ')?;
        Some((Mark::parse(mark).ok()?, at.parse().ok()?))
    };
    Standing { confirmed: config.zone.as_ref().and_then(read), ..Standing::default() }
}

/// The list that is held, as a file and by its mark.
struct Held {
    text: String,
    mark: Mark,
}

impl Held {
    fn read(list: &Path) -> Option<Self> {
        let text = fs::read_to_string(list).ok()?;
        load_list(list).ok().map(|(_, mark)| Self { text, mark })
    }
}

/// Follows the zone for as long as the balancer runs.
pub(super) async fn follow(shared: Shared, mut pokes: mpsc::Receiver<Poke>, standing: watch::Sender<Standing>) {
    let Some(zone) = &shared.config.zone else { return };
    let mut held = Held::read(&zone.list);
    let mut look_after = RETRY;
    let mut poke: Option<Poke> = None;
    loop {
        let wish = poke.as_ref().map_or(TransferWish::Change, |poke| poke.wish);
        let now = || shared.config.unix_seconds();
        let outcome = match zone.source() {
            Ok(source) => source.transfer(held.as_ref().map(|held| &held.mark), wish, now, id).await,
            Err(problem) => Err(problem.to_string()),
        };
        let taken = outcome.and_then(|transferred| take(zone, &mut held, transferred));
        let told = match taken {
            Ok((mark, after)) => {
                look_after = after;
                remember(zone, &mark, now());
                let told = Ok(format!("zone {}: {}\n", zone.name, shown(&mark)));
                standing.send_modify(|standing| {
                    (standing.confirmed, standing.problem) = (Some((mark, now())), None);
                });
                told
            }
            Err(problem) => {
                standing.send_modify(|standing| {
                    if standing.problem.as_ref() != Some(&problem) {
                        warn!("{problem}; the members stay as they were");
                    }
                    standing.failures = standing.failures.saturating_add(1);
                    standing.problem = Some(problem.clone());
                });
                Err(format!("{problem}; the members stay as they were"))
            }
        };
        let pause = if told.is_err() { RETRY } else { look_after };
        if let Some(poke) = poke.take() {
            // Whoever asked may be gone.
            let _ = poke.told.send(told);
        }
        poke = tokio::select! {
            () = sleep(pause) => None,
            Some(poke) = pokes.recv() => Some(poke),
        };
    }
}

/// How a list is called for people.
pub(super) fn shown(mark: &Mark) -> String {
    format!("generation {}, {} members, fingerprint {}", mark.generation, mark.members, mark.fingerprint())
}

/// Puts what came in its place; the mark of what is held then, and when to look again.
fn take(zone: &ZoneMembers, held: &mut Option<Held>, transferred: Transferred) -> Result<(Mark, Duration), String> {
    let look_after = match transferred {
        Transferred::Same { look_after } => look_after,
        Transferred::New { listed: Listed { text, mark, look_after, remarks }, .. } => {
            let is_new = held.as_ref().is_none_or(|held| held.text != text);
            if is_new {
                remarks.iter().for_each(|remark| warn!("zone {}: {remark}", zone.name));
                info!("zone {}: {}", zone.name, shown(&mark));
            }
            *held = Some(Held { text, mark });
            look_after
        }
    };
    let Held { text, mark } = held.as_ref().ok_or("nothing is held that could be the same")?;
    // Most looks find what is there, unless somebody spoilt the file.
    if fs::read_to_string(&zone.list).is_ok_and(|kept| kept == *text) {
        return Ok((mark.clone(), look_after));
    }
    replace(&zone.list, text).map_err(|error| format!("{}: {error}", zone.list.display()))?;
    Ok((mark.clone(), look_after))
}

/// Answers a command that asked for an attempt with what comes of it, if that is soon.
pub(super) async fn tell(done: String, attempt: oneshot::Receiver<Reply>, reply: oneshot::Sender<Reply>) {
    let told = match timeout(WAIT, attempt).await {
        Ok(Ok(Ok(told))) => Ok(done + &told),
        Ok(Ok(Err(problem))) => Err(problem),
        Ok(Err(_)) => Err("the balancer is stopping".to_owned()),
        Err(_) => Ok(done + "the zone has not answered yet: `list` tells what comes of it\n"),
    };
    // Whoever asked may be gone.
    let _ = reply.send(told);
}

/// Some of these names.
pub(super) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<_> = names.by_ref().take(SHOWN).collect();
    first.join(", ") + if names.next().is_some() { ", …" } else { "" }
}

/// What each name server of the zone has, for whoever is to serve by it; nothing is kept.
///
/// # Errors
///
/// The same, if one of them has no list that can be used, or an older one than is kept here.
pub async fn inspect(config: &Config) -> Result<String, String> {
    let Some(zone) = &config.zone else { return Err("there is no [zone] table".to_owned()) };
    let source = zone.source().map_err(|problem| problem.to_string())?;
    let said = load(&config.members).map_err(|problem| problem.to_string())?;
    let has_token = |member: &&Member| member.token.is_some();
    let with_token: BTreeSet<_> = said.members().iter().filter(has_token).map(|member| member.name.as_str()).collect();
    let kept = load_list(&zone.list).ok().map(|(_, mark)| mark);
    let (mut out, mut is_good) = (String::new(), true);
    for server in &zone.servers {
        let alone = ZoneSource { servers: vec![*server], ..source.clone() };
        let line = match alone.transfer(None, TransferWish::Whole, || config.unix_seconds(), id).await {
            Ok(Transferred::New { serial, listed }) => {
                let list = parse_foreign(&zone.list, &listed.text).map_err(|problem| problem.to_string())?;
                let names = list.members().iter().map(|member| member.name.as_str());
                let without: Vec<_> = names.filter(|name| !with_token.contains(name)).collect();
                let mut line = format!("name server {server}: serial {serial}, {}", shown(&listed.mark));
                if !without.is_empty() {
                    let _ = write!(line, "; {} without token: {}", without.len(), some(without.iter().copied()));
                }
                for remark in &listed.remarks {
                    let _ = write!(line, "; {remark}");
                }
                if let Some(kept) = kept.as_ref().filter(|kept| listed.mark.generation < kept.generation) {
                    is_good &= listed.mark.fits(kept);
                    let _ = write!(line, "; older than the list kept here, of generation {}", kept.generation);
                }
                line
            }
            Ok(Transferred::Same { .. }) => continue,
            Err(problem) => {
                is_good = false;
                problem
            }
        };
        let _ = writeln!(out, "{line}");
    }
    if is_good { Ok(out) } else { Err(out.trim_end().to_owned()) }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::balance::{
        config,
        tests::{absent, block_on, shared_with},
    };

    #[test]
    fn what_failed_is_tried_again_after_a_while_or_when_somebody_asks() {
        let zone = "[zone]\nname = \"time.example\"\nservers = [\"192.0.2.53\"]\ntsig-key = \"/nowhere/key\"\nlist = \"/nowhere/list\"\n";
        let (shared, _heard) = shared_with(&absent(1), zone);
        block_on(async {
            tokio::time::pause();
            let begin = Instant::now();
            let (poke, pokes) = mpsc::channel(MAX_POKES);
            let (standing, mut seen) = watch::channel(Standing::default());
            tokio::task::spawn_local(follow(shared, pokes, standing));
            let mut failures = async || {
                seen.changed().await.unwrap();
                let standing = seen.borrow_and_update();
                assert!(standing.problem.as_ref().is_some_and(|problem| problem.starts_with("/nowhere/key: ")));
                (standing.failures, begin.elapsed().as_secs())
            };
            assert_eq!([failures().await, failures().await, failures().await], [(1, 0), (2, 10), (3, 20)]);
            let (told, attempt) = oneshot::channel();
            poke.try_send(Poke { wish: TransferWish::Whole, told }).unwrap_or_else(|_| panic!("there is room"));
            assert!(attempt.await.unwrap().unwrap_err().ends_with("; the members stay as they were"));
            assert_eq!(failures().await, (4, 20));
        });
    }

    #[test]
    fn internal_addresses_of_a_list_are_left_out_unless_they_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let member = "[[member]]\nname = \"a.example\"\naddresses = [\"10.0.0.1\", \"8.8.8.8\"]\n";
        write("list", &format!("{member}# end: generation=1 members=1\n"));
        // What this machine's own file says is its operator's to say.
        let own = "[[member]]\nname = \"b.example\"\naddresses = [\"10.0.0.1\", \"8.8.8.8\"]\n";
        write("members", own);
        let of = |more: &str, zone: &str| {
            write("lb", &format!("certificate = \"c\"\nprivate-key = \"k\"\nmembers = \"members\"\n{more}{zone}"));
            let watched = kept(&config::load(&folder.path().join("lb")).unwrap()).unwrap();
            watched.current().members()[0].addresses.len()
        };
        let zone = "[zone]\nname = \"time.example\"\nservers = [\"192.0.2.53\"]\ntsig-key = \"k\"\nlist = \"list\"\n";
        assert_eq!((of("", zone), of("allow-private = true\n", zone), of("", "")), (1, 2, 2));
    }
}
