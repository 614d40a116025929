//! The filter: samples in, what is believed of a source's clock out.

use arrayvec::ArrayVec;

use super::{
    Estimate, Filter, Surprise, UNKNOWN_SKEW,
    bank::{Belief, Queue, USUAL_SCALE, judge},
    kalman::Bias,
    routes::Routes,
    view::{View, apart, delays},
};
use crate::{
    sample::{FREQUENCY_TOLERANCE, Sample, Shift},
    time::{NtpDuration, NtpTimestamp},
};

/// Most samples kept.
pub(crate) const MAX_SAMPLES: usize = 256;
/// Samples that are kept in any case.
const MIN_SAMPLES: usize = 64;
/// Samples by which it is seen how far they are apart.
const FRESH: usize = 16;
/// Times over which the filter averages that samples are kept.
const MEMORIES: f64 = 2.0;
/// Least jitter believed, in seconds.
pub(super) const MIN_JITTER: f64 = 1e-9;
/// Least skew believed, s/s.
const MIN_SKEW: f64 = 1e-12;
/// Deviations that a bound is worth: 99.95 % of a normal distribution.
const BOUND: f64 = 3.5;
/// A measurement is worth its packet once what is believed is as uncertain as this, relative to the variance of a usual
/// measurement.
const WORTH: f64 = 4.5;
/// Samples in which a change of the frequency shows.
const UNSEEN: usize = 3;
/// What was learnt in so many seconds is good for one.
const REACH: f64 = 5.0;
/// Waits that are considered, log2 seconds, and how finely.
const WAITS: (f64, f64) = (-6.0, 20.0);
const WAIT_RESOLUTION: f64 = 0.05;
/// See the module.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Fewest samples to go by, if there are so many.
    least: usize,
    /// Most samples that are kept.
    most: usize,
    kept: ArrayVec<Sample, MAX_SAMPLES>,
    /// When the first sample was taken, kept or not.
    since: Option<NtpTimestamp>,
    routes: Routes,
    /// As they were before the newest sample, which may be replaced by what is known of it later.
    routes_before: Routes,
    thought: Option<Thought>,
}

/// What was made of the samples.
#[derive(Clone, Copy, Debug)]
struct Thought {
    /// When the newest was taken.
    at: NtpTimestamp,
    /// What is believed of the clock then.
    belief: Belief,
    /// The usual excess delay, in seconds.
    usual: f64,
    /// The shortest round trip on the present route, in seconds.
    least: f64,
    /// The shortest of all that are kept.
    shortest: f64,
}

impl Thought {
    /// Deviation of a usual measurement, in seconds.
    fn jitter(&self) -> f64 {
        self.belief.noise.variance(self.usual).sqrt().max(MIN_JITTER)
    }
}

impl Default for Tracker {
    fn default() -> Self {
        Self::with_memory(0, MAX_SAMPLES)
    }
}

impl Tracker {
    /// Goes by `least` samples or more, if there are so many, and keeps `most`, 1 to 256.
    #[must_use]
    pub fn with_memory(least: usize, most: usize) -> Self {
        let most = most.clamp(1, MAX_SAMPLES);
        Self {
            least: least.min(most),
            most,
            kept: ArrayVec::new(),
            since: None,
            routes: Routes::default(),
            routes_before: Routes::default(),
            thought: None,
        }
    }

    /// For how long back samples are of use, in seconds. Of samples `T` apart with deviation `r`, a filter for a walk of `q`
    /// a second averages over about `(r² T / q²)^(1/4)` seconds.
    fn memory(&self) -> Option<f64> {
        let thought = self.thought.as_ref()?;
        let fresh = &self.kept[self.kept.len().saturating_sub(FRESH)..];
        #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
        let spacing = (fresh.last()?.at - fresh.first()?.at).to_seconds() / (fresh.len() as f64 - 1.0).max(1.0);
        Some(MEMORIES * (thought.jitter().powi(2) * spacing / thought.belief.walk).powf(0.25))
    }

