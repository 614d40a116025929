//! From a request to its answer.

use std::net::IpAddr;

use ntp_proto::{
    server::{ClientRow, LocalConfig},
    time::{NtpDuration, Rate},
};

use super::{
    add,
    bodies::{
        AuthData, BurstBody, CLIENTS, ClientEntry, ClientsBody, ClientsData, LocalBody, LocalBody45, LocalBody46,
        MANUAL_ENTRIES, MakeStepBody, ManualEntry, ManualListData, OldServerStatsData, SourceCount, SourceNameData,
        Subnet,
    },
    codec::{Address, Field},
    packet::{NULL_REPLY, Status},
    rows,
    table::{self, Entry},
    tune,
};
use crate::{
    config::{AddFault, Added, STRATA, local_time},
    observe::{
        control::{
            Change, ControlError, ErrorKind, Reply, Show,
            setting::{steps, threshold},
        },
        report::{SourceName, SourceRow},
    },
    serve::ClientLog,
};

/// Places of the table of clients that one answer looks at.
const MAX_PLACES: usize = 65_536;

/// Who is asked.
pub trait Host {
    /// Makes a report.
    ///
    /// # Errors
    ///
    /// [`ControlError`] if it is about a source that does not exist.
    fn show(&mut self, show: &Show) -> Result<Reply, ControlError>;

    /// Changes something.
    ///
    /// # Errors
    ///
    /// [`ControlError`] if that was not possible.
    fn change(&mut self, change: &Change) -> Result<(), ControlError>;

    /// Adds a source.
    ///
    /// # Errors
    ///
    /// [`AddFault`] says what stands in the way.
    fn add(&mut self, source: Added) -> Result<(), AddFault>;

    /// Takes out the server or pool with this name; whether there was one.
    fn remove(&mut self, name: &str) -> bool;

    /// Whether a host with this address is served.
    fn is_served(&self, address: IpAddr) -> bool;

    /// Whether requests of this protocol are answered over UDP that come from this address.
    fn may_ask(&self, address: IpAddr) -> bool;

    /// Who was served, if note is taken of that.
    fn clients(&self) -> Option<&ClientLog>;

    /// Requests of this protocol so far, and how many of them were not answered.
    fn commands(&self) -> (u64, u64);
}

/// What is answered: how it went, the number of the reply, and what that carries.
#[derive(Debug)]
pub struct Answer {
    pub(super) status: Status,
    pub(super) code: u16,
    pub(super) body: Vec<u8>,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, code: NULL_REPLY, body: Vec::new() }
    }
}

impl From<AddFault> for Status {
    fn from(fault: AddFault) -> Self {
        match fault {
            AddFault::Present => Self::SourceAlreadyKnown,
            AddFault::TooMany => Self::TooManySources,
            AddFault::UnknownKey => Self::Failed,
        }
    }
}

impl From<ControlError> for Status {
    fn from(error: ControlError) -> Self {
        match error.kind {
            ErrorKind::NotFound => Self::NoSuchSource,
            ErrorKind::NotPermitted => Self::Unauthorized,
            ErrorKind::BadRequest | ErrorKind::UnknownCommand => Self::Invalid,
            ErrorKind::Busy | ErrorKind::Failed | ErrorKind::Other => Self::Failed,
        }
    }
}

/// Answers a request whose header and length are known to be right.
pub(super) fn answer(entry: &Entry, body: &[u8], host: &mut impl Host) -> Answer {
    match (Asking { entry, body, host }).answer() {
        Ok(answer) => answer,
        Err(status) => status.into(),
    }
}

pub(super) struct Asking<'a, H> {
    pub(super) entry: &'a Entry,
    body: &'a [u8],
    pub(super) host: &'a mut H,
}

/// A report of a kind.
macro_rules! report {
    ($asking:expr, $show:expr, $kind:ident) => {
        match $asking.host.show(&$show)? {
            Reply::$kind(report) => report,
            _ => return Err(Status::Unexpected),
        }
    };
}

