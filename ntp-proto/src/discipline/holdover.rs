//! What frequency to expect of a clock whose sources are lost.
//!
//! A frequency that walks at random is best foretold by what it is now. That of a machine which is heated and cooled comes back to its
//! mean, and what it happened to be when the sources were lost says nothing of hours later. Which of the two a clock is more like, its
//! own history tells: had the sources been lost at each moment of it, how much of the frequency's distance from the mean of all before
//! would have been left as long after as they are lost now? That is the coefficient of a regression of later deviations on earlier
//! ones, a direct forecast (Box, Jenkins, Reinsel, "Time Series Analysis", chapter 5).

use core::time::Duration;

use arrayvec::ArrayVec;

use crate::time::{Monotonic, Rate};

/// Frequencies that are kept.
const KEPT: usize = 128;
/// Time between two of them at first, and at most: they reach back a day and a half.
const FIRST_SPACING: Duration = Duration::from_secs(128);
const LAST_SPACING: Duration = Duration::from_secs(1024);
/// Longest time without sources over which a history goes on.
const LONGEST_GAP: Duration = Duration::from_secs(6 * 3600);
/// Frequencies whose mean says something.
const ENOUGH: usize = 16;
/// A deviation from the mean that is larger than so many usual ones was never seen to go.
const FARTHEST: f64 = 2.0;
/// As so many losses that did not overlap it counts that a frequency may stay what it is: a quartz on its own walks.
const DOUBT: f64 = 1.0;

/// The clock's natural frequency at equal times, the oldest first.
#[derive(Clone, Debug)]
pub struct FrequencyHistory {
    kept: ArrayVec<f64, KEPT>,
    spacing: Duration,
    /// When the last of them was.
    last: Monotonic,
    /// What it was when sources were heard last, and when.
    heard: Option<(Monotonic, f64)>,
}

impl Default for FrequencyHistory {
    fn default() -> Self {
        Self { kept: ArrayVec::new(), spacing: FIRST_SPACING, last: Monotonic::default(), heard: None }
    }
}

impl FrequencyHistory {
    /// Takes what the frequency is known to be at `now`, relative to the oscillator's.
    pub fn note(&mut self, now: Monotonic, frequency: Rate) {
        let frequency = frequency.get();
        let Some((since, before)) = self.heard.replace((now, frequency)) else {
            self.last = now;
            self.kept.push(frequency);
            return;
        };
        if now.since(self.last) > LONGEST_GAP {
            // Nobody knows what it did meanwhile, and whether it still does what it did before.
            *self = Self { heard: self.heard, last: now, ..Self::default() };
            self.kept.push(frequency);
            return;
        }
        while now.since(self.last) >= self.spacing {
            if self.kept.is_full() && self.spacing < LAST_SPACING {
                self.thin_out();
                continue;
            }
            if self.kept.is_full() {
                self.kept.remove(0);
            }
            self.last = self.last + self.spacing;
            let passed = self.last.since(since).as_secs_f64() / now.since(since).as_secs_f64();
            self.kept.push(before + (frequency - before) * passed.min(1.0));
        }
    }

    /// Keeps every other one, the newest among them, since time is counted from it.
    fn thin_out(&mut self) {
        let mut is_kept = self.kept.len() % 2 == 0;
        self.kept.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
        self.spacing *= 2;
    }

    /// What to expect of the frequency, relative to the oscillator's, when nothing was heard for `lost`; `None` if nothing is known that
    /// speaks against its being what it was.
    #[must_use]
    pub fn expect(&self, lost: Duration) -> Option<Rate> {
        let (_, heard) = self.heard?;
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        #[expect(clippy::cast_sign_loss, reason = "durations are positive")]
        let steps = (lost.as_secs_f64() / self.spacing.as_secs_f64()) as usize;
        let means = self.means();
        let mean = *means.last()?;
        // What is gone does not come back.
        let left = (1..=steps.min(KEPT)).map(|steps| self.left_after(steps, &means, heard - mean)).fold(1.0, f64::min);
        (left < 1.0).then(|| Rate::new(mean + left * (heard - mean)))
    }

    /// The mean of each frequency and all before it.
    #[expect(clippy::cast_precision_loss, reason = "at most 128")]
    fn means(&self) -> ArrayVec<f64, KEPT> {
        let mut sum = 0.0;
        let next = |(place, frequency)| {
            sum += frequency;
            sum / (place + 1) as f64
        };
        self.kept.iter().enumerate().map(next).collect()
    }

