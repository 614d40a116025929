//! The deepest overlap of intervals (Marzullo's algorithm, RFC 5905 section 11.2.1).

/// A closed interval in seconds around what a source says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Where most intervals overlap, and how many. If that happens in several places, the span from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Overlap {
    pub(crate) interval: Interval,
    pub(crate) depth: usize,
    /// There is but one such place.
    pub(crate) single: bool,
}

impl Interval {
    /// All that is not farther from `middle` than `width`.
    pub(crate) fn around(middle: f64, width: f64) -> Self {
        Self { low: middle - width, high: middle + width }
    }

    /// How far its farther end is from `place`.
    pub(crate) fn farthest(&self, place: f64) -> f64 {
        (self.high - place).max(place - self.low)
    }

    /// Whether this one lies inside `outer`.
    pub(crate) fn is_inside(&self, outer: &Self) -> bool {
        self.low >= outer.low && self.high <= outer.high
    }
}

/// Sweeps over the end points and returns the deepest overlap; among several equally deep, the whole span from the
/// first to the last, so that the answer does not hang on their order. Who shares only one of several places may be
/// wrong: just those that cover the span are of the majority whichever place is the true one.
pub(crate) fn deepest(intervals: &[Interval]) -> Option<Overlap> {
    let (mut depth, mut best) = (0_usize, 0_usize);
    let mut found: Option<Interval> = None;
    let (mut open, mut places) = (false, 0_usize);
    for (at, starts) in edges(intervals) {
        if starts {
            depth += 1;
            if depth > best {
                (best, open, places) = (depth, true, 1);
                found = Some(Interval { low: at, high: at });
            } else if depth == best {
                open = true;
                places += 1;
            }
        } else {
            if open && depth == best {
                if let Some(interval) = &mut found {
                    interval.high = at;
                }
                open = false;
            }
            depth -= 1;
        }
    }
    found.map(|interval| Overlap { interval, depth: best, single: places == 1 })
}

/// Where intervals start and end, in order, and whether they start there. At one point starts go before ends: closed intervals that
/// touch overlap.
fn edges(intervals: &[Interval]) -> Vec<(f64, bool)> {
    let mut edges: Vec<(f64, bool)> = intervals.iter().flat_map(|i| [(i.low, true), (i.high, false)]).collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    edges
}

/// From the first place that `depth` intervals cover to the last, if there are any.
pub(crate) fn covered(intervals: &[Interval], depth: usize) -> Option<Interval> {
    let (mut open, mut found) = (0_usize, None);
    for (at, starts) in edges(intervals) {
        if starts {
            open += 1;
        }
        if open >= depth {
            let Interval { high, .. } = found.get_or_insert(Interval { low: at, high: at });
            *high = at;
        }
        if !starts {
            open -= 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(list: &[(f64, f64)]) -> Vec<Interval> {
        list.iter().map(|&(low, high)| Interval { low, high }).collect()
    }

    #[test]
    fn overlap_of_three_with_a_liar() {
        let overlap = deepest(&intervals(&[(-1.0, 1.0), (-0.5, 2.0), (-0.2, 0.3), (9.0, 10.0)])).unwrap();
        assert_eq!(overlap, Overlap { interval: Interval { low: -0.2, high: 0.3 }, depth: 3, single: true });
    }

    #[test]
    fn two_places_are_spanned_and_told() {
        let overlap = deepest(&intervals(&[(-1.0, 1.0), (-0.9, -0.8), (0.7, 0.8)])).unwrap();
        assert_eq!(overlap, Overlap { interval: Interval { low: -0.9, high: 0.8 }, depth: 2, single: false });
    }

    #[test]
    fn true_time_may_be_wherever_so_many_agree() {
        let all = intervals(&[(-1.0, 1.0), (-0.9, -0.8), (0.7, 0.8), (5.0, 6.0)]);
        assert_eq!(covered(&all, 2), Some(Interval { low: -0.9, high: 0.8 }));
        assert_eq!(covered(&all, 1), Some(Interval { low: -1.0, high: 6.0 }));
        assert_eq!(covered(&all, 3), None);
        assert_eq!(covered(&intervals(&[(0.0, 1.0), (1.0, 2.0)]), 2), Some(Interval { low: 1.0, high: 1.0 }));
    }

    #[test]
    fn touching_intervals_overlap() {
        assert_eq!(deepest(&intervals(&[(0.0, 1.0), (1.0, 2.0)])).unwrap().depth, 2);
    }

    #[test]
    fn two_against_two_is_no_majority() {
        assert_eq!(deepest(&intervals(&[(0.0, 1.0), (0.5, 1.5), (5.0, 6.0), (5.5, 6.5)])).unwrap().depth, 2);
    }

    #[test]
    fn nothing_overlaps_nothing() {
        assert_eq!(deepest(&[]), None);
    }
}
