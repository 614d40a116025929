//! Whether a clock is never worse than it says: machines that are treated badly.

use std::time::Duration;

use clock_control::{Oscillator, Temperature};
use ntp_proto::time::Rate;

use super::{ClientSpec, Path, Point, Random, ServerId, ServerSpec, SourceSpec, World};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// Something that happens to a machine.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// Its oscillator runs faster by this much from now on, s/s.
    Bend(f64),
    /// The ways to and from its first source take so many seconds.
    Ways(f64, f64),
    /// No source answers from now on, or they answer again.
    Silence(bool),
    /// Somebody sets the clock forward by so many seconds, and it is noticed.
    Set(f64),
    /// It sleeps for so many seconds.
    Sleep(f64),
}

/// A machine, its network and what happens to it.
#[derive(Clone, Debug)]
pub struct Ordeal {
    /// Its name.
    pub name: &'static str,
    /// The way to each source.
    pub paths: Vec<Path>,
    /// The machine's oscillator.
    pub oscillator: Oscillator,
    /// How long it lasts, in seconds.
    pub seconds: f64,
    /// What happens, and when.
    pub blows: Vec<(f64, Blow)>,
}

/// The ordeals; chance decides when and how much.
pub const ORDEALS: [fn(&mut Random) -> Ordeal; 15] = [
    one_way,
    flipping_way,
    bends_near,
    bends_on_a_lan,
    bends_among_three,
    bends_far_away,
    small_bends,
    hourly_swing,
    slow_swing,
    daily_swing,
    lost_for_hours,
    lost_for_days,
    bent_while_lost,
    set_by_hand,
    asleep,
];

impl Ordeal {
    /// Undergoes it, with poll intervals in this range (log2 seconds). Points at which the machine slept are left out.
    ///
    /// # Panics
    ///
    /// If an ordeal has no source.
    #[must_use]
    pub fn run(&self, seed: u64, polls: (i8, i8)) -> Vec<Point> {
        let mut world = World::new(seed);
        let servers: Vec<ServerId> = self.paths.iter().map(|_| world.add_server(ServerSpec::default())).collect();
        let source = |(server, path): (&ServerId, &Path)| SourceSpec { polls, ..SourceSpec::new(*server, *path) };
        let sources = servers.iter().zip(&self.paths).map(source).collect();
        let client = world.add_client(ClientSpec { oscillator: self.oscillator, ..ClientSpec::new(sources) });
        let mut asleep = Vec::new();
        for (at, blow) in &self.blows {
            world.run_until(*at);
            match *blow {
                Blow::Bend(by) => world.bend(client, Rate::new(by)),
                Blow::Ways(there, back) => {
                    let path = world.path_mut(client, 0).expect("a source");
                    (path.there, path.back) = (there, back);
                }
                Blow::Silence(silent) => {
                    let from = if silent { *at } else { f64::INFINITY };
                    servers.iter().for_each(|server| world.server_mut(*server).silent_from = from);
                }
                Blow::Set(by) => world.jump(client, by, true),
                Blow::Sleep(seconds) => {
                    world.suspend(client);
                    world.run_until(at + seconds);
                    world.resume(client);
                    asleep.push((*at, at + seconds));
                }
            }
        }
        world.run_until(self.seconds);
        let awake = |point: &Point| asleep.iter().all(|(from, to)| point.at < *from || point.at > *to);
        world.trace(client).points.iter().copied().filter(awake).collect()
    }
}

fn lan() -> Ordeal {
    Ordeal {
        name: "lan",
        paths: vec![Path::symmetric(100e-6, 50e-6)],
        oscillator: quartz(1e-9),
        seconds: DAY,
        blows: Vec::new(),
    }
}

fn quartz(wander: f64) -> Oscillator {
    Oscillator { frequency: Rate::from_ppm(20.0), wander: Rate::new(wander), ..Oscillator::default() }
}

/// A cycle in which the frequency changes by at most 10 ppm in an hour.
fn swing(period: f64, random: &mut Random) -> Oscillator {
    let amplitude = Rate::new(10e-6 / HOUR * period / std::f64::consts::TAU);
    let cycle = Temperature { amplitude, period: Duration::from_secs_f64(period), turns: random.uniform() };
    Oscillator { temperature: Some(cycle), ..quartz(1e-9) }
}

fn either(random: &mut Random, size: f64) -> f64 {
    size * (2.0 * random.uniform() - 1.0)
}

/// Times some hours apart.
fn now_and_then(random: &mut Random, from: f64, to: f64) -> Vec<f64> {
    let mut times = Vec::new();
    let mut at = from;
    while at < to {
        times.push(at);
        at += HOUR * (1.0 + 3.0 * random.uniform());
    }
    times
}

/// All of the delay is on one way: the error is as large as it can be.
fn one_way(random: &mut Random) -> Ordeal {
    let delay = 0.1 * random.uniform();
    let (there, back) = if random.chance(0.5) { (delay, 1e-6) } else { (1e-6, delay) };
    let path = Path { there, back, ..Path::symmetric(0.0, 20e-6) };
    Ordeal { name: "one-way", paths: vec![path], seconds: DAY / 2.0, ..lan() }
}