    /// How much of such a deviation from the mean, in s/s, is left after so many steps, 0..1.
    #[expect(clippy::cast_precision_loss, reason = "at most 128")]
    fn left_after(&self, steps: usize, means: &[f64], deviation: f64) -> f64 {
        let later = self.kept.iter().skip(steps);
        let (mut both, mut square, mut count) = (0.0, 0.0, 0.0);
        for ((now, later), mean) in self.kept.iter().zip(later).zip(means).skip(ENOUGH - 1) {
            both += (now - mean) * (later - mean);
            square += (now - mean).powi(2);
            count += 1.0;
        }
        // Another machine's, or another load's, is nothing that the past of this one could tell of.
        if square == 0.0 || deviation.powi(2) * count > FARTHEST.powi(2) * square {
            return 1.0;
        }
        let losses = count / steps as f64;
        (losses * (both / square).clamp(0.0, 1.0) + DOUBT) / (losses + DOUBT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of what `frequency` was every `every` seconds, for so many hours.
    fn history(hours: u64, every: u64, mut frequency: impl FnMut(f64) -> f64) -> FrequencyHistory {
        let mut history = FrequencyHistory::default();
        for seconds in (0..hours * 3600).step_by(usize::try_from(every).unwrap()) {
            let now = Monotonic::default() + Duration::from_secs(seconds);
            history.note(now, Rate::new(frequency(Duration::from_secs(seconds).as_secs_f64())));
        }
        history
    }

    /// A walk at random, the same for the same seed.
    fn walk(seed: u32) -> impl FnMut(f64) -> f64 {
        let (mut state, mut at) = (seed, 20e-6);
        move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            at += 1e-8 * (f64::from(state) / f64::from(u32::MAX) - 0.5);
            at
        }
    }

    fn expect(history: &FrequencyHistory, hours: f64) -> f64 {
        let (_, heard) = history.heard.unwrap();
        history.expect(Duration::from_secs_f64(hours * 3600.0)).map_or(heard, Rate::get)
    }

    #[test]
    fn what_comes_and_goes_comes_back_to_its_mean() {
        // An hour and twenty minutes; it is 1 ppm above its mean when it is heard last.
        let cycle = |seconds: f64| 20e-6 + 1e-6 * (std::f64::consts::TAU * (seconds + 60.0) / 4800.0).cos();
        let history = history(12, 300, cycle);
        assert!((history.heard.unwrap().1 - 20.9e-6).abs() < 0.1e-6, "too easy");
        assert!((expect(&history, 0.05) - 20.9e-6).abs() < 0.1e-6, "not at once");
        for hours in [1.0, 3.0, 6.0] {
            assert!((expect(&history, hours) - 20e-6).abs() < 0.45e-6, "{hours}: {}", expect(&history, hours));
        }
    }

    #[test]
    fn what_walks_stays_where_it_is() {
        let mut kept = 0.0;
        for seed in 0..40 {
            let history = history(24, 300, walk(seed));
            let (heard, mean) = (history.heard.unwrap().1, *history.means().last().unwrap());
            let left = (expect(&history, 3.0) - mean) / (heard - mean);
            assert!((0.0..=1.0).contains(&left), "{seed}: {left}");
            kept += left / 40.0;
        }
        assert!(kept > 0.6, "{kept}");
    }

    #[test]
    fn without_a_history_it_is_what_it_was() {
        let empty = FrequencyHistory::default();
        let one = history(1, 3600, |_| 1e-6);
        let few = history(1, 300, walk(1));
        let even = history(12, 300, |_| 1e-6);
        for history in [empty, one, few, even] {
            for hours in [0.0, 0.5, 5.0, 1e6] {
                assert_eq!(history.expect(Duration::from_secs_f64(hours * 3600.0)), None, "{history:?}");
            }
        }
    }

    #[test]
    fn it_reaches_back_a_day_and_a_half_and_not_over_a_gap() {
        let long = history(200, 64, walk(2));
        assert_eq!((long.kept.len(), long.spacing), (KEPT, LAST_SPACING));
        let mut after = long;
        let later = after.last + Duration::from_secs(10 * 3600);
        after.note(later, Rate::new(5e-6));
        assert_eq!((after.kept.as_slice(), after.last), ([5e-6].as_slice(), later));
    }

    #[test]
    fn between_updates_it_goes_straight() {
        let seldom = history(6, 1024, |seconds| 1e-9 * seconds);
        let apart = seldom.spacing.as_secs_f64();
        for pair in seldom.kept.windows(2) {
            assert!((pair[1] - pair[0] - 1e-9 * apart).abs() < 1e-15, "{pair:?}");
        }
    }
}