impl<H: Host> Asking<'_, H> {
    fn answer(&mut self) -> Result<Answer, Status> {
        match *self.entry {
            table::N_SOURCES => {
                let count = u32::try_from(self.sources()?.len()).unwrap_or(u32::MAX);
                self.with(&SourceCount { count })
            }
            table::SOURCE_DATA => {
                let row = self.by_index()?;
                self.with(&rows::source(&row))
            }
            table::SOURCESTATS => {
                let source = self.by_index()?.judged.source;
                let report = report!(self, Show::SourceStats, SourceStats);
                let row = report.sources.iter().find(|row| row.source == source);
                self.with(&rows::source_stats(&source, row))
            }
            table::SELECTDATA => {
                let source = self.by_index()?.judged.source;
                let report = report!(self, Show::SelectData, SelectData);
                let row = report.sources.iter().find(|row| row.judged.source == source);
                self.with(&rows::select(&source, row))
            }
            table::TRACKING => {
                let report = report!(self, Show::Tracking, Tracking);
                self.with(&rows::tracking(&report))
            }
            table::ACTIVITY => {
                let report = report!(self, Show::Activity, Activity);
                self.with(&rows::activity(&report))
            }
            table::SERVERSTATS => {
                let report = report!(self, Show::ServerStats, ServerStats);
                let commands = self.host.commands();
                self.with(&rows::server_stats(&report, commands))
            }
            table::SERVERSTATS_4_3 => {
                let report = report!(self, Show::ServerStats, ServerStats);
                let commands = self.host.commands();
                self.with(&OldServerStatsData::from(rows::server_stats(&report, commands)))
            }
            table::SOURCENAME | table::NTPDATA | table::NTPDATA_4_5 | table::AUTHDATA => self.of_one_source(),
            table::MANUAL_LIST => {
                let entries = [const { ManualEntry::NONE }; MANUAL_ENTRIES];
                self.with(&ManualListData { count: 0, entries })
            }
            table::RTCDATA | table::WRITERTC | table::TRIMRTC => Err(Status::NoRtc),
            table::SMOOTHING | table::SMOOTHTIME | table::SETTIME | table::MANUAL | table::MANUAL_DELETE => {
                Err(Status::NotEnabled)
            }
            table::CLIENTS => self.clients(),
            table::ACCHECK => match self.get::<Address>()? {
                Address::Ip(address) if self.host.is_served(address) => Err(Status::AccessAllowed),
                Address::Ip(_) => Err(Status::AccessDenied),
                Address::Unspecified | Address::Id(_) => Err(Status::Invalid),
            },
            table::CMDACCHECK => match self.get::<Address>()? {
                Address::Ip(address) if self.host.may_ask(address) => Err(Status::AccessAllowed),
                Address::Ip(_) => Err(Status::AccessDenied),
                Address::Unspecified | Address::Id(_) => Err(Status::Invalid),
            },
            _ if tune::is_known(self.entry) => self.tune(),
            _ => self.change(),
        }
    }

    /// A change; what this program has no use for has failed.
    fn change(&mut self) -> Result<Answer, Status> {
        let all = None;
        let change = match *self.entry {
            table::MAKESTEP => Change::MakeStep,
            table::MAKESTEP_CONFIG => {
                let MakeStepBody { limit, threshold_seconds } = self.get()?;
                let threshold = threshold(threshold_seconds).ok_or(Status::Invalid)?;
                Change::Steps { threshold, limit: steps(limit.into()) }
            }
            table::MAXUPDATESKEW => Change::MaxUpdateSkew(skew(self.get()?)?),
            table::LOCAL => Change::Local(local(&self.get()?)?),
            table::LOCAL_4_6 => {
                let LocalBody46 { old, activate_seconds } = self.get()?;
                Change::Local(local(&LocalBody { activate_seconds, ..old.into() })?)
            }
            table::LOCAL_4_5 => Change::Local(local(&self.get::<LocalBody45>()?.into())?),
            table::REFRESH => Change::Refresh { source: all },
            table::RELOAD => Change::ReloadSources,
            // Symmetric keys are read with the rest.
            table::REKEY if self.host.change(&Change::Rekey).is_ok() => return Ok(Status::Success.into()),
            table::REKEY => Change::Reload,
            table::RESELECT => Change::Reselect,
            table::RESET => Change::ResetSources,
            table::ONOFFLINE => Change::OnOffline,
            table::SHUTDOWN => Change::Shutdown,
            table::ONLINE | table::OFFLINE | table::BURST => return self.of_subnet(),
            table::ADD_SOURCE => return self.add(),
            table::DELETE => return self.delete(),
            table::CYCLELOGS => Change::CycleLogs,
            // There is nothing that is not kept at the end.
            table::DUMP => return Ok(Status::Success.into()),
            _ => return Err(Status::Failed),
        };
        self.host.change(&change)?;
        Ok(Status::Success.into())
    }

    fn add(&mut self) -> Result<Answer, Status> {
        let source = add::source(&self.get()?)?;
        self.host.add(source)?;
        Ok(Status::Success.into())
    }

    /// Takes out a server; a member of a pool is the pool's to choose.
    fn delete(&mut self) -> Result<Answer, Status> {
        let wanted = self.get()?;
        let source = self.by_address(wanted)?;
        let is_removed = source.pool.is_none() && self.host.remove(&source.name);
        if is_removed { Ok(Status::Success.into()) } else { Err(Status::Failed) }
    }

    /// A page of clients, by their places in the table.
    fn clients(&mut self) -> Result<Answer, Status> {
        let ClientsBody { first, count, min_hits, reset } = self.get()?;
        let log = self.host.clients().ok_or(Status::Inactive)?;
        let size = u32::try_from(log.capacity()).unwrap_or(u32::MAX);
        let first = usize::try_from(first).map_err(|_| Status::Failed)?;
        let most = usize::try_from(count).unwrap_or(CLIENTS).min(CLIENTS);
        let is_wanted = |(_, row): &(usize, ClientRow)| row.ntp.hits.max(row.key_exchange.hits) >= min_hits;
        let end = first.saturating_add(MAX_PLACES).min(log.capacity());
        let found: Vec<_> = log.rows(first..end).filter(is_wanted).take(most).collect();
        let next = match found.last() {
            Some((last, _)) if found.len() == most => last + 1,
            Some(_) | None => end,
        };
        let next = u32::try_from(next).unwrap_or(size);
        let mut clients = [ClientEntry::NONE; CLIENTS];
        for (place, (index, row)) in clients.iter_mut().zip(&found) {
            *place = rows::client(row);
            if reset != 0 {
                log.reset(*index);
            }
        }
        let count = u32::try_from(found.len()).unwrap_or(0);
        self.with(&ClientsData { table_size: size, next, count, clients })
    }

    pub(super) fn get<T: Field>(&mut self) -> Result<T, Status> {
        T::get(&mut &*self.body).ok_or(Status::BadLength)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as what can fail before it")]
    fn with(&self, body: &impl Field) -> Result<Answer, Status> {
        let mut out = Vec::new();
        body.put(&mut out);
        Ok(Answer { status: Status::Success, code: self.entry.reply, body: out })
    }

    fn sources(&mut self) -> Result<Vec<SourceRow>, Status> {
        Ok(report!(self, Show::Sources, Sources).sources)
    }

    /// The source with the number that is asked for.
    fn by_index(&mut self) -> Result<SourceRow, Status> {
        let index = usize::try_from(self.get::<u32>()?).map_err(|_| Status::NoSuchSource)?;
        self.sources()?.into_iter().nth(index).ok_or(Status::NoSuchSource)
    }

    /// The source with this address; of several the first.
    pub(super) fn by_address(&mut self, wanted: Address) -> Result<SourceName, Status> {
        let is_meant = |row: &SourceRow| wanted != Address::Unspecified && rows::address(&row.judged.source) == wanted;
        let found = self.sources()?.into_iter().find(is_meant);
        found.map(|row| row.judged.source).ok_or(Status::NoSuchSource)
    }

    fn of_one_source(&mut self) -> Result<Answer, Status> {
        let wanted = self.get()?;
        let source = self.by_address(wanted)?;
        match *self.entry {
            table::SOURCENAME => self.with(&SourceNameData { name: rows::name(&source) }),
            table::AUTHDATA => {
                let report = report!(self, Show::AuthData, AuthData);
                let row = report.sources.iter().find(|row| row.source == source);
                // One without an address has not been asked, and says nothing.
                self.with(&row.map_or(AuthData::NONE, rows::auth))
            }
            _ => {
                let report = report!(self, Show::NtpData { source: None }, NtpData);
                let row = report.sources.iter().find(|row| row.source == source).ok_or(Status::NoSuchSource)?;
                if *self.entry == table::NTPDATA_4_5 {
                    self.with(&rows::old_ntp(row).ok_or(Status::NoSuchSource)?)
                } else {
                    self.with(&rows::ntp(row).ok_or(Status::NoSuchSource)?)
                }
            }
        }
    }

    /// Asks, or no more, the sources on a network.
    fn of_subnet(&mut self) -> Result<Answer, Status> {
        let which = if *self.entry == table::BURST { self.get::<BurstBody>()?.which } else { self.get::<Subnet>()? };
        let command = *self.entry;
        let change = move |source| match command {
            table::ONLINE => Change::Online { source },
            table::OFFLINE => Change::Offline { source },
            _ => Change::Burst { source },
        };
        if (which.mask, which.address) == (Address::Unspecified, Address::Unspecified) {
            self.host.change(&change(None))?;
            return Ok(Status::Success.into());
        }
        let mut meant: Vec<IpAddr> = Vec::new();
        for row in self.sources()? {
            if let Address::Ip(address) = rows::address(&row.judged.source)
                && contains(&which, address)
                && !meant.contains(&address)
            {
                meant.push(address);
            }
        }
        if meant.is_empty() {
            return Err(Status::NoSuchSource);
        }
        for address in meant {
            self.host.change(&change(Some(address.to_string())))?;
        }
        Ok(Status::Success.into())
    }
}

