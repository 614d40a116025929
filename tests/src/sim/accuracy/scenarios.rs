//! The scenarios.

use super::{Change, DAY, Duration, FrequencyJump, HOUR, Oscillator, Path, Rate, Scenario, Temperature};

/// Least way to each of four servers on the Internet, in seconds.
const FAR: [f64; 4] = [0.008, 0.012, 0.018, 0.025];

/// The scenarios in which chronyd was measured.
pub const SCENARIOS: [fn() -> Scenario; 17] = [
    lan_hwts,
    lan,
    lan_poll4,
    lan_wander,
    wan,
    wan_asym,
    wifi,
    cold_lan,
    cold_wan,
    cold_far,
    temp_step,
    falseticker,
    outage,
    asym_step,
    wan_bell,
    pool_bias,
    long_7d,
];

/// Others of the same kind, which nothing was ever tuned for.
pub const UNSEEN: [fn() -> Scenario; 6] = [mobile, office, near_and_far, two_servers, loaded, swing];

fn quartz(ppm: f64, wander: f64) -> Oscillator {
    Oscillator { frequency: Rate::from_ppm(ppm), wander: Rate::new(wander), ..Oscillator::default() }
}

fn cycle(amplitude: f64, period: f64) -> Temperature {
    Temperature { amplitude: Rate::new(amplitude), period: Duration::from_secs_f64(period), turns: 0.0 }
}

/// A day with one server near by.
fn lan() -> Scenario {
    Scenario {
        name: "lan",
        paths: vec![Path::symmetric(100e-6, 50e-6)],
        oscillator: quartz(20.0, 1e-9),
        offset: 0.01,
        seconds: DAY,
        settle: 4.0 * HOUR,
        polls: None,
        changes: Vec::new(),
    }
}

/// A day with four servers on the Internet.
fn wan() -> Scenario {
    Scenario {
        name: "wan",
        paths: FAR.map(|way| Path::symmetric(way, 1e-3)).to_vec(),
        oscillator: quartz(-15.0, 1e-9),
        offset: 0.02,
        ..lan()
    }
}

fn each(scenario: Scenario, change: impl Fn(Path) -> Path) -> Scenario {
    Scenario { paths: scenario.paths.into_iter().map(change).collect(), ..scenario }
}

/// An hour from the start.
fn cold(scenario: Scenario) -> Scenario {
    Scenario { seconds: HOUR, settle: HOUR / 2.0, ..scenario }
}

/// Timestamps as good as those of hardware.
fn lan_hwts() -> Scenario {
    Scenario {
        name: "lan-hwts",
        paths: vec![Path::symmetric(20e-6, 1e-6)],
        oscillator: quartz(10.0, 1e-9),
        offset: 0.001,
        seconds: 4.0 * HOUR,
        settle: HOUR,
        polls: Some((0, 0)),
        ..lan()
    }
}

fn lan_poll4() -> Scenario {
    Scenario { name: "lan-poll4", polls: Some((4, 4)), ..lan() }
}

/// An oscillator that nobody keeps warm.
fn lan_wander() -> Scenario {
    Scenario { name: "lan-wander", oscillator: quartz(20.0, 1e-8), ..lan() }
}

/// A link that is full in one direction.
fn wan_asym() -> Scenario {
    let full = |path| Path { jitter_back: 10e-3, ..path };
    Scenario { name: "wan-asym", ..each(wan(), full) }
}

fn wifi() -> Scenario {
    let radio = |path: Path| Path { loss: 0.05, spike: 0.2, spike_delay: 50e-3, ..Path::symmetric(path.there, 3e-3) };
    Scenario { name: "wifi", oscillator: quartz(25.0, 3e-9), offset: 0.05, ..each(wan(), radio) }
}

fn cold_lan() -> Scenario {
    cold(Scenario { name: "cold-lan", oscillator: quartz(50.0, 1e-9), offset: 0.1, ..lan() })
}

fn cold_wan() -> Scenario {
    cold(Scenario { name: "cold-wan", oscillator: quartz(-100.0, 1e-9), offset: 10.0, ..wan() })
}

fn cold_far() -> Scenario {
    let paths = vec![Path::symmetric(20e-3, 5e-3)];
    cold(Scenario { name: "cold-far", paths, oscillator: quartz(100.0, 1e-9), offset: 1000.0, ..lan() })
}

