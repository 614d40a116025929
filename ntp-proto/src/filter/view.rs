//! Samples as the models see them.

use arrayvec::ArrayVec;

use super::{
    bank::{FIRST_GAP, Point, Queue},
    kalman::Bias,
    routes::{Route, Routes},
    tracker::{MAX_SAMPLES, MIN_JITTER},
};
use crate::sample::Sample;

/// The usual excess delay before anything is known, as a share of the shortest delay.
const USUAL_EXCESS: f64 = 0.1;
/// Samples that this counts as.
const USUAL_WEIGHT: f64 = 2.0;
/// The ratio of two distances, of the shortest tenth of the samples from the shortest and of the middle from that tenth, from which on packets
/// wait in more places than two and the shortest round trip there is was not seen. In simulated queues, one way six times as long as the
/// other, its median is 0.31 for exponential waits, 0.49 for sums of two, 0.66 of four and 0.81 of eight in 256 samples, and 0.26, 0.39, 0.51 and
/// 0.57 in 64.
const BELL_SHAPED: f64 = 0.45;
/// The largest share of the usual excess delay that is taken to be unseen.
const MOST_UNSEEN: f64 = 0.5;
/// Samples from which on their shape tells something.
const ENOUGH_FOR_SHAPE: usize = 64;
/// Variance of a share that is uniform in -1/2..1/2.
const UNIFORM: f64 = 1.0 / 12.0;
/// How much longer another route is at least, in usual differences between the delays of two samples.
const APART: f64 = 5.0;

/// The samples of one source, at least one.
pub(super) struct View {
    /// Each of them, the newest at 0 seconds.
    pub(super) points: ArrayVec<Point, MAX_SAMPLES>,
    /// What the first route adds to offsets.
    pub(super) first: Bias,
    /// How its packets wait.
    pub(super) queue: Queue,
    /// The shortest round trip on the present route, in seconds.
    pub(super) least: f64,
    /// The shortest of all.
    pub(super) shortest: f64,
}

impl View {
    /// Looks at samples, the oldest first, that came by `routes`. `None` without samples.
    pub(super) fn of(kept: &[Sample], routes: &Routes) -> Option<Self> {
        let (latest, oldest) = (kept.last()?.at, routes.list.first()?);
        let delays = delays(kept);
        let apart = apart(&delays);
        let shortest = shortest(delays.iter().copied());
        let straight = routes.straight();
        // What is as short as the straight one is that, taken again.
        let is_straight =
            |route: &Route| route.least <= straight + apart && (route.confirmed || route.least >= straight);
        // How long a route is says how crooked it may be: what it takes longer than the straight one may be on one way.
        let crooked = |route: &Route| if is_straight(route) { 0.0 } else { UNIFORM * (route.least - straight).powi(2) };
        let ways = ways(&delays, &routes.list, is_straight);
        let excess = |index: usize| delays[index] - ways[routes.place(index)].least;
        let sorted = sorted((0..delays.len()).map(excess));
        let queue = Queue { usual: usual(&sorted, shortest), unseen: unseen(&sorted, shortest) };
        let mut points = ArrayVec::new();
        for (index, k) in kept.iter().enumerate() {
            let place = routes.place(index);
            let (route, way) = (&routes.list[place], ways[place]);
            let before = place.checked_sub(1).filter(|_| route.first == index);
            // Before a longer route was taken a packet may have been held up.
            let least = before.map_or(way.least, |before| ways[before].least.min(way.least));
            points.push(Point {
                at: (k.at - latest).to_seconds(),
                offset: k.offset,
                excess: k.delay - least + k.dispersion,
                gap: FIRST_GAP * queue.usual / way.count.sqrt(),
                begins: before.map(|_| crooked(route)),
            });
        }
        let first = Bias { mean: 0.0, variance: crooked(oldest) };
        Some(Self { points, first: routes.origin.unwrap_or(first), queue, least: ways.last()?.least, shortest })
    }
}

/// The kept samples of a way, which several routes may be.
#[derive(Clone, Copy)]
struct Way {
    least: f64,
    count: f64,
}

/// The way of each route; all that are straight are one.
fn ways(delays: &[f64], routes: &[Route], is_straight: impl Fn(&Route) -> bool) -> ArrayVec<Way, MAX_SAMPLES> {
    let ends = routes.iter().skip(1).map(|next| next.first).chain([delays.len()]);
    let of = |(route, end): (&Route, usize)| {
        let delays = delays.get(route.first..end).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let count = delays.len() as f64;
        Way { least: shortest(delays.iter().copied()), count }
    };
    let mut ways: ArrayVec<Way, MAX_SAMPLES> = routes.iter().zip(ends).map(of).collect();
    let straight = || routes.iter().map(&is_straight);
    let all = ways.iter().zip(straight()).filter(|(_, is_straight)| *is_straight);
    let one = all.fold(Way { least: f64::INFINITY, count: 0.0 }, |one, (way, _)| Way {
        least: one.least.min(way.least),
        count: one.count + way.count,
    });
    ways.iter_mut().zip(straight()).filter(|(_, is_straight)| *is_straight).for_each(|(way, _)| *way = one);
    ways
}

/// The round trips of samples, in seconds.
pub(super) fn delays(kept: &[Sample]) -> ArrayVec<f64, MAX_SAMPLES> {
    kept.iter().map(|k| k.delay).collect()
}

/// How much longer another route is at least, in seconds.
pub(super) fn apart(delays: &[f64]) -> f64 {
    let differences = delays.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    APART * usual(&sorted(differences), shortest(delays.iter().copied()))
}

fn shortest(delays: impl Iterator<Item = f64>) -> f64 {
    delays.fold(f64::INFINITY, f64::min)
}

fn sorted(values: impl Iterator<Item = f64>) -> ArrayVec<f64, MAX_SAMPLES> {
    let mut sorted: ArrayVec<f64, MAX_SAMPLES> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// What no sample shows of the shortest round trip, by the shape of their excess delays.
fn unseen(excess: &[f64], shortest: f64) -> f64 {
    let (Some(&short), Some(&middle)) = (excess.get(excess.len() / 10), excess.get(excess.len() / 2)) else {
        return 0.0;
    };
    let between = (middle - short).max(MIN_JITTER);
    let share =
        if excess.len() < ENOUGH_FOR_SHAPE { 0.0 } else { (short / between - BELL_SHAPED).clamp(0.0, MOST_UNSEEN) };
    // No way takes less than no time.
    (share * middle).min(0.5 * shortest)
}

/// The middle of some values that cannot be negative, where a tenth of the shortest delay is usual before there are any.
fn usual(sorted: &[f64], shortest: f64) -> f64 {
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    let count = sorted.len() as f64;
    ((USUAL_WEIGHT * USUAL_EXCESS * shortest + count * median) / (USUAL_WEIGHT + count)).max(MIN_JITTER)
}
