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

    fn middle(&self) -> f64 {
        f64::midpoint(self.low, self.high)
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

/// By how much more [firmly](firmness) a majority must agree than any other to be as good as a larger one.
const FIRMER: f64 = 0.5;

/// Where most intervals overlap. Where nowhere all do somebody is wrong, and if another majority agrees clearly more firmly than any
/// other, the truth may be there as well: then it is the span of both. Liars whose error just leaves the reach of the honest are met by
/// the farthest of these before they are alone, and with some of the honest at their edges they are the most for a while.
///
/// Firmness gives nobody a place that the number of those who agree does not: liars can be as firm as they like.
pub(crate) fn agreement(intervals: &[Interval]) -> Option<Overlap> {
    let deepest = deepest(intervals)?;
    if deepest.depth == intervals.len() {
        return Some(deepest);
    }
    let ends = [deepest.interval.low, deepest.interval.high];
    let places = intervals.iter().map(Interval::middle).chain(ends);
    let mut majorities: Vec<(Overlap, f64)> = places
        .map(|place| (covering(intervals, place), firmness(intervals, place)))
        .filter(|(overlap, _)| 2 * overlap.depth > intervals.len())
        .collect();
    majorities.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (firmest, most) = *majorities.first()?;
    let next = majorities.iter().find(|(other, _)| *other != firmest).map_or(0.0, |(_, next)| *next);
    if most < next + FIRMER || firmest == deepest {
        return Some(deepest);
    }
    let (a, b) = (deepest.interval, firmest.interval);
    let interval = Interval { low: a.low.min(b.low), high: a.high.max(b.high) };
    Some(Overlap { interval, depth: deepest.depth, single: false })
}

/// What all intervals have in common that cover a place.
fn covering(intervals: &[Interval], place: f64) -> Overlap {
    let all = Interval { low: f64::NEG_INFINITY, high: f64::INFINITY };
    let none = Overlap { interval: all, depth: 0, single: true };
    let covers = |one: &&Interval| one.low <= place && place <= one.high;
    intervals.iter().filter(covers).fold(none, |Overlap { interval: Interval { low, high }, depth, single }, one| {
        Overlap { interval: Interval { low: low.max(one.low), high: high.min(one.high) }, depth: depth + 1, single }
    })
}

/// How firmly intervals cover a place: each counts 1 in its middle, and less and less towards its edges.
fn firmness(intervals: &[Interval], place: f64) -> f64 {
    let firm = |interval: &Interval| {
        let (beside, width) = (place - interval.middle(), 0.5 * (interval.high - interval.low));
        if width > 0.0 { (1.0 - (beside / width).powi(2)).max(0.0) } else { f64::from(beside == 0.0) }
    };
    intervals.iter().map(firm).sum()
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
    fn liars_at_the_edge_of_the_honest_are_no_majority_with_some_of_them() {
        let honest = [(-17.0, 16.3), (-16.3, 16.9), (-16.7, 16.9)];
        let all = intervals(&[&[(16.7, 49.1), (16.6, 49.0)], honest.as_slice()].concat());
        assert_eq!(deepest(&all).unwrap().depth, 4);
        let both = Overlap { interval: Interval { low: -16.3, high: 16.9 }, depth: 4, single: false };
        assert_eq!(agreement(&all), Some(both), "which only honest ones cover");
        // Nearer, nobody can tell: all may be right.
        let near = intervals(&[&[(13.0, 45.0), (13.0, 45.0)], honest.as_slice()].concat());
        assert_eq!(agreement(&near), deepest(&near));
        // Nor where both agree as firmly with the one between.
        let split = intervals(&[(0.0, 1.0), (0.9, 1.9), (1.8, 2.8)]);
        assert_eq!(agreement(&split), deepest(&split));
        assert_eq!(agreement(&[]), None);
    }

    #[test]
    fn being_sure_of_a_lie_makes_no_majority() {
        for all in [
            // One that knows little is wrong by almost as much as it may be, and the last says what it says, sure of it.
            [(-0.02, 0.18), (-1e-4, 1e-4), (0.0799, 0.0801)].as_slice(),
            &[(-35.0, 35.0), (-1.0, 5.0), (-5.0, 1.0), (19.9, 20.1), (19.9, 20.1)],
        ] {
            let all = intervals(all);
            let found = agreement(&all).unwrap();
            let agreeing = all.iter().filter(|own| found.interval.is_inside(own)).count();
            assert!(!found.single && agreeing <= 1, "{found:?}");
        }
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