    /// Judges all models again.
    fn think(&mut self) {
        let scale = self.thought.take().map_or(USUAL_SCALE, |thought| thought.belief.noise.scale);
        let Some(latest) = self.kept.last().map(|k| k.at) else { return };
        let Some(view) = View::of(&self.kept, &self.routes) else { return };
        let first = Bias { variance: view.first.variance / scale, ..view.first };
        let belief = judge(&view.points, view.queue, first, self.loosest(&view));
        let View { queue: Queue { usual, .. }, least, shortest, .. } = view;
        self.thought = belief.map(|belief| Thought { at: latest, belief, usual, least, shortest });
        if self.thought.is_none() && self.kept.len() > 1 {
            // Numbers that nothing can be made of: they say less than the newest alone.
            self.forget(self.kept.len() - 1);
            self.think();
        }
        let useless =
            self.thought.map_or(0, |thought| self.routes.learn(thought.belief.bias, thought.jitter().powi(2)));
        if useless > 0 {
            self.forget(useless);
            self.think();
        }
    }

    /// Takes the newest sample.
    fn take(&mut self, sample: Sample) {
        self.since.get_or_insert(sample.at);
        self.kept.push(sample);
        let delays = delays(&self.kept);
        self.routes_before.clone_from(&self.routes);
        self.routes.handle_sample(&delays, apart(&delays));
    }

    /// Forgets the oldest `count` samples, but not yet what they told of the next ones' route.
    fn forget(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let (Some(first), Some(next)) = (self.kept.first(), self.kept.get(count)) else {
            self.kept.clear();
            (self.routes, self.routes_before) = (Routes::default(), Routes::default());
            return;
        };
        let seconds = (next.at - first.at).to_seconds();
        self.routes.forget(count, seconds);
        self.routes_before.forget(count, seconds);
        self.kept.drain(..count);
    }

    /// The strongest walk whose [memory](Self::memory) is not shorter than was asked for.
    fn loosest(&self, view: &View) -> f64 {
        let (Some(first), true) = (view.points.first(), self.least > 1) else { return f64::INFINITY };
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let (count, least) = (view.points.len() as f64, self.least as f64);
        let spacing = -first.at / (count - 1.0).max(1.0);
        USUAL_SCALE.sqrt() * view.queue.usual / (least.powi(2) * spacing.max(1.0).powf(1.5))
    }

    /// The sample that bounds the error against the source best, aged to `now`.
    fn nearest(&self, now: NtpTimestamp, ageing: impl Fn(f64) -> f64) -> Option<(f64, &Sample)> {
        self.kept
            .iter()
            .map(|k| (k.peer_distance() + ageing((now - k.at).to_seconds().abs()), k))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// What bounds the error of `belief` at `now` whatever the clock did since it was last seen to run as believed, and the
    /// delay of the sample that says so, both in seconds; half that delay is not in the bound.
    ///
    /// A change of frequency shows in the next few samples, but not before: until then the clock may be off by
    /// [`FREQUENCY_TOLERANCE`]. The newest sample is not older than what it says, and the best one bounds with less.
    fn sure(&self, now: NtpTimestamp, belief: impl Fn(NtpTimestamp) -> f64, ageing: impl Fn(f64) -> f64) -> (f64, f64) {
        let seen = self.kept.iter().rev().take(UNSEEN).next_back().map_or(now, |k| k.at);
        let unseen = (now - seen).to_seconds().abs();
        let bound = |k: &Sample| {
            let age = (now - k.at).to_seconds().abs();
            let beside = (k.offset - belief(k.at)).abs();
            (k.dispersion + ageing(age) + FREQUENCY_TOLERANCE * age.min(unseen) + beside, k.delay)
        };
        let distance = |(rest, delay): &(f64, f64)| rest + 0.5 * delay;
        let none = (f64::INFINITY, 0.0);
        self.kept.iter().map(bound).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(none)
    }
}

impl Filter for Tracker {
    fn surprise(&self, sample: &Sample) -> Option<Surprise> {
        let thought = self.thought.as_ref().filter(|_| self.kept.len() > 2)?;
        let belief = &thought.belief;
        let dt = (sample.at - thought.at).to_seconds();
        let excess = (sample.delay - thought.least).max(0.0) + sample.dispersion;
        let variance = belief.shown_after(dt) + belief.noise.variance(excess);
        let beside = sample.offset - belief.bias.mean - belief.offset - belief.frequency * dt;
        Some(Surprise {
            error: beside - belief.lean * belief.noise.slant(excess),
            deviation: variance.sqrt().max(MIN_JITTER),
            jitter: thought.jitter(),
            extra_delay: sample.delay - thought.shortest,
            explained: belief.noise.explains(beside, excess),
            samples: self.kept.len(),
        })
    }

