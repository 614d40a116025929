//! The deepest overlap of intervals (Marzullo's algorithm, RFC 5905 section 11.2.1).

/// A closed interval in seconds around what a source says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Where most intervals overlap, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overlap {
    pub(super) interval: Interval,
    pub(super) depth: usize,
}

impl Interval {
    /// Whether this one covers all of `overlap`, or lies inside it.
    pub(super) fn agrees_with(&self, overlap: &Self) -> bool {
        (self.low <= overlap.low && self.high >= overlap.high) || self.is_inside(overlap)
    }

    /// Whether this one lies inside `outer`.
    pub(super) fn is_inside(&self, outer: &Self) -> bool {
        self.low >= outer.low && self.high <= outer.high
    }
}

/// Sweeps over the end points and returns the deepest overlap; among several equally deep, the whole span from the
/// first to the last, so that the answer does not hang on their order.
pub(super) fn deepest(intervals: &[Interval]) -> Option<Overlap> {
    let mut edges: Vec<(f64, bool)> = Vec::with_capacity(2 * intervals.len());
    for interval in intervals {
        edges.push((interval.low, true));
        edges.push((interval.high, false));
    }
    // At one point starts go before ends: closed intervals that touch overlap.
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));

    let (mut depth, mut best) = (0_usize, 0_usize);
    let mut found: Option<Interval> = None;
    let mut open = false;
    for (at, starts) in edges {
        if starts {
            depth += 1;
            if depth > best {
                (best, open) = (depth, true);
                found = Some(Interval { low: at, high: at });
            } else if depth == best {
                open = true;
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
    found.map(|interval| Overlap { interval, depth: best })
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
        assert_eq!(overlap, Overlap { interval: Interval { low: -0.2, high: 0.3 }, depth: 3 });
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
