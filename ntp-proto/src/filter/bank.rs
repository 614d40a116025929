//! Several models of clock and path, judged by how well they predicted.

use super::kalman::{BIAS, Bias, FREQUENCY, LEAN, OFFSET, Observation, Track};

/// One sample as the models see it. Times in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// When, relative to the newest.
    pub(super) at: f64,
    /// The measured offset.
    pub(super) offset: f64,
    /// How much longer the round trip was than the shortest on its route, and the error of its timestamps.
    pub(super) excess: f64,
    /// What the shortest round trip seen on its route exceeds the shortest there is by, in seconds, where waits are exponential.
    pub(super) gap: f64,
    /// Variance of what its route adds to offsets, in s², if the route begins with it.
    pub(super) begins: Option<f64>,
}

/// What the delays alone tell of how packets wait, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// The usual excess delay.
    pub(super) usual: f64,
    /// What the shortest round trip seen exceeds the shortest there is by, beyond what exponential waits explain.
    pub(super) unseen: f64,
}

/// What all models say together, at the time of the newest sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub(super) offset: f64,
    pub(super) frequency: f64,
    /// What the present route adds to measured offsets.
    pub(super) bias: Bias,
    /// Variances of offset and frequency, and their covariance.
    pub(super) xx: f64,
    pub(super) xf: f64,
    pub(super) ff: f64,
    /// Variance of what a measurement shows, which is the offset and the bias together, and its covariance with the frequency.
    pub(super) shown: f64,
    pub(super) shown_frequency: f64,
    /// Variance that the frequency's random walk gains each second.
    pub(super) walk: f64,
    /// Share of the excess delay that shows in the offset.
    pub(super) lean: f64,
    pub(super) noise: Noise,
    /// Changes of sign among the errors of prediction, plus one.
    pub(super) runs: usize,
}

/// What a filter takes for granted. Variances are relative to the scale that it finds.
#[derive(Clone, Copy, Debug)]
struct Model {
    noise: Noise,
    /// Variance that the frequency's random walk gains each second.
    walk: f64,
    /// Variance of the lean.
    lean: f64,
}

/// How the noise of a measured offset follows from the delay.
///
/// Where queues are exponential the offset of a packet that took `e` longer than the shortest is uniform within half of that,
/// so its deviation is `e` times the root of 1/12; for other queues it still grows with `e`, but the shortest round
/// trip is rarely seen, which [`gap`](Self::gap) stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Noise {
    /// Variance for one second of excess delay squared.
    pub(super) scale: f64,
    /// What the shortest round trip seen exceeds the shortest there is by at least, in seconds.
    pub(super) gap: f64,
    /// Excess delay from which on it leans to one way, in seconds.
    pub(super) knee: f64,
    /// [`Queue::unseen`].
    pub(super) unseen: f64,
}

impl Noise {
    /// Variance of the offset of a packet of this excess delay, in s².
    pub(super) fn variance(&self, excess: f64) -> f64 {
        self.scale * (excess + self.gap).powi(2)
    }

    /// Whether a packet of this excess delay may show a clock that is beside the true one by so much, both in seconds: none is off by more
    /// than half of what it took longer, whichever way it was held up on.
    pub(super) fn explains(&self, beside: f64, excess: f64) -> bool {
        beside.abs() <= 0.5 * (excess + self.unseen) + self.gap
    }

    /// What the lean is multiplied with: nothing for the shortest delays there are, which are as short both ways.
    pub(super) fn slant(&self, excess: f64) -> f64 {
        let excess = excess + self.unseen;
        excess * excess / (excess + self.knee)
    }
}

