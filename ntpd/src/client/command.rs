//! What `ntpctl` asks of the client side.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
};

use ntp_proto::{counters::ServerCounters, engine::SourceState, ids::SourceId, pool::auto::Route};

use super::{Client, members::Configured};
use crate::{
    now,
    observe::{
        ControlCounters, KeCounters, PoolInfo, Unresolved, View,
        control::{Change, ControlError, ErrorKind, Reply, Show},
        find,
        history::History,
        report::{DaemonReport, SourcesReport, StatusReport},
    },
    serve::ClientLog,
};

/// What others have counted, for a report.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// The NTP server.
    pub server: Option<ServerCounters>,
    /// Who was served, if note is taken of that.
    pub clients: Option<Arc<ClientLog>>,
    /// The key-exchange server.
    pub key_exchange: Option<KeCounters>,
    /// The control socket.
    pub control: ControlCounters,
}

impl Client {
    /// Makes a report.
    ///
    /// # Errors
    ///
    /// [`ControlError`] if it is about a source that does not exist.
    pub fn show(&mut self, show: &Show, counted: &Counted) -> Result<Reply, ControlError> {
        self.view(counted, |view| Reply::show(show, view))
    }

    /// Reports on all sources, and on names that have none.
    pub fn sources(&mut self) -> SourcesReport {
        self.view(&Counted::default(), SourcesReport::new)
    }

    /// Makes all reports of one moment.
    pub fn status(&mut self, counted: &Counted, daemon: DaemonReport) -> StatusReport {
        self.view(counted, |view| StatusReport::new(view, daemon))
    }

    /// Has the last correction recorded, unless it was before.
    pub fn remember(&mut self, history: &mut History) {
        let now = self.clock.now();
        let tracking = self.engine.tracking(now);
        history.record(now.monotonic, tracking.updates, tracking.last_offset, tracking.frequency.to_ppm());
    }