    fn worth_waiting(&self, redundancy: f64) -> Option<f64> {
        let thought = self.thought.as_ref()?;
        let noise = thought.jitter().powi(2);
        let (mut low, mut high) = WAITS;
        while high - low > WAIT_RESOLUTION {
            let middle = f64::midpoint(low, high);
            if thought.belief.shown_after(middle.exp2()) < WORTH * noise { low = middle } else { high = middle }
        }
        let span = (self.kept.last()?.at - self.since?).to_seconds();
        // By measurement: each filter sees the wander by its own samples alone, so it pays for more than its share of them.
        Some((low.exp2() * redundancy.sqrt()).min(span / REACH))
    }

    fn handle_sample(&mut self, sample: Sample) {
        let spare = self.kept.len().saturating_sub(MIN_SAMPLES);
        let old = self
            .memory()
            .map_or(0, |memory| self.kept.iter().take_while(|k| (sample.at - k.at).to_seconds() > memory).count());
        let full = (self.kept.len() + 1).saturating_sub(self.most);
        self.forget(full.max(old.min(spare)));
        self.take(sample);
        self.think();
    }

    fn refine_latest(&mut self, exact: Option<Sample>, next: Option<Sample>) {
        if self.kept.pop().is_some() {
            self.routes.clone_from(&self.routes_before);
            exact.into_iter().for_each(|exact| self.take(exact));
        }
        match next {
            Some(next) => self.handle_sample(next),
            None => self.think(),
        }
    }

    fn handle_shift(&mut self, shift: &Shift) {
        for kept in &mut self.kept {
            *kept = kept.shifted(shift);
        }
        self.since = self.since.map(|since| shift.apply(since));
        if let Some(Thought { at, belief, .. }) = &mut self.thought {
            belief.offset -= shift.ahead(*at);
            belief.frequency -= shift.rate;
            *at = shift.apply(*at);
        }
    }

    fn handle_leap(&mut self, by: NtpDuration) {
        for kept in &mut self.kept {
            kept.at = kept.at + by;
        }
        self.since = self.since.map(|since| since + by);
        if let Some(thought) = &mut self.thought {
            thought.at = thought.at + by;
        }
    }

    fn reset(&mut self) {
        *self = Self::with_memory(self.least, self.most);
    }

    fn estimate(&self, now: NtpTimestamp) -> Option<Estimate> {
        let (first, latest) = (*self.kept.first()?, *self.kept.last()?);
        let thought = self.thought.as_ref()?;
        let belief = &thought.belief;
        let dt = (now - thought.at).to_seconds();
        let skew = (BOUND * (belief.ff + belief.walk * dt.max(0.0)).sqrt()).clamp(MIN_SKEW, UNKNOWN_SKEW);
        let wander = |age: f64| skew * age + BOUND * (belief.walk * age.powi(3) / 3.0).sqrt();
        let (peer_distance, nearest) = self.nearest(now, wander)?;
        let offset = belief.offset + belief.frequency * dt;
        let deviation = belief.variance_after(dt).sqrt();
        // What bounds the error is one measurement; what is told is a belief, which may pass beside it.
        let beside = (offset - nearest.offset - belief.frequency * (now - nearest.at).to_seconds()).abs();
        let (sure, delay) = self.sure(now, |at| offset - belief.frequency * (now - at).to_seconds(), wander);
        // The source may have lost its own source since: of its distance only the newest word counts.
        Some(Estimate {
            at: now,
            offset,
            offset_deviation: deviation.max(MIN_JITTER),
            frequency: belief.frequency,
            skew,
            jitter: thought.jitter(),
            peer_distance: (peer_distance + beside).max(deviation),
            root_distance: 0.5 * latest.root_delay + latest.root_dispersion,
            root_delay: latest.root_delay + delay,
            root_dispersion: latest.root_dispersion + sure,
            stratum: latest.stratum,
            samples: self.kept.len(),
            runs: belief.runs,
            span: (latest.at - first.at).to_seconds(),
            age: (now - latest.at).to_seconds().max(0.0),
        })
    }

    fn latest(&self) -> Option<&Sample> {
        self.kept.last()
    }
}

impl Belief {
    /// Variance of the offset `dt` seconds after the newest sample.
    fn variance_after(&self, dt: f64) -> f64 {
        self.after(dt, self.xx, self.xf)
    }