/// Random walks of the frequency that compete: deviation gained in one second, s/s.
const WALKS: [f64; 8] = [1e-10, 3e-10, 1e-9, 3e-9, 1e-8, 3e-8, 1e-7, 3e-7];
/// The walk of a quartz on its own in a room, and the standard deviation of its logarithm to base 10 among machines.
const USUAL_WALK: f64 = 1e-9;
const WALK_DECADES: f64 = 0.5;
/// Shapes of the queue that compete: the least [`Noise::gap`], as a multiple of the usual excess delay. Exponential; bell-shaped; one
/// whose noise does not depend on the delay.
const GAPS: [f64; 3] = [0.0, 0.6, 2.5];
/// The gap of an exponential queue after one sample, as a multiple of the usual excess; it shrinks with the root of their number.
pub(super) const FIRST_GAP: f64 = 0.8;
/// Variance of the offset for one second of excess delay squared before anything is known: a uniform distribution.
pub(super) const USUAL_SCALE: f64 = 1.0 / 12.0;
/// Samples that this counts as.
const USUAL_WEIGHT: f64 = 3.0;
/// Deviation of the frequency of a clock that nothing is known of, s/s.
const USUAL_FREQUENCY: f64 = 2e-4;
/// Deviations of the lean that compete: queues alike both ways, and any others; it cannot be more than a half.
const LEANS: [f64; 2] = [0.0, 0.25];
/// The knee, as a multiple of the usual excess.
const KNEE: f64 = 0.25;
/// Squared error, relative to its expected variance, above which an observation is an outlier.
const OUTLIER: f64 = 12.0;

/// How much speaks against a change of the clock that its walk does not explain: minus the logarithm of its probability.
const RARITY: f64 = 5.0;

/// A model that was run over all points.
struct Run {
    track: Track,
    /// Logarithm of how probable the points are under it, up to a constant.
    evidence: f64,
    /// Variance that one unit stands for.
    scale: f64,
    model: Model,
    runs: usize,
}

/// Judges all models by all points, the oldest first, whose delays tell `queue`. `first` is what is known of what the first
/// route adds to offsets, its variance in units of the noise's scale, `tightest` an upper limit for the walks that compete.
pub(super) fn judge(points: &[Point], queue: Queue, first: Bias, tightest: f64) -> Option<Belief> {
    let Queue { usual, unseen } = queue;
    let mut runs = [const { None }; WALKS.len() * GAPS.len() * LEANS.len()];
    let shapes = || GAPS.iter().flat_map(|gap| LEANS.iter().map(move |lean| (*gap, *lean)));
    let models = WALKS.iter().flat_map(|walk| shapes().map(move |(gap, lean)| (gap, lean, *walk)));
    for ((gap, lean, walk), slot) in models.zip(&mut runs) {
        let model = Model {
            noise: Noise { scale: 1.0, gap: gap * usual, knee: KNEE * usual, unseen },
            walk: walk.min(tightest).powi(2) / USUAL_SCALE,
            lean: lean.powi(2) / USUAL_SCALE,
        };
        *slot = run(points, model, first).map(|run| Run { evidence: run.evidence - strangeness(walk), ..run });
    }
    let best = runs.iter().flatten().max_by(|a, b| a.evidence.total_cmp(&b.evidence))?;
    let weigh = |run: &Run| (run.evidence - best.evidence).exp();
    let total: f64 = runs.iter().flatten().map(weigh).sum();
    let mean =
        |value: &dyn Fn(&Run) -> f64| runs.iter().flatten().map(|run| weigh(run) * value(run)).sum::<f64>() / total;
    let of = |place: usize| mean(&|r| r.track.mean[place]);
    let (offset, frequency, added) = (of(OFFSET), of(FREQUENCY), of(BIAS));
    let variance = mean(&|r| r.scale * r.track.covariance[BIAS][BIAS] + (r.track.mean[BIAS] - added).powi(2));
    let bias = Bias { mean: added, variance };
    let beside = |r: &Run| (r.track.mean[OFFSET] - offset, r.track.mean[FREQUENCY] - frequency);
    let beside_shown = |r: &Run| beside(r).0 + r.track.mean[BIAS] - bias.mean;
    Some(Belief {
        offset,
        frequency,
        bias,
        xx: mean(&|r| r.scale * r.track.covariance[OFFSET][OFFSET] + beside(r).0.powi(2)),
        xf: mean(&|r| r.scale * r.track.covariance[OFFSET][FREQUENCY] + beside(r).0 * beside(r).1),
        ff: mean(&|r| r.scale * r.track.covariance[FREQUENCY][FREQUENCY] + beside(r).1.powi(2)),
        shown: mean(&|r| r.scale * r.track.shown().0 + beside_shown(r).powi(2)),
        shown_frequency: mean(&|r| r.scale * r.track.shown().1 + beside_shown(r) * beside(r).1),
        walk: mean(&|r| r.scale * r.model.walk),
        lean: of(LEAN),
        noise: Noise { scale: best.scale, gap: best.model.noise.gap.max(points.last()?.gap), ..best.model.noise },
        runs: best.runs,
    })
}

