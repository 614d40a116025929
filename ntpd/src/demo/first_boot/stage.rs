//! Operators, one of them an impostor, and a machine that knows no time.
//!
//! What time it is there is chosen, long after this program was built: all servers are ahead of the machine's clock by as much.
//! So the story is the same whenever it is told.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use clock_control::{Oscillator, SimClock};
use ntp_proto::{
    bootstrap::{ClockFacts, SetBy, Window},
    nts::Keyring,
    pool::Name,
    time::NtpDuration,
};

use crate::{
    client::{BUILT, Client, Known, Parts},
    clock::{LocalClock, Simulated},
    config::{self, Loaded, Origin},
    demo::{
        folder::Folder,
        pki::{AUTHORITY, Authority},
        stage::exchange,
        visitor::{FREQUENCY, PRECISION},
    },
    ke::{accept::KeServer, connect::KeyExchanger},
    now,
    resolve::Resolver,
    serve::Server,
    start::{StartError, parts, random_seed},
};

const DAY: i64 = 86_400;
/// What time it is at the beginning, in Unix seconds.
pub(super) const TRUE: i64 = BUILT.seconds + 300 * DAY;
/// For how long certificates are valid, in seconds.
const LIFE: i64 = 90 * DAY;
/// When the certificate was issued whose key was stolen: it has expired, and not before this program was built.
const STOLEN: i64 = TRUE - 200 * DAY;
/// What the machine's clock says at the beginning.
pub(super) const CLOCK: i64 = 0;
/// What its machine says of the time: nothing.
const KNOWN: Known = Known {
    clock: ClockFacts { set_by: SetBy::Nothing, synchronized: false, verified: false, restored: false },
    distribution: None,
    verified: None,
    kept: None,
};
const CONFIG: &str = "ntpd.toml";

/// Names of the operators. In the place of the last there is somebody else.
pub(super) const OPERATORS: [&str; 5] =
    ["time.alder.demo", "time.birch.demo", "time.cedar.demo", "time.elm.demo", "time.fir.demo"];

/// Whether the impostor is in this one's place.
pub(super) const fn is_impostor(operator: usize) -> bool {
    operator + 1 == OPERATORS.len()
}

/// An address in a network of its own.
pub(super) fn address(operator: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, u8::try_from(operator + 1).unwrap_or(u8::MAX), 0, 1)
}

/// When the certificate of an operator is valid.
pub(super) fn life(operator: usize) -> Window {
    #[expect(clippy::cast_possible_wrap, reason = "five of them")]
    let issued = if is_impostor(operator) { STOLEN } else { TRUE - DAY * (5 + 10 * operator as i64) };
    Window { not_before: issued, not_after: issued + LIFE }
}

/// What an operator says that it is at the beginning, in Unix seconds.
pub(super) fn said(operator: usize) -> i64 {
    if is_impostor(operator) { STOLEN + DAY } else { TRUE }
}

/// How far a clock that reads `unix` now is ahead of the machine's.
fn ahead(unix: i64) -> NtpDuration {
    let now = now::unix();
    NtpDuration::from_nanos((unix - now.seconds) * 1_000_000_000 - i64::from(now.nanos))
}

struct Running {
    exchange: KeServer,
    _server: Server,
}

/// Everything that the machine needs around it. What comes first is dropped first, the folder last.
pub(super) struct Stage {
    running: Vec<Running>,
    /// How far true time is ahead of the machine's clock.
    pub(super) truth: NtpDuration,
    folder: Folder,
}

impl Stage {
    /// Makes keys and certificates, and starts all servers.
    pub(super) fn build() -> Result<Self, StartError> {
        let folder = Folder::new()?;
        let authority = Authority::new(&folder)?;
        let truth = ahead(TRUE);
        let start = |operator| {
            let any_port = SocketAddr::new(IpAddr::V4(address(operator)), 0);
            let keyring = Keyring::new(&random_seed()?);
            let lie = NtpDuration::from_nanos((said(operator) - TRUE) * 1_000_000_000);
            let server = Server::reference(any_port, Some(keyring.clone()), truth + lie).map_err(StartError::new)?;
            let ntp_port = server.addresses().first().map_or(0, SocketAddr::port);
            let name = OPERATORS.get(operator).copied().unwrap_or_default();
            authority.certify_for(&folder, name, life(operator))?;
            let exchange = exchange(&folder, name, None, any_port, ntp_port, keyring)?;
            Ok(Running { exchange, _server: server })
        };
        let running = (0..OPERATORS.len()).map(start).collect::<Result<_, StartError>>()?;
        Ok(Self { running, truth, folder })
    }

    /// Starts the daemon's client, with a clock of its own.
    pub(super) fn boot(&self) -> Result<Client, StartError> {
        self.folder.write(CONFIG, &self.configuration())?;
        let Loaded { config, keys, .. } =
            config::load(&Origin::File(self.folder.path(CONFIG))).map_err(StartError::new)?;
        let host = |operator: usize| {
            let name = Name::parse(OPERATORS.get(operator).copied().unwrap_or_default()).map_err(StartError::new)?;
            Ok((name, vec![IpAddr::V4(address(operator))]))
        };
        let hosts = (0..OPERATORS.len()).map(host).collect::<Result<BTreeMap<_, _>, StartError>>()?;
        let resolver = Resolver::with_hosts(hosts).without_system();
        let exchanger = KeyExchanger::new(&config.trust, resolver.clone()).map_err(StartError::new)?;
        let oscillator = Oscillator { frequency: FREQUENCY, ..Oscillator::default() };
        let [a, b, c, d, e, f, g, h, ..] = random_seed()?;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let clock = Simulated::start(|truth| SimClock::new(oscillator, seed, truth, ahead(CLOCK)));
        let clock = LocalClock::Simulated(Box::new(clock));
        let parts = Parts { precision: PRECISION, ..parts(clock, KNOWN, resolver, exchanger)? };
        Ok(Client::new(&config, &keys, parts))
    }

    /// Sources as by default, but that they are asked more often after the first measurements: nobody waits a minute here.
    fn configuration(&self) -> String {
        let mut text = String::new();
        for (name, running) in OPERATORS.iter().zip(&self.running) {
            let port = running.exchange.addresses().first().map_or(0, SocketAddr::port);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "[[server]]\naddress = \"{name}\"\nnts = \"require\"\nke-port = {port}\nmin-poll = 3\nmax-poll = 3"
            );
        }
        text + &format!("[trust]\ncertificates = \"file\"\ncertificate-file = \"{AUTHORITY}\"\n")
    }
}
