//! Every request there is: its number, what it carries, and what answers it.

use super::{
    bodies,
    codec::{Address, Field, Timespec},
    packet::{NULL_REPLY, REPLY_HEADER, REQUEST_HEADER, Status},
};

/// Who may use a command, in the words of chrony's `opencommands`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "words of chrony.conf(5)")]
pub enum Access {
    /// Whoever can open the Unix socket.
    Local,
    /// Sources may be counted with any command that lists them.
    SourceCount,
    Activity,
    AuthData,
    Clients,
    Manual,
    NtpData,
    RtcData,
    SelectData,
    ServerStats,
    Smoothing,
    SourceName,
    Sources,
    SourceStats,
    Tracking,
}

impl Access {
    /// Whether it is among those that are open to everybody.
    pub(crate) fn is_among(self, open: &[Self]) -> bool {
        let lists = [Self::AuthData, Self::NtpData, Self::SelectData, Self::Sources, Self::SourceStats];
        open.contains(&self) || self == Self::SourceCount && lists.iter().any(|list| open.contains(list))
    }
}

/// What is open to UDP unless the configuration says otherwise: what chronyd opens.
pub(crate) const OPEN: [Access; 8] = [
    Access::Activity,
    Access::Manual,
    Access::RtcData,
    Access::Smoothing,
    Access::SourceName,
    Access::Sources,
    Access::SourceStats,
    Access::Tracking,
];

/// A request that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number.
    pub(crate) command: u16,
    /// Who may use it.
    pub(crate) access: Access,
    /// Octets of its body.
    body_len: usize,
    /// Number of the reply that carries something.
    pub(crate) reply: u16,
    /// Octets of what that carries.
    reply_len: usize,
}

impl Entry {
    /// Octets of the datagram: as many as its longest reply has, so that none is longer than its request.
    #[must_use]
    pub(crate) const fn request_len(&self) -> usize {
        let (request, reply) = (REQUEST_HEADER + self.body_len, REPLY_HEADER + self.reply_len);
        if request > reply { request } else { reply }
    }
}

const fn change<Body: Field>(command: u16) -> Entry {
    Entry { command, access: Access::Local, body_len: Body::LEN, reply: NULL_REPLY, reply_len: 0 }
}

const fn change_bare(command: u16) -> Entry {
    Entry { command, access: Access::Local, body_len: 0, reply: NULL_REPLY, reply_len: 0 }
}

const fn show<Body: Field, Data: Field>(command: u16, access: Access, reply: u16) -> Entry {
    Entry { command, access, body_len: Body::LEN, reply, reply_len: Data::LEN }
}

const fn show_bare<Data: Field>(command: u16, access: Access, reply: u16) -> Entry {
    Entry { command, access, body_len: 0, reply, reply_len: Data::LEN }
}

macro_rules! requests {
    ($($name:ident = $entry:expr;)*) => {
        $(pub(crate) const $name: Entry = $entry;)*
        const ALL: &[&Entry] = &[$(&$name),*];
    };
}