/// How much speaks against a walk before any measurement: minus the logarithm of its probability, up to a constant.
fn strangeness(walk: f64) -> f64 {
    0.5 * ((walk / USUAL_WALK).log10() / WALK_DECADES).powi(2)
}

/// Runs one model.
fn run(points: &[Point], model: Model, bias: Bias) -> Option<Run> {
    let (first, rest) = points.split_first()?;
    let noise = |point: &Point| Noise { gap: model.noise.gap.max(point.gap), ..model.noise };
    let seen = |point: &Point| Observation {
        offset: point.offset,
        slant: model.noise.slant(point.excess),
        variance: noise(point).variance(point.excess),
    };
    let mut track = Track::begin(seen(first), USUAL_FREQUENCY.powi(2) / USUAL_SCALE, model.lean, bias);
    // The scale is known up to a scaled inverse chi-squared distribution, as is usual where it is part of the question.
    let (mut squares, mut freedom, mut logs) = (USUAL_WEIGHT * USUAL_SCALE, USUAL_WEIGHT, 0.0);
    let (mut last, mut sign, mut runs, mut rarities) = (first.at, 0.0, 1, 0.0);
    for point in rest {
        // A clock that was set back may have samples of one time after those of a later one.
        let dt = (point.at - last).max(0.0);
        last = point.at;
        track.predict(dt, model.walk);
        let usual = squares / freedom;
        if let Some(variance) = point.begins {
            track.reroute(variance / usual);
        }
        let mut seen = seen(point);
        let mut expected = track.expect(&seen);
        let limit = expected.error.powi(2) / (OUTLIER * usual);
        let is_outlier = expected.variance < limit;
        let beside = point.offset - track.mean[OFFSET] - track.mean[BIAS];
        if is_outlier && !noise(point).explains(beside, point.excess) && dt > 0.0 {
            // It was not the packet: the clock itself does something else now.
            rarities += 1.0;
            track.covariance[FREQUENCY][FREQUENCY] += (expected.error / dt).powi(2) / usual;
            track.covariance[OFFSET][OFFSET] += expected.error.powi(2) / usual;
            expected = track.expect(&seen);
        } else if is_outlier {
            seen.variance += limit - expected.variance;
            expected.variance = limit;
        }
        track.observe(&seen);
        squares += expected.error.powi(2) / expected.variance;
        freedom += 1.0;
        logs += expected.variance.ln();
        if expected.error * sign < 0.0 {
            runs += 1;
        }
        sign = if expected.error == 0.0 { sign } else { expected.error };
    }
    let evidence = -0.5 * (freedom * (squares / freedom).ln() + logs) - RARITY * rarities;
    let is_sound =
        evidence.is_finite() && track.mean.iter().chain(track.covariance.as_flattened()).all(|value| value.is_finite());
    // The mean of that distribution: the variance is likelier to be larger than seen than smaller while few points tell.
    is_sound.then_some(Run { track, evidence, scale: squares / (freedom - 2.0), model, runs })
}

#[cfg(test)]
mod tests {
    use chacha20::{
        ChaCha12Rng,
        rand_core::{Rng as _, SeedableRng as _},
    };

    use super::*;

    struct Dice(ChaCha12Rng);

    impl Dice {
        fn new(seed: u8) -> Self {
            Self(ChaCha12Rng::from_seed([seed; 32]))
        }

        fn uniform(&mut self) -> f64 {
            (f64::from(self.0.next_u32()) + 0.5) / 4_294_967_296.0
        }