    /// Variance of what the shortest round trip would show then.
    fn shown_after(&self, dt: f64) -> f64 {
        self.after(dt, self.shown, self.shown_frequency)
    }

    fn after(&self, dt: f64, xx: f64, xf: f64) -> f64 {
        (xx + dt * (2.0 * xf + dt * self.ff) + self.walk * dt.abs().powi(3) / 3.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use chacha20::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn start() -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32)
    }

    fn sample(seconds: f64, offset: f64, delay: f64) -> Sample {
        Sample {
            at: start() + NtpDuration::from_seconds(seconds),
            offset,
            delay,
            dispersion: 1e-7,
            root_delay: 0.0,
            root_dispersion: 0.0,
            stratum: 1,
        }
    }

    /// Deterministic noise in -1..1.
    fn noise(n: i32) -> f64 {
        (f64::from(n) * 12.9898).sin() * 43_758.547 % 1.0
    }

    #[test]
    fn a_straight_clock_is_followed() {
        let mut filter = Tracker::default();
        for n in 0..40 {
            let t = f64::from(n) * 16.0;
            filter.handle_sample(sample(t, 0.1 + 25e-6 * t + 1e-5 * noise(n), 1e-3));
        }
        let now = start() + NtpDuration::from_seconds(640.0);
        let estimate = filter.estimate(now).unwrap();
        assert!((estimate.offset - (0.1 + 25e-6 * 640.0)).abs() < 1e-5, "{estimate:?}");
        assert!((estimate.frequency - 25e-6).abs() < estimate.skew);
    }

