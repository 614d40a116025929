//! The client: the daemon's own, with a configuration that knows the pool's name, and with a clock of its own.

use clock_control::{Oscillator, SimClock};
use ntp_proto::{
    bootstrap::{ClockFacts, Judgement, SetBy},
    pool::Name,
    time::{NtpDuration, Rate},
};

use super::{
    pki::AUTHORITY,
    plan::{POOL, SERVERS},
    pool::ANCHOR,
    stage::Stage,
};
use crate::{
    client::{Client, Known, Parts},
    clock::{LocalClock, Simulated},
    config::{self, Loaded, Origin, PoolModeName},
    ke::connect::KeyExchanger,
    lookup::{Lookup, lookup},
    now,
    resolve::Resolver,
    start::{StartError, parts, random_seed},
};

/// How wrong its clock is at the start, in seconds.
pub(super) const OFFSET: f64 = 2.5;
/// How fast it runs away.
pub(super) const FREQUENCY: Rate = Rate::from_ppm(40.0);
/// Its configuration.
const CONFIG: &str = "ntpd.toml";
/// What its machine says of the time: a hardware clock has set it.
const KNOWN: Known = Known {
    clock: ClockFacts {
        set_by: SetBy::HardwareClock { voltage_low: false },
        synchronized: false,
        verified: false,
        restored: false,
    },
    distribution: None,
    verified: None,
    kept: None,
};
/// What its clock is taken to resolve, log2 seconds.
pub(super) const PRECISION: i8 = -24;

/// A client that has not begun.
pub(super) struct Visitor {
    loaded: Loaded,
    exchanger: KeyExchanger,
}

impl Visitor {
    /// Writes its configuration, and reads it as the daemon does.
    pub(super) fn new(stage: &Stage) -> Result<Self, StartError> {
        stage.folder.write(CONFIG, &configuration(stage))?;
        let loaded = config::load(&Origin::File(stage.folder.path(CONFIG))).map_err(StartError::new)?;
        // The names exist here alone: no resolver of the system knows them.
        let resolver = Resolver::new(&loaded.config.trust).map_err(StartError::new)?.without_system();
        let exchanger = KeyExchanger::new(&loaded.config.trust, resolver).map_err(StartError::new)?;
        Ok(Self { loaded, exchanger })
    }

    /// What the pool's name offers.
    pub(super) async fn look_around(&self, ke_port: u16) -> Result<Lookup, StartError> {
        let name = Name::parse(POOL).map_err(StartError::new)?;
        Ok(lookup(&self.exchanger, &name, Some(ke_port), Judgement::At(now::unix())).await)
    }

    /// Begins to keep the clock.
    pub(super) fn begin(self) -> Result<Client, StartError> {
        let Self { loaded: Loaded { config, keys, .. }, exchanger } = self;
        let oscillator = Oscillator { frequency: FREQUENCY, ..Oscillator::default() };
        let [a, b, c, d, e, f, g, h, ..] = random_seed()?;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let simulated =
            Simulated::start(|truth| SimClock::new(oscillator, seed, truth, NtpDuration::from_seconds(OFFSET)));
        let clock = LocalClock::Simulated(Box::new(simulated));
        let resolver = exchanger.resolver().clone();
        let parts = Parts { precision: PRECISION, ..parts(clock, KNOWN, resolver, exchanger)? };
        Ok(Client::new(&config, &keys, parts))
    }
}

fn configuration(stage: &Stage) -> String {
    let Stage { plan, name_server, ntp_port, .. } = stage;
    let pool = format!(
        "[[pool]]\nname = \"{POOL}\"\nmode = \"{}\"\ncount = {SERVERS}\nmin-poll = 0\nmax-poll = 1\n",
        plan.mode.name()
    );
    // The usual ports are not for everybody to serve at.
    let port = match plan.mode {
        PoolModeName::Srv => String::new(),
        PoolModeName::Classic => format!("port = {ntp_port}\n"),
        PoolModeName::Auto | PoolModeName::Lb | PoolModeName::SharedCert | PoolModeName::IpCert => {
            format!("ke-port = {}\n", stage.ke_port())
        }
    };
    format!(
        "{pool}{port}\n[trust]\ncertificates = \"file\"\ncertificate-file = \"{AUTHORITY}\"\ndnssec = \"validate\"\n\
         dnssec-anchor = \"{ANCHOR}\"\nresolver = \"{name_server}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::{
        super::plan::{BALANCER, Certified, Plan, address, host},
        *,
    };
    use crate::lookup::RecordState;

    #[test]
    fn the_name_offers_what_each_mode_needs() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for mode in PoolModeName::value_variants() {
            let plan = Plan::of(*mode);
            let stage = runtime.block_on(Stage::build(plan)).unwrap();
            let visitor = Visitor::new(&stage).unwrap();
            let found = runtime.block_on(visitor.look_around(stage.ke_port())).unwrap();
            assert_eq!(
                (found.nts_services.state, found.targets.len()),
                (RecordState::Secure, 4),
                "{mode:?}: {found:?}"
            );
            for target in &found.targets {
                let exchange = target.server.exchange.as_ref().map(|exchange| exchange.trust);
                assert_eq!(exchange, Some("dane"), "{mode:?}: {found:?}");
            }
            let by_name = found.itself.exchange.as_ref();
            let all: Vec<String> = (1..=SERVERS).map(|number| address(number).to_string()).collect();
            if plan.balanced {
                assert_eq!(found.addresses, [BALANCER.to_string()]);
                let (trust, server) = by_name.map(|exchange| (exchange.trust, &exchange.ntp_server)).unwrap();
                assert!(trust == "dnssec" && (1..=SERVERS).any(|number| host(number) == *server), "{found:?}");
            } else {
                let mut addresses = found.addresses.clone();
                addresses.sort_unstable();
                assert_eq!(addresses, all);
                // The name's own certificate is there where it is shared, and only there.
                assert_eq!(by_name.is_some(), plan.certified == Certified::Pool, "{found:?}");
            }
            let folder = stage.folder.path("");
            drop(stage);
            assert!(!folder.exists(), "{}", folder.display());
        }
    }
}
