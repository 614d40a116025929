//! Settings of one source, and who is answered.

use ipnet::IpNet;
use ntp_proto::{select::SelectOptions, source::Tune, time::PollInterval};

use super::{
    answer::{Answer, Asking, Host},
    bodies::{AccessBody, NumberBody, SelectOptionsBody, SettingBody, flags, options},
    codec::Address,
    packet::Status,
    table::{self, Entry},
};
use crate::{
    config::{AccessChange, DELAYS, DEVIATIONS, RATIOS},
    observe::control::{Change, tune::max_delay},
};

/// Whether a request is one of these.
pub(super) fn is_known(entry: &Entry) -> bool {
    let of_source = [
        table::MINPOLL,
        table::MAXPOLL,
        table::MINSTRATUM,
        table::POLLTARGET,
        table::MAXDELAY,
        table::MAXDELAYRATIO,
        table::MAXDELAYDEVRATIO,
        table::SELECTOPTS,
    ];
    of_source.contains(entry) || SERVED.contains(entry) || ANSWERED.contains(entry)
}

/// Changes of who is served.
const SERVED: [Entry; 4] = [table::ALLOW, table::ALLOW_ALL, table::DENY, table::DENY_ALL];
/// Changes of from where requests of this protocol are answered over UDP.
const ANSWERED: [Entry; 4] = [table::CMDALLOW, table::CMDALLOW_ALL, table::CMDDENY, table::CMDDENY_ALL];

impl<H: Host> Asking<'_, H> {
    /// Changes one of them.
    pub(super) fn tune(&mut self) -> Result<Answer, Status> {
        let change = match *self.entry {
            table::MINPOLL | table::MAXPOLL | table::MINSTRATUM | table::POLLTARGET => {
                let SettingBody { address, value } = self.get()?;
                let tune = setting(self.entry, value).ok_or(Status::Invalid)?;
                Change::Tune { source: self.meant(address)?, tune }
            }
            table::MAXDELAY | table::MAXDELAYRATIO | table::MAXDELAYDEVRATIO => {
                let NumberBody { address, value } = self.get()?;
                let tune = number(self.entry, value).ok_or(Status::Invalid)?;
                Change::Tune { source: self.meant(address)?, tune }
            }
            table::SELECTOPTS => {
                let body: SelectOptionsBody = self.get()?;
                Change::Tune { source: self.meant(body.address)?, tune: select(&body) }
            }
            entry if ANSWERED.contains(&entry) => Change::ChronycAccess(access(self.entry, &self.get()?)?),
            _ => Change::Access(access(self.entry, &self.get()?)?),
        };
        self.host.change(&change)?;
        Ok(Status::Success.into())
    }

    /// The source with this address, as changes name it.
    fn meant(&mut self, address: Address) -> Result<String, Status> {
        let source = self.by_address(address)?;
        source.address.map(|address| address.ip().to_string()).ok_or(Status::NoSuchSource)
    }
}

fn setting(entry: &Entry, value: i32) -> Option<Tune> {
    let poll = || i8::try_from(value).ok().and_then(PollInterval::new);
    let within = |least: u8, most: u8| u8::try_from(value).ok().filter(|value| (least..=most).contains(value));
    match *entry {
        table::MINPOLL => poll().map(Tune::MinPoll),
        table::MAXPOLL => poll().map(Tune::MaxPoll),
        table::MINSTRATUM => within(0, 15).map(Tune::MinStratum),
        _ => within(1, 64).map(Tune::PollTarget),
    }
}

/// Nothing is no limit, as in chrony.
fn number(entry: &Entry, value: f64) -> Option<Tune> {
    let is_off = value.abs() < 1e-9;
    match *entry {
        // What comes later is not waited for.
        table::MAXDELAY => max_delay(value.min(DELAYS.end().as_secs_f64())).map(Tune::MaxDelay),
        table::MAXDELAYRATIO if is_off => Some(Tune::MaxDelayRatio(None)),
        table::MAXDELAYRATIO => RATIOS.contains(&value).then_some(Tune::MaxDelayRatio(Some(value))),
        _ if is_off => Some(Tune::MaxDelayDeviations(None)),
        _ => DEVIATIONS.contains(&value).then_some(Tune::MaxDelayDeviations(Some(value))),
    }
}

/// The mask has the bits of a report, the options those of a new source.
fn select(body: &SelectOptionsBody) -> Tune {
    let masked = |bit: u16| body.mask & u32::from(bit) != 0;
    let set = |flag: u32| body.options & flag != 0;
    let which = SelectOptions {
        noselect: masked(options::NOSELECT),
        prefer: masked(options::PREFER),
        trust: masked(options::TRUST),
        require: masked(options::REQUIRE),
    };
    let to = SelectOptions {
        noselect: set(flags::NOSELECT),
        prefer: set(flags::PREFER),
        trust: set(flags::TRUST),
        require: set(flags::REQUIRE),
    };
    Tune::Select { which, to }
}

fn access(entry: &Entry, body: &AccessBody) -> Result<AccessChange, Status> {
    let allows = [table::ALLOW, table::ALLOW_ALL, table::CMDALLOW, table::CMDALLOW_ALL].contains(entry);
    let all = [table::ALLOW_ALL, table::DENY_ALL, table::CMDALLOW_ALL, table::CMDDENY_ALL].contains(entry);
    let range = match body.address {
        Address::Unspecified if body.prefix_length == 0 => None,
        Address::Ip(address) => {
            let bits = u8::try_from(body.prefix_length).map_err(|_| Status::BadSubnet)?;
            Some(IpNet::new(address, bits).map_err(|_| Status::BadSubnet)?)
        }
        Address::Unspecified | Address::Id(_) => return Err(Status::BadSubnet),
    };
    Ok(AccessChange { allows, all, range })
}