fn temp_step() -> Scenario {
    let jump = FrequencyJump { at: Duration::from_secs(43_200), by: Rate::from_ppm(1.0) };
    Scenario { name: "temp-step", oscillator: Oscillator { jump: Some(jump), ..quartz(20.0, 1e-9) }, ..lan() }
}

fn falseticker() -> Scenario {
    Scenario { name: "falseticker", changes: vec![(12.0 * HOUR, Change::Server(0, 0.1))], ..wan() }
}

fn outage() -> Scenario {
    let changes = vec![(12.0 * HOUR, Change::Loss(1.0)), (18.0 * HOUR, Change::Loss(0.0))];
    Scenario { name: "outage", changes, ..wan() }
}

fn asym_step() -> Scenario {
    Scenario { name: "asym-step", changes: vec![(12.0 * HOUR, Change::LongerBack(0, 8e-3))], ..wan() }
}

fn wan_bell() -> Scenario {
    Scenario { name: "wan-bell", ..each(wan(), |path| Path { waits: 4, ..path }) }
}

fn pool_bias() -> Scenario {
    let ways = [3e-3, -2e-3, 1e-3, -4e-3];
    let path = |bias: f64| Path { there: 0.015 + bias, back: 0.015 - bias, ..Path::symmetric(0.0, 1e-3) };
    Scenario { name: "pool-bias", paths: ways.map(path).to_vec(), ..wan() }
}

fn long_7d() -> Scenario {
    let oscillator =
        Oscillator { temperature: Some(cycle(1e-6, DAY)), draught: Some(cycle(2e-8, 1800.0)), ..quartz(-15.0, 3e-10) };
    Scenario { name: "long-7d", oscillator, seconds: 7.0 * DAY, settle: DAY, ..wan() }
}

/// A modem: long, uneven, lossy.
fn mobile() -> Scenario {
    let radio = |path: Path| Path {
        back: path.back + 0.04,
        jitter_back: 12e-3,
        waits: 2,
        loss: 0.02,
        spike: 0.05,
        spike_delay: 0.15,
        ..Path::symmetric(path.there + 0.03, 6e-3)
    };
    Scenario { name: "mobile", oscillator: quartz(-40.0, 5e-9), offset: 0.3, ..each(wan(), radio) }
}

/// One server in the building, and an air conditioner.
fn office() -> Scenario {
    let oscillator = Oscillator { temperature: Some(cycle(2e-7, 2400.0)), ..quartz(8.0, 2e-9) };
    Scenario { name: "office", paths: vec![Path::symmetric(300e-6, 120e-6)], oscillator, ..lan() }
}

/// One server near by and three far away.
fn near_and_far() -> Scenario {
    let mut paths: Vec<Path> = FAR[1..].iter().map(|way| Path { waits: 2, ..Path::symmetric(*way, 2e-3) }).collect();
    paths.insert(0, Path::symmetric(150e-6, 80e-6));
    Scenario { name: "near-and-far", paths, oscillator: quartz(12.0, 2e-9), ..wan() }
}

/// Two servers whose ways are wrong by a millisecond in opposite directions.
fn two_servers() -> Scenario {
    let path = |there, back| Path { there, back, ..Path::symmetric(0.0, 600e-6) };
    Scenario { name: "two-servers", paths: vec![path(0.006, 0.004), path(0.010, 0.012)], ..wan() }
}

/// Servers on a link that is busy both ways, with a bell-shaped queue.
fn loaded() -> Scenario {
    let busy = |path: Path| Path { waits: 6, spike: 0.1, spike_delay: 20e-3, ..Path::symmetric(path.there, 4e-3) };
    Scenario { name: "loaded", oscillator: quartz(30.0, 2e-9), ..each(wan(), busy) }
}

/// A machine that heats up and cools down twice a day, and jumps once.
fn swing() -> Scenario {
    let oscillator = Oscillator {
        temperature: Some(cycle(3e-6, DAY / 2.0)),
        draught: Some(cycle(5e-8, 900.0)),
        jump: Some(FrequencyJump { at: Duration::from_secs(50_000), by: Rate::from_ppm(-2.0) }),
        ..quartz(-5.0, 1e-9)
    };
    Scenario { name: "swing", oscillator, ..wan() }
}