    fn view<T>(&mut self, counted: &Counted, look: impl FnOnce(&View<'_>) -> T) -> T {
        let (pools, unresolved) = (self.pools(), self.unresolved());
        let leap_file = self.leap_file_info();
        look(&View {
            now: self.clock.now(),
            engine: &self.engine,
            bootstrap: self.boot.report(),
            local_stratum: self.local_stratum(),
            leap_file: leap_file.as_ref(),
            sources: &self.info,
            unresolved: &unresolved,
            pools: &pools,
            server: counted.server,
            clients: counted.clients.as_deref(),
            key_exchange: counted.key_exchange,
            control: counted.control,
        })
    }

    fn pools(&self) -> Vec<PoolInfo> {
        let info = |group: &super::Group| {
            let Configured::Pool(pool) = &group.configured else { return None };
            let name = pool.name.to_string();
            let nts_remembered = self.store.remembered(&name).is_some_and(Route::is_nts);
            Some(PoolInfo {
                mode: pool.mode.name().to_owned(),
                settled: group.mode.learned().map(|route| route.label().to_owned()),
                wanted: pool.count,
                nts_remembered,
                note: group.problem.clone(),
                name,
            })
        };
        self.groups.values().filter_map(info).collect()
    }

    /// Names without any source, and servers that were refused.
    fn unresolved(&self) -> Vec<Unresolved> {
        self.groups.values().flat_map(super::Group::unresolved).collect()
    }

    /// Changes something about the sources or the clock.
    ///
    /// # Errors
    ///
    /// [`ControlError`] if it is about a source or pool that does not exist, or is not the client's to do.
    pub fn change(&mut self, change: &Change) -> Result<(), ControlError> {
        match change {
            Change::MakeStep if self.boot.holds() => {
                let what = "the time is not verified; `ntpctl tracking` says what is missing";
                return Err(ControlError::new(ErrorKind::Failed, what));
            }
            Change::MakeStep => {
                let present = self.clock.now();
                self.engine.step_now(present);
            }
            Change::Burst { source } => {
                for id in self.find(source.as_deref())? {
                    self.engine.refresh_source(now::monotonic(), id, true);
                }
            }
            Change::Online { source } => self.take_online(source.as_deref())?,
            Change::Offline { source } => self.take_offline(source.as_deref())?,
            Change::Refresh { source } => self.look_up_again(source.as_deref())?,
            Change::ResetFloor => self.reset_floor(),
            Change::PoolsForget { name } => {
                if !self.store.forget(name) {
                    let what = format!("nothing is remembered of {name}");
                    return Err(ControlError::new(ErrorKind::NotFound, what));
                }
                self.restart_group(name);
            }
            Change::Steps { threshold, limit } => self.engine.set_steps(*threshold, *limit),
            Change::MaxUpdateSkew(limit) => self.engine.set_max_update_skew(*limit),
            Change::Local(config) => self.set_local(*config),
            Change::Tune { source, tune } => {
                let present = self.clock.now();
                for id in self.find(Some(source))? {
                    self.engine.tune_source(present, id, tune);
                }
            }
            Change::CycleLogs => self.cycle_logs(),
            Change::Reselect => {
                let present = self.clock.now();
                self.engine.choose_again(present);
            }
            Change::ResetSources => {
                tracing::info!("all measurements are forgotten, as an administrator wants it");
                let present = self.clock.now();
                self.engine.handle_interruption(present);
            }
            Change::OnOffline => self.follow_routes(),
            Change::Access(_)
            | Change::ChronycAccess(_)
            | Change::Reload
            | Change::ReloadSources
            | Change::Rekey
            | Change::Shutdown => {
                return Err(ControlError::new(ErrorKind::Failed, "not for the client side"));
            }
        }
        self.drain();
        Ok(())
    }

    fn take_online(&mut self, wanted: Option<&str>) -> Result<(), ControlError> {
        let (sources, groups) = self.find_all(wanted)?;
        for number in groups {
            self.groups.get_mut(&number).into_iter().for_each(|group| group.offline = false);
        }
        for id in sources {
            self.engine.refresh_source(now::monotonic(), id, false);
        }
        Ok(())
    }

    /// A name that is meant as a whole finds no other servers meanwhile.
    fn take_offline(&mut self, wanted: Option<&str>) -> Result<(), ControlError> {
        let present = self.clock.now();
        let (sources, groups) = self.find_all(wanted)?;
        for id in &sources {
            self.engine.stop_source(present, *id);
            self.waiting.remove(id);
        }
        for number in groups {
            let Some(group) = self.groups.get_mut(&number) else { continue };
            group.offline |= group.members.values().all(|active| sources.contains(&active.source));
        }
        Ok(())
    }

    /// The sources that are meant, and the names that they are of, or that are meant themselves.
    fn find_all(&self, wanted: Option<&str>) -> Result<(Vec<SourceId>, Vec<usize>), ControlError> {
        let sources = find(&self.info, wanted);
        let is_meant = |group: &super::Group| {
            wanted.is_none_or(|name| group.configured.name().eq_ignore_ascii_case(name))
                || group.members.values().any(|active| sources.contains(&active.source))
        };
        let groups: Vec<usize> =
            self.groups.iter().filter(|(_, group)| is_meant(group)).map(|(number, _)| *number).collect();
        match wanted {
            Some(name) if sources.is_empty() && groups.is_empty() => Err(ControlError::no_source(name)),
            Some(_) | None => Ok((sources, groups)),
        }
    }

    /// Asks those to which there is a route (a connected socket finds out without sending anything), and no others.
    fn follow_routes(&mut self) {
        // Where the others are is only found out by asking.
        self.groups.values_mut().for_each(|group| group.offline = false);
        let present = self.clock.now();
        for id in find(&self.info, None) {
            let Some(address) = self.info.get(&id).and_then(|info| info.address) else { continue };
            let from: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            if UdpSocket::bind((from, 0)).and_then(|socket| socket.connect(address)).is_err() {
                self.engine.stop_source(present, id);
                self.waiting.remove(&id);
            } else if self.engine.source(present, id).is_some_and(|source| source.state == SourceState::Offline) {
                self.engine.refresh_source(present.monotonic, id, false);
            }
        }
    }

    fn find(&self, wanted: Option<&str>) -> Result<Vec<SourceId>, ControlError> {
        let found = find(&self.info, wanted);
        match wanted {
            Some(name) if found.is_empty() => Err(ControlError::no_source(name)),
            Some(_) | None => Ok(found),
        }
    }

    /// Finds out anew where these sources are, and where those are that have no source yet. The sources go on meanwhile.
    fn look_up_again(&mut self, wanted: Option<&str>) -> Result<(), ControlError> {
        let (_, numbers) = self.find_all(wanted)?;
        numbers.into_iter().for_each(|number| self.refresh_group(number));
        Ok(())
    }
}
