//! Who belongs to the pool, from its zone: transferred into a file, which is watched as others are. So what came last and was
//! good stays in force, over restarts too.

use std::{io, sync::Arc, time::Duration};

use pool_srv::directory::{Listed, Problem, Transferred, Watched, replace};
use tokio::{
    runtime::Builder,
    sync::{Notify, watch},
    time::sleep,
};
use tracing::{info, warn};

use super::{
    Shared,
    config::{Config, ZoneMembers},
};

/// The pause after a zone could not be had.
const RETRY: Duration = Duration::from_secs(10);

/// How it is with the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The serial number of what is in force; nothing before the first answer of this run.
    pub(super) serial: Option<u32>,
    /// When a name server last said that it is still that, in seconds since 1970.
    pub(super) confirmed: Option<u64>,
    /// Attempts that failed.
    pub(super) failures: u64,
    /// Why the last attempt failed.
    pub(super) problem: Option<String>,
}

/// The directory as the configuration has it, read for the first time. If its zone was never transferred, that is done now.
///
/// # Errors
///
/// [`Problem`] of a file, or of the zone.
pub(super) fn open(config: &Config) -> Result<Watched, Problem> {
    let Some(zone) = &config.zone else { return Watched::open(&config.members) };
    if !zone.list.exists() {
        let wrong = |what: String| Problem::whole(&zone.list, what);
        // This thread may belong to a runtime, which must not wait.
        let asked = std::thread::scope(|scope| {
            scope.spawn(|| Builder::new_current_thread().enable_all().build()?.block_on(first(config, zone))).join()
        });
        asked
            .unwrap_or_else(|_| Err(io::Error::other("the transfer ended early")))
            .map_err(|e| wrong(e.to_string()))?;
    }
    Watched::open_listed(&config.members, &zone.list)
}

async fn first(config: &Config, zone: &ZoneMembers) -> io::Result<()> {
    let source = zone.source().map_err(io::Error::other)?;
    match source.transfer(None, config.unix_seconds(), id).await.map_err(io::Error::other)? {
        Transferred::New { listed, .. } => replace(&zone.list, &listed.text),
        Transferred::Same => Ok(()),
    }
}

/// A number for a message. Who may answer, the signatures say.
fn id() -> u16 {
    let mut octets = [0; 2];
    // Without randomness the number can be foreseen, and nothing follows from that.
    let _ = getrandom::fill(&mut octets);
    u16::from_be_bytes(octets)
}

/// Follows the zone for as long as the balancer runs. `poked` has it looked at again at once, whatever its serial number.
pub(super) async fn follow(shared: Shared, poked: Arc<Notify>, standing: watch::Sender<Standing>) {
    let Some(zone) = &shared.config.zone else { return };
    let mut known = None;
    let mut look_after = RETRY;
    loop {
        let now = shared.config.unix_seconds();
        let outcome = match zone.source() {
            Ok(source) => source.transfer(known, now, id).await,
            Err(problem) => Err(problem.to_string()),
        };
        let taken = outcome.and_then(|transferred| {
            let Transferred::New { serial, listed } = transferred else { return Ok(()) };
            look_after = listed.look_after;
            take(zone, &listed, serial)?;
            known = Some(serial);
            Ok(())
        });
        let failed = taken.is_err();
        standing.send_modify(|standing| match taken {
            Ok(()) => {
                *standing =
                    Standing { serial: known, confirmed: Some(now), failures: standing.failures, problem: None };
            }
            Err(problem) => {
                if standing.problem.as_ref() != Some(&problem) {
                    warn!("{problem}; the members stay as they were");
                }
                standing.failures = standing.failures.saturating_add(1);
                standing.problem = Some(problem);
            }
        });
        tokio::select! {
            () = sleep(if failed { RETRY } else { look_after }) => {}
            () = poked.notified() => known = None,
        }
    }
}

fn take(zone: &ZoneMembers, listed: &Listed, serial: u32) -> Result<(), String> {
    let name = &zone.name;
    // Most changes of a zone are not of its list.
    if std::fs::read_to_string(&zone.list).is_ok_and(|kept| kept == listed.text) {
        return Ok(());
    }
    replace(&zone.list, &listed.text).map_err(|error| format!("{}: {error}", zone.list.display()))?;
    info!("zone {name}: serial number {serial} lists {} members", listed.members);
    Ok(())
}
