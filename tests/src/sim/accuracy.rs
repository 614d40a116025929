//! How well a clock is kept: the scenarios that clients are compared in, and how a run is scored.
//!
//! Each scenario has the same distributions, times and lengths as the one of that name in the external simulator in which
//! chronyd was measured (`tests/bench/accuracy/chronyd.json`).

use std::time::Duration;

use clock_control::{FrequencyJump, Oscillator, Temperature};
use ntp_proto::time::Rate;

use super::{ClientSpec, Path, ServerId, ServerSpec, SourceSpec, Trace, World};

mod scenarios;

pub use scenarios::{SCENARIOS, UNSEEN};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// For how long an error must stay small to have become so, in seconds.
const SETTLED: f64 = 1800.0;
/// A run that ends sooner after the error became small does not count as settled, in seconds.
const TOO_SHORT: f64 = 300.0;

/// Something that changes during a run.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// The clock of a server jumps by so many seconds.
    Server(usize, f64),
    /// The way back from a server gets longer by so many seconds.
    LongerBack(usize, f64),
    /// So much of all packets is lost, each way.
    Loss(f64),
}

/// A machine, its network and what happens to them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The way to each server.
    pub paths: Vec<Path>,
    /// The machine's oscillator.
    pub oscillator: Oscillator,
    /// How far its clock is ahead at the start, in seconds.
    pub offset: f64,
    /// How long the run lasts, in seconds.
    pub seconds: f64,
    /// From when on it is scored, in seconds.
    pub settle: f64,
    /// Poll intervals, log2 seconds, where the scenario sets them.
    pub polls: Option<(i8, i8)>,
    /// What changes, and when.
    pub changes: Vec<(f64, Change)>,
}

/// How a run went. Errors in seconds; times in seconds since the start, infinite for never.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    /// Root mean square of the clock's error.
    pub rms: f64,
    /// 95 % of its errors are smaller.
    pub p95: f64,
    /// The largest.
    pub max: f64,
    /// Root mean square of the error of its rate, slewing included, s/s.
    pub rate: f64,
    /// Requests sent.
    pub packets: f64,
    /// When the error became less than 10 ms for half an hour.
    pub to_10_ms: f64,
    /// The same for 1 ms.
    pub to_1_ms: f64,
    /// The same for 100 µs.
    pub to_100_us: f64,
    /// Seconds of the whole run in which the error was larger than the claimed bound.
    pub broken: usize,
    /// Seconds in which a bound was claimed.
    pub bounded: usize,
}

impl Scenario {
    /// Runs it once; `polls` takes the place of the usual intervals, but not of the scenario's own.
    ///
    /// # Panics
    ///
    /// If the scenario names a server that it does not have.
    #[must_use]
    pub fn run(&self, seed: u64, polls: (i8, i8)) -> (Score, Trace) {
        let mut world = World::new(seed);
        let servers: Vec<ServerId> = self.paths.iter().map(|_| world.add_server(ServerSpec::default())).collect();
        let source = |(server, path): (&ServerId, &Path)| SourceSpec {
            polls: self.polls.unwrap_or(polls),
            ..SourceSpec::new(*server, *path)
        };
        let sources = servers.iter().zip(&self.paths).map(source).collect();
        let spec = ClientSpec { oscillator: self.oscillator, offset: self.offset, ..ClientSpec::new(sources) };
        let client = world.add_client(spec);
        for (at, change) in &self.changes {
            world.run_until(*at);
            match *change {
                Change::Server(server, by) => world.server_mut(servers[server]).error += by,
                Change::LongerBack(server, by) => world.path_mut(client, server).expect("a source").back += by,
                Change::Loss(loss) => {
                    for server in 0..servers.len() {
                        world.path_mut(client, server).expect("a source").loss = loss;
                    }
                }
            }
        }
        world.run_until(self.seconds);
        let trace = world.trace(client).clone();
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let packets = world.traffic(client).requests as f64;
        (Score::of(&trace, self.settle, packets), trace)
    }
}

impl Score {
    fn of(trace: &Trace, settle: f64, packets: f64) -> Self {
        let mut errors: Vec<f64> = trace.points.iter().filter(|p| p.at >= settle).map(|p| p.error.abs()).collect();
        errors.sort_by(f64::total_cmp);
        let settled = trace.points.iter().filter(|p| p.at >= settle);
        let steps: Vec<f64> =
            settled.clone().zip(settled.skip(1)).map(|(a, b)| (b.error - a.error) / (b.at - a.at)).collect();
        #[expect(clippy::cast_precision_loss, reason = "some hundred thousand seconds")]
        let mean_square = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        Self {
            rms: mean_square(&errors).sqrt(),
            p95: errors[errors.len() * 95 / 100],
            max: errors.last().copied().unwrap_or(f64::NAN),
            rate: mean_square(&steps).sqrt(),
            packets,
            to_10_ms: converged(trace, 10e-3),
            to_1_ms: converged(trace, 1e-3),
            to_100_us: converged(trace, 100e-6),
            broken: trace.broken_bounds(0.0),
            bounded: trace.points.iter().filter(|p| p.bound.is_finite()).count(),
        }
    }
}

/// From when on the error was at most `limit` for half an hour, or to the end.
fn converged(trace: &Trace, limit: f64) -> f64 {
    let mut since = None;
    for point in &trace.points {
        if point.error.is_nan() || point.error.abs() > limit {
            since = None;
            continue;
        }
        let start: f64 = *since.get_or_insert(point.at);
        if point.at - start >= SETTLED {
            return start;
        }
    }
    let end = trace.points.last().map_or(0.0, |p| p.at);
    since.filter(|start| end - start >= TOO_SHORT).unwrap_or(f64::INFINITY)
}

/// The value in the middle of several runs.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