        fn exponential(&mut self) -> f64 {
            -self.uniform().ln()
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    /// Samples 64 s apart of a clock whose frequency walks, on a path whose packets wait as `wait` says, there and back; and
    /// how far it is ahead at the last.
    fn samples(seed: u8, walk: f64, wait: impl Fn(&mut Dice) -> (f64, f64)) -> (Vec<Point>, f64) {
        let mut dice = Dice::new(seed);
        let (mut offset, mut frequency) = (0.0, 1e-6);
        let mut points = Vec::new();
        for n in 0..64 {
            for _ in 0..64 {
                frequency += walk * dice.normal();
                offset += frequency;
            }
            let (there, back) = wait(&mut dice);
            let at = 64.0 * f64::from(n - 63);
            points.push(Point {
                at,
                offset: offset + 0.5 * (there - back),
                excess: there + back,
                gap: 0.0,
                begins: None,
            });
        }
        let least = points.iter().map(|p| p.excess).fold(f64::INFINITY, f64::min);
        points.iter_mut().for_each(|point| point.excess -= least);
        let usual = usual(&points);
        points.iter_mut().for_each(|point| point.gap = FIRST_GAP / 8.0 * usual);
        (points, offset)
    }

    fn usual(points: &[Point]) -> f64 {
        let mut excesses: Vec<f64> = points.iter().map(|p| p.excess).collect();
        excesses.sort_by(f64::total_cmp);
        excesses[32]
    }

    fn believe(points: &[Point]) -> Belief {
        judge(points, Queue { usual: usual(points), unseen: 0.0 }, Bias { mean: 0.0, variance: 0.0 }, f64::INFINITY)
            .unwrap()
    }

    #[test]
    fn most_of_what_is_believed_is_as_near_as_is_claimed() {
        let mut near = 0;
        for seed in 0..100 {
            let (points, offset) = samples(seed, 1e-9, |dice| (1e-3 * dice.exponential(), 1e-3 * dice.exponential()));
            let belief = believe(&points);
            near += u32::from((belief.offset - offset).abs() < 2.0 * belief.xx.sqrt());
        }
        assert!((88..=100).contains(&near), "{near} of 100 within two deviations");
    }

    #[test]
    fn the_shape_of_the_queue_is_learnt() {
        let share = |bell: bool| {
            let shapes = (0..40).map(|seed| {
                let (points, _) = samples(seed, 1e-9, |dice| {
                    let mut wait = || (0..if bell { 6 } else { 1 }).map(|_| 1e-4 * dice.exponential()).sum();
                    (wait(), wait())
                });
                let belief = believe(&points);
                belief.noise.variance(0.0) / belief.noise.variance(5e-4)
            });
            shapes.sum::<f64>() / 40.0
        };
        assert!(
            share(true) > 3.0 * share(false),
            "how sure the shortest delays make it: {} {}",
            share(true),
            share(false)
        );
    }

    #[test]
    fn a_link_that_is_full_one_way_is_seen() {
        for (there, back, lean) in [(1e-4, 1e-3, -0.2), (1e-3, 1e-4, 0.2)] {
            let mut right = 0;
            for seed in 0..20 {
                let (points, _) = samples(seed, 1e-9, |dice| (there * dice.exponential(), back * dice.exponential()));
                right += u32::from(believe(&points).lean / lean > 1.0);
            }
            assert!(right >= 18, "{right} of 20 lean by {lean} or more");
        }
    }

    #[test]
    fn a_packet_that_is_held_up_where_none_usually_is_does_not_move_the_clock() {
        for seed in 0..20 {
            let (mut points, offset) =
                samples(seed, 1e-10, |dice| (1e-4 * dice.exponential(), 1e-3 * dice.exponential()));
            let held_up = 20e-3;
            let late = points.last_mut().unwrap();
            late.offset += 0.5 * held_up;
            late.excess += held_up;
            let belief = believe(&points);
            assert!(belief.lean < -0.1, "too easy: {belief:?}");
            assert!((belief.offset - offset).abs() < 5e-4, "{offset} {belief:?}");
        }
    }

    #[test]
    fn wander_is_told_from_noise() {
        let mut walks = [1e-9, 3e-8].map(|walk| {
            let one = |seed| {
                let (points, _) = samples(seed, walk, |dice| (1e-4 * dice.exponential(), 1e-4 * dice.exponential()));
                believe(&points).walk.sqrt()
            };
            let mut found: Vec<f64> = (0..21).map(one).collect();
            found.sort_by(f64::total_cmp);
            found[10]
        });
        walks[1] /= 30.0;
        assert!(walks.iter().all(|walk| (0.5e-9..2e-9).contains(walk)), "{walks:?}");
    }

    #[test]
    fn a_frequency_that_jumps_is_followed_at_once() {
        let (mut points, _) = samples(7, 1e-10, |dice| (1e-5 * dice.exponential(), 1e-5 * dice.exponential()));
        for point in points.iter_mut().filter(|point| point.at > -64.0 * 2.5) {
            point.offset += 5e-6 * (point.at + 64.0 * 2.5);
        }
        let belief = believe(&points);
        // It was 1 ppm before.
        assert!((belief.frequency - 6e-6).abs() < 0.5e-6, "{belief:?}");
    }
}
