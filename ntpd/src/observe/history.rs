//! What the clock did over the last day: one point a minute, in a table of fixed size.

use std::collections::VecDeque;

use ntp_proto::time::Monotonic;

/// Most points: those of a day.
pub const MAX_POINTS: usize = 1_440;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

/// Values of one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    sum: f64,
    count: u32,
}

impl Spread {
    pub(super) const fn of(value: f64) -> Self {
        Self { min: value, max: value, sum: value, count: 1 }
    }

    fn add(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// The corrections of one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    minute: u64,
    /// What was found to be wrong each time, in seconds; positive if the clock was slow.
    pub offset_seconds: Spread,
    /// The rate at which the clock was corrected then, in ppm.
    pub frequency_ppm: Spread,
}

/// The corrections of the last day.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    updates: u64,
}

impl History {
    /// Takes the last correction, the `updates`-th since the start. One that was taken before is left out, so this may be called
    /// at any time. Minutes without a correction have no point.
    pub fn record(&mut self, now: Monotonic, updates: u64, offset_seconds: f64, frequency_ppm: f64) {
        if updates == self.updates || !offset_seconds.is_finite() || !frequency_ppm.is_finite() {
            return;
        }
        self.updates = updates;
        let minute = minute(now);
        match self.points.back_mut() {
            Some(last) if last.minute == minute => {
                last.offset_seconds.add(offset_seconds);
                last.frequency_ppm.add(frequency_ppm);
            }
            _ => self.points.push_back(Point {
                minute,
                offset_seconds: Spread::of(offset_seconds),
                frequency_ppm: Spread::of(frequency_ppm),
            }),
        }
        self.forget(minute);
    }

    /// Points with their age in minutes, from the oldest on; none is older than a day.
    pub fn points(&self, now: Monotonic) -> impl Iterator<Item = (u64, &Point)> {
        let now = minute(now);
        let aged = self.points.iter().map(move |point| (now.saturating_sub(point.minute), point));
        aged.filter(|(age, _)| *age < MAX_POINTS as u64)
    }

    fn forget(&mut self, now: u64) {
        while self.points.front().is_some_and(|first| now.saturating_sub(first.minute) >= MAX_POINTS as u64) {
            self.points.pop_front();
        }
    }
}

const fn minute(now: Monotonic) -> u64 {
    now.to_nanos() / NANOS_PER_MINUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_minute_has_one_point_with_its_extremes() {
        let mut history = History::default();
        for (number, (second, offset)) in [(60, 1.0), (70, -2.0), (119, 4.0), (120, 7.0)].into_iter().enumerate() {
            history.record(at(second), number as u64 + 1, offset, offset / 10.0);
        }
        let points: Vec<_> = history.points(at(180)).collect();
        assert_eq!(points.iter().map(|(age, _)| *age).collect::<Vec<_>>(), [2, 1]);
        let (offset, frequency) = (points[0].1.offset_seconds, points[0].1.frequency_ppm);
        assert_eq!((offset.min, offset.max, offset.mean()), (-2.0, 4.0, 1.0));
        assert_eq!((frequency.min, frequency.max), (-0.2, 0.4));
    }

    #[test]
    fn a_correction_is_taken_once_and_only_if_it_is_a_number() {
        let mut history = History::default();
        history.record(at(1), 0, 1.0, 1.0);
        assert_eq!(history.points(at(1)).count(), 0, "nothing was corrected yet");
        history.record(at(1), 1, 1.0, 1.0);
        history.record(at(100), 1, 1.0, 1.0);
        history.record(at(200), 2, f64::NAN, 1.0);
        history.record(at(200), 3, 1.0, f64::INFINITY);
        assert_eq!(history.points(at(200)).count(), 1);
    }

    #[test]
    fn it_holds_a_day_and_no_more() {
        let mut history = History::default();
        for number in 1..=10_000 {
            history.record(at(number * 30), number, 1.0, 1.0);
            assert!(history.points.len() <= MAX_POINTS);
        }
        assert_eq!(history.points.len(), MAX_POINTS);
        let end = at(10_000 * 30);
        assert_eq!(history.points(end).next().unwrap().0, 1_439);
        // What is too old is not shown, even if nothing new came.
        assert_eq!(history.points(at(10_000 * 30 + 86_400)).count(), 0);
    }
}
