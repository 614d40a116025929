//! A new source, as `add` of chronyc describes it.

use std::{net::IpAddr, ops::RangeInclusive};

use ntp_proto::{
    ids::KeyId,
    pool::{MAX_MEMBERS, Name},
    select::SelectOptions,
    source::SampleRules,
    time::PollInterval,
};

use super::{
    bodies::{AddSourceBody, flags},
    packet::Status,
};
use crate::config::{
    Added, DELAYS, DEVIATIONS, Family, Host, MAX_CORRECTION, NtsUse, Pool, PoolModeName, RATIOS, Require, Server,
    SourceOptions,
};

const SERVER: u32 = 1;
const PEER: u32 = 2;
const POOL: u32 = 3;

/// What this program has no use for; a source that needs it is not added, lest it be trusted more than was meant.
const NOT_OFFERED: u32 = flags::COPY | flags::EXT_MONO_ROOT | flags::EXT_CORRECTION | flags::AUTO_OFFLINE;

/// The source that is described.
pub(super) fn source(body: &AddSourceBody) -> Result<Added, Status> {
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
    Ok(added)
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
        && near(body.max_delay_quantile, 0.0)
        && near(body.min_delay_seconds, 0.0)
        && near(body.asymmetry, AUTOMATIC)
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
    let family = match (has(flags::IPV4), has(flags::IPV6)) {
        (true, false) => Some(Family::Ipv4),
        (false, true) => Some(Family::Ipv6),
        (false, false) | (true, true) => None,
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
        offline: !has(flags::ONLINE),
        family,
        rules: rules(body)?,
        roots: None,
        select,
    })
}

/// What is asked of its measurements, within the limits of a file. chronyc always says what is chrony's default for
/// delays beyond the usual; here they are weighed then, as without it.
fn rules(body: &AddSourceBody) -> Result<SampleRules, Status> {
    const WEIGHED: f64 = 10.0;
    let default = SampleRules::default();
    let within =
        |value: f64, range: RangeInclusive<f64>| range.contains(&value).then_some(value).ok_or(Status::Invalid);
    let samples = |count: i32, default: usize| match count {
        ..=0 => Ok(default),
        1..=64 => usize::try_from(count).map_err(|_| Status::Invalid),
        65.. => Err(Status::Invalid),
    };
    let ratio = |value: f64| if value > 0.0 { within(value, RATIOS).map(Some) } else { Ok(None) };
    let deviations = |value: f64| if value > 0.0 { within(value, DEVIATIONS).map(Some) } else { Ok(None) };
    let (min_samples, max_samples) =
        (samples(body.min_samples, default.min_samples)?, samples(body.max_samples, default.max_samples)?);
    let most = MAX_CORRECTION.as_secs_f64();
    Ok(SampleRules {
        correction: within(body.offset_seconds, -most..=most)?,
        min_stratum: u8::try_from(body.min_stratum).ok().filter(|stratum| *stratum < 16).ok_or(Status::Invalid)?,
        // What comes later is not waited for.
        max_delay: within(body.max_delay_seconds, 1e-6..=1e3)?.min(DELAYS.end().as_secs_f64()),
        max_delay_ratio: ratio(body.max_delay_ratio)?,
        max_delay_deviations: deviations(body.max_delay_deviation_ratio)?.filter(|most| (most - WEIGHED).abs() >= 1e-3),
        min_samples: min_samples.min(max_samples),
        max_samples,
        poll_target: u8::try_from(body.poll_target)
            .ok()
            .filter(|target| (1..=64).contains(target))
            .ok_or(Status::Invalid)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            client::{AddSourceBody, flags},
            codec::Field as _,
        },
        *,
    };

    /// What chronyc sends for a server without options.
    fn body() -> AddSourceBody {
        let mut body = AddSourceBody::get(&mut &[0; AddSourceBody::LEN][..]).unwrap();
        body.name[..9].copy_from_slice(b"a.example");
        (body.kind, body.port, body.nts_port, body.flags) = (SERVER, 123, 4460, flags::ONLINE);
        (body.min_poll, body.max_poll, body.presend_min_poll, body.poll_target) = (6, 10, 100, 8);
        (body.min_samples, body.max_samples, body.max_unreach) = (-1, -1, 100_000);
        (body.max_delay_seconds, body.max_delay_deviation_ratio, body.asymmetry) = (3.0, 10.0, 1.0);
        body
    }

    fn options(body: &AddSourceBody) -> Result<SourceOptions, Status> {
        source(body).map(|added| match added {
            Added::Server(server) => server.options,
            Added::Pool(pool) => pool.options,
        })
    }

    #[test]
    fn options_of_a_source_are_taken_and_chronyc_s_defaults_are_ours() {
        let usual = options(&body()).unwrap();
        assert_eq!((usual.rules, usual.offline, usual.family), (SampleRules::default(), false, None));
        let mut body = body();
        body.flags = flags::IPV6;
        (body.offset_seconds, body.min_stratum, body.max_delay_seconds, body.max_delay_ratio) = (-0.25, 3, 0.5, 2.0);
        (body.max_delay_deviation_ratio, body.min_samples, body.max_samples, body.poll_target) = (5.0, 8, 16, 20);
        let given = options(&body).unwrap();
        assert_eq!((given.offline, given.family), (true, Some(Family::Ipv6)));
        let expected = SampleRules {
            correction: -0.25,
            min_stratum: 3,
            max_delay: 0.5,
            max_delay_ratio: Some(2.0),
            max_delay_deviations: Some(5.0),
            min_samples: 8,
            max_samples: 16,
            poll_target: 20,
        };
        assert_eq!(given.rules, expected);
    }

    #[test]
    fn what_no_file_could_say_is_refused() {
        for spoil in [
            (|body: &mut AddSourceBody| body.offset_seconds = 4_000.0) as fn(&mut AddSourceBody),
            |body| body.offset_seconds = f64::NAN,
            |body| body.min_stratum = 16,
            |body| body.min_stratum = u32::MAX,
            |body| body.max_delay_seconds = -1.0,
            |body| body.max_delay_ratio = 0.5,
            |body| body.max_samples = 65,
            |body| body.poll_target = 0,
        ] {
            let mut body = body();
            spoil(&mut body);
            assert_eq!(options(&body), Err(Status::Invalid));
        }
    }
}