/// An error bound that may be had, in ppm.
fn skew(ppm: f64) -> Result<Rate, Status> {
    if ppm > 0.0 && ppm <= 1e6 { Ok(Rate::from_ppm(ppm)) } else { Err(Status::Failed) }
}

/// What is served where sources do not tell the time.
fn local(body: &LocalBody) -> Result<Option<LocalConfig>, Status> {
    if body.on == 0 {
        return Ok(None);
    }
    let time = |seconds: f64| local_time(seconds).ok_or(Status::Failed);
    let distance = |seconds: f64| time(seconds).map(|time| NtpDuration::from_seconds(time.as_secs_f64()));
    let stratum = u8::try_from(body.stratum).ok().filter(|stratum| STRATA.contains(stratum));
    Ok(Some(LocalConfig {
        stratum: stratum.ok_or(Status::Failed)?,
        distance: distance(body.distance_seconds)?,
        activate: distance(body.activate_seconds)?,
        orphan: body.orphan != 0,
        wait_synced: time(body.wait_synced_seconds)?,
        wait_unsynced: time(body.wait_unsynced_seconds)?,
    }))
}

/// Whether an address is on a network.
fn contains(network: &Subnet, address: IpAddr) -> bool {
    let all = |mask: &[u8], network: &[u8], address: &[u8]| {
        address.iter().zip(mask).zip(network).all(|((address, mask), network)| address & mask == *network)
    };
    match (network.mask, network.address, address) {
        (Address::Ip(IpAddr::V4(mask)), Address::Ip(IpAddr::V4(network)), IpAddr::V4(address)) => {
            all(&mask.octets(), &network.octets(), &address.octets())
        }
        (Address::Ip(IpAddr::V6(mask)), Address::Ip(IpAddr::V6(network)), IpAddr::V6(address)) => {
            all(&mask.octets(), &network.octets(), &address.octets())
        }
        _ => false,
    }
}
