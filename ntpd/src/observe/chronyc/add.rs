//! A new source, as `add` of chronyc describes it.

use std::net::IpAddr;

use ntp_proto::{
    ids::KeyId,
    pool::{MAX_MEMBERS, Name},
    select::SelectOptions,
    time::PollInterval,
};

use super::{
    bodies::{AddSourceBody, flags},
    packet::Status,
};
use crate::config::{Added, Host, NtsUse, Pool, PoolModeName, Require, Server, SourceOptions};

const SERVER: u32 = 1;
const PEER: u32 = 2;
const POOL: u32 = 3;

/// What this program has no use for; a source that needs it is not added, lest it be trusted more than was meant.
const NOT_OFFERED: u32 =
    flags::COPY | flags::EXT_MONO_ROOT | flags::EXT_CORRECTION | flags::AUTO_OFFLINE | flags::IPV4 | flags::IPV6;

/// The source that is described, and whether it is to be asked from the start.
pub(super) fn source(body: &AddSourceBody) -> Result<(Added, bool), Status> {
    if !is_offered(body) {
        return Err(Status::Failed);
    }
    let name = text(body).ok_or(Status::InvalidName)?;
    let has = |flag| body.flags & flag != 0;
    let nts = match (body.key, has(flags::NTS)) {
        (0, true) => NtsUse::Require,
        (0, false) => NtsUse::Auto,
        (_, true) => return Err(Status::Invalid),
        (_, false) => NtsUse::Off,
    };
    let port = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0).ok_or(Status::Invalid);
    let (ntp_port, ke_port, options) = (port(body.port)?, port(body.nts_port)?, options(body)?);
    let named = || Name::parse(name).map_err(|_| Status::InvalidName);
    let added = match body.kind {
        SERVER => Added::Server(Server {
            host: match name.parse::<IpAddr>() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(named()?),
            },
            port: ntp_port,
            ke_port,
            nts,
            key: Some(KeyId(body.key)).filter(|key| key.0 > 0),
            require: Require::default(),
            address_hints: Vec::new(),
            options,
        }),
        POOL if body.key == 0 => Added::Pool(Pool {
            name: named()?,
            mode: PoolModeName::Auto,
            count: usize::try_from(body.max_sources).unwrap_or(MAX_MEMBERS).clamp(1, MAX_MEMBERS),
            nts,
            port: ntp_port,
            ke_port,
            require: Require::default(),
            address_hints: Vec::new(),
            options,
        }),
        POOL | PEER => return Err(Status::Failed),
        _ => return Err(Status::Invalid),
    };
    Ok((added, has(flags::ONLINE)))
}

/// The name, which ends with a zero.
fn text(body: &AddSourceBody) -> Option<&str> {
    let end = body.name.iter().position(|octet| *octet == 0)?;
    std::str::from_utf8(body.name.get(..end)?).ok().filter(|name| !name.is_empty())
}

/// Whether nothing is asked for but what there is. What versions before chrony's own last one did not know of is zero.
fn is_offered(body: &AddSourceBody) -> bool {
    const NO_PRESEND: i32 = 100;
    const AUTOMATIC: f64 = 1.0;
    let near = |value: f64, default: f64| (value - default).abs() < 1e-3;
    body.flags & NOT_OFFERED == 0
        && body.presend_min_poll >= NO_PRESEND
        && body.min_stratum == 0
        && body.min_samples < 0
        && body.max_samples < 0
        && near(body.max_delay_seconds, 3.0)
        && near(body.max_delay_ratio, 0.0)
        && near(body.max_delay_deviation_ratio, 10.0)
        && near(body.max_delay_quantile, 0.0)
        && near(body.min_delay_seconds, 0.0)
        && near(body.asymmetry, AUTOMATIC)
        && near(body.offset_seconds, 0.0)
        && body.filter_length <= 0
        && body.certificate_set == 0
}

fn options(body: &AddSourceBody) -> Result<SourceOptions, Status> {
    let has = |flag| body.flags & flag != 0;
    let poll = |log2: i32| i8::try_from(log2).ok().and_then(PollInterval::new).ok_or(Status::Invalid);
    let (min_poll, max_poll) = (poll(body.min_poll)?, poll(body.max_poll)?);
    let select = SelectOptions {
        noselect: has(flags::NOSELECT),
        prefer: has(flags::PREFER),
        trust: has(flags::TRUST),
        require: has(flags::REQUIRE),
    };
    Ok(SourceOptions {
        min_poll,
        max_poll: max_poll.max(min_poll),
        iburst: has(flags::IBURST),
        burst: has(flags::BURST),
        interleaved: has(flags::INTERLEAVED),
        version: match body.version {
            0 | 4 => 4,
            3 => 3,
            _ => return Err(Status::Invalid),
        },
        select,
    })
}