/// The same, and it turns around now and then, which no delay tells.
fn flipping_way(random: &mut Random) -> Ordeal {
    let delay = 0.1 * random.uniform();
    let mut ways = (delay, 1e-6);
    let path = Path { there: ways.0, back: ways.1, ..Path::symmetric(0.0, 20e-6) };
    let flip = |at| {
        ways = (ways.1, ways.0);
        (at, Blow::Ways(ways.0, ways.1))
    };
    let blows = now_and_then(random, 2.0 * HOUR, DAY).into_iter().map(flip).collect();
    Ordeal { name: "flipping-way", paths: vec![path], blows, ..lan() }
}

fn bends(random: &mut Random, ordeal: Ordeal) -> Ordeal {
    let times = now_and_then(random, HOUR, ordeal.seconds);
    let blows = times.into_iter().map(|at| (at, Blow::Bend(either(random, 10e-6)))).collect();
    Ordeal { blows, ..ordeal }
}

/// The frequency jumps now and then.
fn bends_near(random: &mut Random) -> Ordeal {
    bends(random, Ordeal { name: "bends-near", paths: vec![Path::symmetric(20e-6, 1e-6)], ..lan() })
}

fn bends_on_a_lan(random: &mut Random) -> Ordeal {
    bends(random, Ordeal { name: "bends-lan", ..lan() })
}

fn bends_among_three(random: &mut Random) -> Ordeal {
    let paths = [100e-6, 150e-6, 60e-6].map(|way| Path::symmetric(way, 50e-6)).to_vec();
    bends(random, Ordeal { name: "bends-three", paths, ..lan() })
}

/// Jumps of all sizes from 0.1 ppm on, some of which hide in the noise for long.
fn small_bends(random: &mut Random) -> Ordeal {
    let times = now_and_then(random, HOUR, DAY);
    let blow = |at| (at, Blow::Bend(either(random, 1.0).signum() * 1e-7 * 100.0_f64.powf(random.uniform())));
    Ordeal { name: "bends-small", blows: times.into_iter().map(blow).collect(), ..lan() }
}

fn bends_far_away(random: &mut Random) -> Ordeal {
    let paths = [0.008, 0.012, 0.018].map(|way| Path::symmetric(way, 1e-3)).to_vec();
    bends(random, Ordeal { name: "bends-wan", paths, ..lan() })
}

fn hourly_swing(random: &mut Random) -> Ordeal {
    Ordeal { name: "swing-1h", oscillator: swing(HOUR, random), ..lan() }
}

fn slow_swing(random: &mut Random) -> Ordeal {
    Ordeal { name: "swing-4h", oscillator: swing(4.0 * HOUR, random), ..lan() }
}

fn daily_swing(random: &mut Random) -> Ordeal {
    Ordeal { name: "swing-24h", oscillator: swing(DAY, random), ..lan() }
}

/// Sources are lost and come back.
fn lost(random: &mut Random, name: &'static str, seconds: f64) -> Ordeal {
    let oscillator = Oscillator { wander: Rate::new(1e-8), ..swing(HOUR * (1.0 + 5.0 * random.uniform()), random) };
    let from = HOUR * (1.0 + 5.0 * random.uniform());
    let blows = vec![(from, Blow::Silence(true)), (from + seconds, Blow::Silence(false))];
    Ordeal { name, oscillator, blows, seconds: from + seconds + 6.0 * HOUR, ..lan() }
}

fn lost_for_hours(random: &mut Random) -> Ordeal {
    lost(random, "lost-6h", 6.0 * HOUR)
}

fn lost_for_days(random: &mut Random) -> Ordeal {
    lost(random, "lost-3d", 3.0 * DAY)
}

/// They are lost, and the frequency jumps meanwhile.
fn bent_while_lost(random: &mut Random) -> Ordeal {
    let mut ordeal = Ordeal { name: "lost-bent", ..lost(random, "", DAY) };
    ordeal.oscillator = quartz(1e-9);
    let from = ordeal.blows[0].0;
    ordeal.blows.insert(1, (from + HOUR * random.uniform(), Blow::Bend(either(random, 10e-6))));
    ordeal
}

fn set_by_hand(random: &mut Random) -> Ordeal {
    let times = now_and_then(random, HOUR, DAY);
    let sizes = [0.002, 0.3, 5.0, 100.0];
    let blows = times.iter().zip(sizes.iter().cycle()).map(|(at, size)| (*at, Blow::Set(either(random, *size))));
    Ordeal { name: "set", blows: blows.collect(), ..lan() }
}

/// It sleeps now and then, and is colder or warmer when it wakes up.
fn asleep(random: &mut Random) -> Ordeal {
    let mut blows = Vec::new();
    for at in now_and_then(random, HOUR, DAY) {
        blows.extend([(at, Blow::Sleep(0.9 * HOUR * random.uniform())), (at + 1.0, Blow::Bend(either(random, 3e-6)))]);
    }
    Ordeal { name: "asleep", blows, seconds: DAY + HOUR, ..lan() }
}