requests! {
    ONLINE = change::<bodies::Subnet>(1);
    OFFLINE = change::<bodies::Subnet>(2);
    BURST = change::<bodies::BurstBody>(3);
    MINPOLL = change::<bodies::SettingBody>(4);
    MAXPOLL = change::<bodies::SettingBody>(5);
    DUMP = change::<i32>(6);
    MAXDELAY = change::<bodies::NumberBody>(7);
    MAXDELAYRATIO = change::<bodies::NumberBody>(8);
    MAXUPDATESKEW = change::<f64>(9);
    SETTIME = Entry { reply: 17, reply_len: bodies::ManualTimeData::LEN, ..change::<Timespec>(11) };
    MANUAL = change::<i32>(13);
    N_SOURCES = show_bare::<bodies::SourceCount>(14, Access::SourceCount, 2);
    SOURCE_DATA = show::<u32, bodies::SourceData>(15, Access::Sources, 3);
    REKEY = change_bare(16);
    ALLOW = change::<bodies::AccessBody>(17);
    ALLOW_ALL = change::<bodies::AccessBody>(18);
    DENY = change::<bodies::AccessBody>(19);
    DENY_ALL = change::<bodies::AccessBody>(20);
    CMDALLOW = change::<bodies::AccessBody>(21);
    CMDALLOW_ALL = change::<bodies::AccessBody>(22);
    CMDDENY = change::<bodies::AccessBody>(23);
    CMDDENY_ALL = change::<bodies::AccessBody>(24);
    ACCHECK = change::<Address>(25);
    CMDACCHECK = change::<Address>(26);
    DELETE = change::<Address>(29);
    WRITERTC = change_bare(30);
    DFREQ = change::<f64>(31);
    TRACKING = show_bare::<bodies::TrackingData>(33, Access::Tracking, 5);
    SOURCESTATS = show::<u32, bodies::SourceStatsData>(34, Access::SourceStats, 6);
    RTCDATA = show_bare::<bodies::RtcData>(35, Access::RtcData, 7);
    TRIMRTC = change_bare(36);
    CYCLELOGS = change_bare(37);
    MANUAL_LIST = show_bare::<bodies::ManualListData>(41, Access::Manual, 18);
    MANUAL_DELETE = change::<i32>(42);
    MAKESTEP = change_bare(43);
    ACTIVITY = show_bare::<bodies::ActivityData>(44, Access::Activity, 12);
    MINSTRATUM = change::<bodies::SettingBody>(45);
    POLLTARGET = change::<bodies::SettingBody>(46);
    MAXDELAYDEVRATIO = change::<bodies::NumberBody>(47);
    RESELECT = change_bare(48);
    RESELECTDIST = change::<f64>(49);
    MAKESTEP_CONFIG = change::<bodies::MakeStepBody>(50);
    SMOOTHING = show_bare::<bodies::SmoothingData>(51, Access::Smoothing, 13);
    SMOOTHTIME = change::<i32>(52);
    REFRESH = change_bare(53);
    SERVERSTATS = show_bare::<bodies::ServerStatsData>(54, Access::ServerStats, 25);
    // Up to chrony 4.3.
    SERVERSTATS_4_3 = show_bare::<bodies::OldServerStatsData>(54, Access::ServerStats, 24);
    NTPDATA = show::<Address, bodies::NtpData>(57, Access::NtpData, 26);
    // Up to chrony 4.5.
    NTPDATA_4_5 = show::<Address, bodies::OldNtpData>(57, Access::NtpData, 16);
    SHUTDOWN = change_bare(62);
    ONOFFLINE = change_bare(63);
    ADD_SOURCE = change::<bodies::AddSourceBody>(64);
    SOURCENAME = show::<Address, bodies::SourceNameData>(65, Access::SourceName, 19);
    RESET = change_bare(66);
    AUTHDATA = show::<Address, bodies::AuthData>(67, Access::AuthData, 20);
    CLIENTS = show::<bodies::ClientsBody, bodies::ClientsData>(68, Access::Clients, 21);
    SELECTDATA = show::<u32, bodies::SelectData>(69, Access::SelectData, 23);
    RELOAD = change_bare(70);
    DOFFSET = change::<f64>(71);
    SELECTOPTS = change::<bodies::SelectOptionsBody>(72);
    OFFSET = change::<bodies::OffsetBody>(73);
    LOCAL = change::<bodies::LocalBody>(74);
    // chrony 4.6.
    LOCAL_4_6 = change::<bodies::LocalBody46>(74);
    // Up to chrony 4.5.
    LOCAL_4_5 = change::<bodies::LocalBody45>(56);
}

/// The request with this number that a datagram of this length is. Since it is as long as its longest reply, its length
/// tells by which version of chrony it was made, and which reply that knows.
pub(crate) fn find(command: u16, len: usize) -> Result<&'static Entry, Status> {
    let mut known = ALL.iter().copied().filter(|entry| entry.command == command).peekable();
    if known.peek().is_none() {
        return Err(Status::Invalid);
    }
    known.find(|entry| entry.request_len() <= len).ok_or(Status::BadLength)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::observe::chronyc::packet::MAX_REQUEST;

    /// Lengths of datagrams as chronyc sends them.
    const OBSERVED: [(u16, usize); 61] = [
        (1, 60),
        (2, 60),
        (3, 68),
        (4, 44),
        (5, 44),
        (6, 28),
        (7, 44),
        (8, 44),
        (9, 28),
        (11, 40),
        (13, 28),
        (14, 32),
        (15, 76),
        (16, 28),
        (17, 44),
        (18, 44),
        (19, 44),
        (20, 44),
        (21, 44),
        (22, 44),
        (23, 44),
        (24, 44),
        (25, 40),
        (26, 40),
        (29, 40),
        (30, 28),
        (31, 28),
        (33, 104),
        (34, 84),
        (35, 56),
        (36, 28),
        (37, 28),
        (41, 416),
        (42, 28),
        (43, 28),
        (44, 48),
        (45, 44),
        (46, 44),
        (47, 44),
        (48, 28),
        (49, 28),
        (50, 28),
        (51, 52),
        (52, 28),
        (53, 28),
        (54, 196),
        (56, 36),
        (57, 172),
        (62, 28),
        (63, 28),
        (64, 372),
        (65, 284),
        (66, 28),
        (67, 52),
        (68, 520),
        (69, 76),
        (70, 28),
        (71, 28),
        (72, 52),
        (73, 48),
        (74, 48),
    ];

    #[test]
    fn requests_have_the_lengths_that_chronyc_sends() {
        for (command, len) in OBSERVED {
            assert_eq!(find(command, len).map(Entry::request_len), Ok(len), "{command}");
            assert_eq!(find(command, MAX_REQUEST).map(Entry::request_len), Ok(len), "{command}");
        }
        let numbers: BTreeSet<u16> = ALL.iter().map(|entry| entry.command).collect();
        assert_eq!(numbers.len(), OBSERVED.len());
        assert_eq!([find(10, 860), find(75, 860)], [Err(Status::Invalid); 2]);
        assert_eq!(find(33, 103), Err(Status::BadLength));
        assert_eq!(find(74, 40), Ok(&LOCAL_4_6));
        // As those of Debian 12 send them.
        for (command, len, reply) in [(54, 72, 24), (54, 195, 24), (57, 152, 16), (57, 172, 26)] {
            assert_eq!(find(command, len).map(|entry| entry.reply), Ok(reply), "{command} {len}");
        }
    }
}