    #[test]
    fn a_bend_is_followed_within_a_few_samples() {
        let mut filter = Tracker::default();
        for n in 0..30 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-7 * noise(n), 1e-3));
        }
        for n in 30..36 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-5 * f64::from(n - 30) + 1e-7 * noise(n), 1e-3));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(576.0)).unwrap();
        assert!((estimate.frequency - 1e-5 / 16.0).abs() < 2e-8, "{estimate:?}");
        assert!((estimate.offset - 6e-5).abs() < 1e-6, "{estimate:?}");
    }

    #[test]
    fn long_delays_count_little() {
        let mut filter = Tracker::default();
        for n in 0..20 {
            let late = if n % 4 == 0 { 0.02 } else { 0.0 };
            filter.handle_sample(sample(f64::from(n) * 16.0, late / 2.0 + 1e-6 * noise(n), 1e-3 + late));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(320.0)).unwrap();
        assert!(estimate.offset.abs() < 3e-4, "{estimate:?}");
    }

    #[test]
    fn a_shift_moves_what_is_stored() {
        let mut filter = Tracker::default();
        for n in 0..10 {
            let t = f64::from(n) * 16.0;
            filter.handle_sample(sample(t, 0.5 + 1e-5 * t, 1e-3));
        }
        let now = start() + NtpDuration::from_seconds(160.0);
        let before = filter.estimate(now).unwrap();
        let shift = Shift { from: now, offset: before.offset, rate: before.frequency };
        filter.handle_shift(&shift);
        let after = filter.estimate(shift.apply(now)).unwrap();
        assert!(after.offset.abs() < 1e-9 && after.frequency.abs() < 1e-12, "{after:?}");
        assert_eq!(after.samples, before.samples);
    }

    #[test]
    fn the_newest_word_of_the_server_on_itself_counts() {
        let mut filter = Tracker::default();
        for n in 0..20 {
            let root_dispersion = 1e-4 * f64::from(n);
            // The first has the least delay and bounds the error against the server best.
            let delay = if n == 0 { 1e-5 } else { 1e-3 };
            filter.handle_sample(Sample {
                root_dispersion,
                root_delay: 0.01,
                ..sample(f64::from(n) * 16.0, 0.0, delay)
            });
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(304.0)).unwrap();
        assert!(estimate.root_dispersion >= 1.9e-3 && estimate.root_distance >= 1.9e-3 + 0.005, "{estimate:?}");
    }

    #[test]
    fn a_line_beside_the_best_measurement_is_not_trusted_more_than_that() {
        let mut filter = Tracker::default();
        for n in 0..30 {
            // Nineteen of twenty came a longer way.
            let far = n != 10;
            let (offset, delay) = if far { (5e-3, 12e-3) } else { (0.0, 1e-3) };
            filter.handle_sample(sample(f64::from(n) * 16.0, offset, delay));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(480.0)).unwrap();
        assert!(estimate.peer_distance >= estimate.offset.abs(), "the true offset is 0: {estimate:?}");
    }

    /// What is believed of a clock that is right, after each sample on a way that takes so much longer there and back; waits are
    /// exponential with a mean of 0.1 ms.
    fn on_ways(ways: impl Iterator<Item = (f64, f64)>) -> Vec<Estimate> {
        let wait = |n: i32| -1e-4 * (0.5 + 0.4999 * noise(n)).ln();
        let mut filter = Tracker::default();
        (0..)
            .zip(ways)
            .map(|(n, (there, back))| {
                let (there, back) = (1e-3 + there + wait(n), 1e-3 + back + wait(n + 7_919));
                let t = f64::from(n) * 64.0;
                filter.handle_sample(sample(t, 0.5 * (there - back), there + back));
                filter.estimate(start() + NtpDuration::from_seconds(t)).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_longer_route_does_not_move_the_clock_whichever_way_is_longer() {
        for longer in [(0.0, 8e-3), (8e-3, 0.0), (4e-3, 4e-3)] {
            let told = on_ways((0..300).map(|n| if n < 100 { (0.0, 0.0) } else { longer }));
            // From when it is known to be another route, until those samples are long forgotten.
            for estimate in &told[104..] {
                assert!(estimate.offset.abs() < 2e-4, "{longer:?} {estimate:?}");
                assert!(estimate.root_dispersion + 0.5 * estimate.root_delay > estimate.offset.abs());
            }
        }
    }

    #[test]
    fn one_sample_that_took_too_little_time_does_not_make_all_others_crooked() {
        for n in [10, 30, 60] {
            let told = on_ways((0..100).map(|k| if k == n { (-8e-4, 0.0) } else { (0.0, 0.0) }));
            let late = told[n + 5..].iter().find(|estimate| estimate.offset.abs() > 1e-4);
            assert!(late.is_none(), "{n}: {late:?}");
        }
    }

    #[test]
    fn a_first_sample_that_took_too_little_time_is_soon_outvoted() {
        // With so few samples nobody knows yet how much delays vary.
        for (way, waits, poll) in [(27e-6, 0.7e-6, 16.0), (140e-6, 4e-6, 64.0)] {
            let wait = |n: i32| -waits * (0.5 + 0.4999 * noise(n)).ln();
            let mut filter = Tracker::default();
            for n in 0..300 {
                let t = if n < 4 { f64::from(n) * 2.0 } else { f64::from(n - 4) * poll + 8.0 };
                let early = if n == 0 { 49e-6 } else { 0.0 };
                let (there, back) = (way + wait(n) - early, way + wait(n + 7_919));
                filter.handle_sample(sample(t, 0.5 * (there - back), there + back));
                let estimate = filter.estimate(start() + NtpDuration::from_seconds(t)).unwrap();
                assert!(n < 3 || estimate.offset.abs() < 2.0 * waits, "{n}: {estimate:?}");
            }
        }
    }

    #[test]
    fn routes_are_told_where_noise_has_little_to_do_with_delays() {
        let mut filter = Tracker::default();
        for n in 0..120 {
            let longer = if n < 60 { 0.0 } else { 200e-6 };
            let offset = 20e-9 * noise(n) - 0.5 * longer;
            let delay = 100e-6 + longer + 40e-9 * noise(n + 7);
            filter.handle_sample(Sample { dispersion: 1e-6, ..sample(f64::from(n) * 64.0, offset, delay) });
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(119.0 * 64.0)).unwrap();
        assert!(estimate.offset.abs() < 1e-6, "{estimate:?}");
    }

    #[test]
    fn where_no_packet_is_short_the_shortest_is_not_taken_for_straight() {
        let mean_square = |waits: u32, seed: u64| {
            let mut random = ChaCha12Rng::seed_from_u64(seed);
            let mut wait = |mean: f64| -mean * ((f64::from(random.next_u32()) + 0.5) / f64::from(u32::MAX)).ln();
            let mut way = |mean: f64| 9e-3 + (0..waits).map(|_| wait(mean)).sum::<f64>();
            let told = on_ways((0..400).map(|_| (way(1e-3), way(6e-3))));
            told[200..].iter().map(|estimate| estimate.offset.powi(2)).sum::<f64>() / 200.0
        };
        let error = |waits| ((1..=6).map(|seed| mean_square(waits, seed)).sum::<f64>() / 6.0).sqrt();
        // 6.7 ms of the last if the shortest that was seen is taken for the shortest.
        for (waits, most) in [(1, 3e-4), (2, 7e-4), (4, 2e-3), (8, 5.5e-3)] {
            let found = error(waits);
            assert!(found < most, "{waits}: {found}");
        }
    }

    #[test]
    fn packets_held_up_around_a_change_of_routes_say_nothing_of_the_clock() {
        // Two after the first on the shorter route; the first before another; four in a row later.
        for seed in [1, 19, 29] {
            let mut random = ChaCha12Rng::seed_from_u64(seed);
            let mut uniform = || (f64::from(random.next_u32()) + 0.5) / f64::from(u32::MAX);
            let mut way = || 17e-3 + 3.1e-3 * uniform() + if uniform() < 0.1 { -24.3e-3 * uniform().ln() } else { 0.0 };
            let mut filter = Tracker::default();
            for n in 0..700 {
                let (there, back) = (way(), way() - if n >= 600 { 5.1e-3 } else { 0.0 });
                let t = f64::from(n) * 64.0;
                let expected = filter.estimate(start() + NtpDuration::from_seconds(t));
                let is_near = expected.is_none_or(|estimate| n < 64 || estimate.offset.abs() < 8e-3);
                assert!(is_near, "{seed} {n}: {expected:?}");
                filter.handle_sample(sample(t, 0.5 * (there - back), there + back));
            }
        }
    }

    #[test]
    fn a_route_that_comes_back_is_known() {
        let told = on_ways((0..400).map(|n| if (n / 100) % 2 == 0 { (0.0, 0.0) } else { (0.0, 8e-3) }));
        assert!(told[10..].iter().all(|estimate| estimate.offset.abs() < 1e-3), "before it shows as well");
        let settled = told.iter().enumerate().filter(|(n, _)| n % 100 > 10);
        settled.for_each(|(n, estimate)| assert!(estimate.offset.abs() < 2e-4, "{n} {estimate:?}"));
    }

    #[test]
    fn a_route_whose_bias_nobody_knows_is_not_asked_more_often() {
        let mut filter = Tracker::default();
        let mut waits = Vec::new();
        for n in 0..140 {
            let longer = if n < 70 { 0.0 } else { 8e-3 };
            filter.handle_sample(sample(f64::from(n) * 64.0, 1e-5 * noise(n), 2e-3 + longer + 1e-4 * noise(n + 7)));
            waits.push(filter.worth_waiting(1.0).unwrap());
        }
        assert!(waits[139] > 0.5 * waits[69], "{waits:?}");
    }

    #[test]
    fn a_bend_that_is_not_believed_yet_is_within_the_bound() {
        let mut filter = Tracker::default();
        for n in 0..30 {
            filter.handle_sample(sample(f64::from(n) * 64.0, 1e-6 * noise(n), 200e-6));
        }
        // 10 ppm more since the last sample, and a packet that was held up.
        let (truth, late) = (640e-6, 1.5e-3);
        filter.handle_sample(sample(30.0 * 64.0, truth - late / 2.0, 200e-6 + late));
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(30.0 * 64.0)).unwrap();
        assert!((estimate.offset - truth).abs() > 300e-6, "too easy: {estimate:?}");
        let bound = 0.5 * estimate.root_delay + estimate.root_dispersion;
        assert!(bound >= (estimate.offset - truth).abs(), "{bound}: {estimate:?}");
    }

    #[test]
    fn it_is_told_once_how_much_to_remember() {
        let mut filter = Tracker::with_memory(30, 20);
        for n in 0..50 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-7 * noise(n), 1e-3));
        }
        assert_eq!(filter.estimate(start() + NtpDuration::from_seconds(800.0)).unwrap().samples, 20);
        filter.reset();
        assert_eq!((filter.least, filter.most), (20, 20));
    }

    #[test]
    fn with_few_samples_it_can_be_asked_seldom_nevertheless() {
        let mut filter = Tracker::with_memory(0, 8);
        for n in 0..100 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-7 * noise(n), 1e-3 + 1e-4 * noise(n + 7)));
        }
        let few = filter.worth_waiting(1.0).unwrap();
        assert!(few > 64.0, "they span 112 s: {few}");
        // What others say as well is waited for longer, within a share of what was seen.
        let beside = [1.5, 1e9].map(|redundancy| filter.worth_waiting(redundancy).unwrap());
        assert!(beside[0] >= few && beside[1] > beside[0] && beside[1] < 400.0, "{few} {beside:?}");
    }

    #[test]
    fn a_longer_memory_that_was_asked_for_believes_in_less_wander() {
        let walk = |least| {
            let mut filter = Tracker::with_memory(least, MAX_SAMPLES);
            for n in 0..60 {
                let t = f64::from(n);
                // A frequency that changes all the time, by little enough for no single sample to be strange.
                filter.handle_sample(sample(
                    t * 16.0,
                    2e-8 * t * t + 1e-5 * noise(n),
                    1e-3 + 2e-5 * (1.0 + noise(n + 7)),
                ));
            }
            filter.thought.unwrap().belief.walk.sqrt()
        };
        assert!(walk(60) < 0.1 * walk(1), "{} {}", walk(60), walk(1));
    }

    /// The `n`th of samples 16 s apart.
    fn exact(n: i32) -> Sample {
        sample(f64::from(n) * 16.0, 1e-6 * noise(n), 1e-3 + 1e-5 * noise(n + 7).abs())
    }

    /// A filter that takes `count` of them at once, and one for which each is what `early` says until the next one comes.
    fn at_once_and_refined(count: i32, early: impl Fn(i32) -> Sample) -> (Tracker, Tracker) {
        let (mut at_once, mut refined) = (Tracker::default(), Tracker::default());
        refined.handle_sample(early(0));
        for n in 0..count {
            at_once.handle_sample(exact(n));
            refined.refine_latest(Some(exact(n)), (n + 1 < count).then(|| early(n + 1)));
        }
        (at_once, refined)
    }

    #[test]
    fn a_refined_sample_counts_once_and_as_if_it_had_been_exact_at_once() {
        let early = |n| Sample { offset: exact(n).offset - 5e-5, dispersion: 1e-4, ..exact(n) };
        let (at_once, mut refined) = at_once_and_refined(81, early);
        let now = start() + NtpDuration::from_seconds(1280.0);
        assert_eq!(refined.estimate(now), at_once.estimate(now));
        // What is taken back is as if it had never been.
        refined.handle_sample(early(81));
        assert_ne!(refined.estimate(now), at_once.estimate(now));
        refined.refine_latest(None, None);
        let told = refined.estimate(now).unwrap();
        assert_eq!((told.samples, told.span), (64, 63.0 * 16.0), "as many as are kept in any case");
        assert!((told.offset - at_once.estimate(now).unwrap().offset).abs() < 1e-7, "{told:?}");
    }

    #[test]
    fn a_sample_that_was_replaced_leaves_no_route_behind() {
        // Now it seems to have come a shorter way, now a longer one.
        let early = |n: i32| Sample { delay: [6e-4, 1e-3, 1e-3, 5e-3, 1e-3][n as usize % 5], ..exact(n) };
        let (at_once, refined) = at_once_and_refined(61, early);
        assert_eq!(refined.routes.list, at_once.routes.list);
        let now = start() + NtpDuration::from_seconds(960.0);
        assert_eq!(refined.estimate(now), at_once.estimate(now));
    }

    #[test]
    fn an_empty_filter_has_nothing_to_refine() {
        let mut filter = Tracker::default();
        filter.refine_latest(Some(sample(0.0, 1.0, 1e-3)), None);
        assert_eq!((filter.estimate(start()), filter.latest()), (None, None));
        filter.refine_latest(Some(sample(0.0, 1.0, 1e-3)), Some(sample(16.0, 2.0, 1e-3)));
        assert_eq!(filter.latest(), Some(&sample(16.0, 2.0, 1e-3)));
        filter.refine_latest(None, None);
        assert_eq!((filter.estimate(start()), filter.worth_waiting(1.0)), (None, None));
    }

    #[test]
    fn one_sample_is_an_estimate_with_a_wide_margin() {
        let mut filter = Tracker::default();
        assert_eq!(filter.estimate(start()), None);
        filter.handle_sample(sample(0.0, 2.5, 0.04));
        let estimate = filter.estimate(start()).unwrap();
        assert!((estimate.offset - 2.5).abs() < 1e-12 && estimate.peer_distance >= 0.02, "{estimate:?}");
    }
}
