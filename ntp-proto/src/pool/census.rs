//! Whether answers that may be drawn from a longer list tell who is no longer on it.
//!
//! How long a list is, no answer says. A list that is given whole stays the same, and a draw varies: so several answers in
//! a row, spread over a day, that all name the same places are taken for the whole list. Where a place came back after it
//! had been left out, or an answer is too long for a whole list, nothing is said of anybody any more.

use core::time::Duration;
use std::collections::VecDeque;

use crate::time::Monotonic;

/// Answers in a row that must agree: of five places four draws of four leave out the same one once in 125 times.
const AGREEING: u8 = 4;

/// Time over which they must be spread. A draw that was made once may stand for a while: in caches, or where answers are
/// drawn only now and then.
const SPREAD: Duration = Duration::from_secs(86_400);

/// Time between answers that are asked for only to be compared.
const BETWEEN: Duration = Duration::from_secs(SPREAD.as_secs() / 3);

/// Most places that are remembered because they were left out.
const MAX_GONE: usize = 32;

/// What was named when.
#[derive(Clone, Debug)]
pub(super) struct Census<K> {
    /// The places of the last answer.
    named: Vec<K>,
    /// When they were named first, by how many answers since then, and when the next one counts.
    since: Monotonic,
    answers: u8,
    fresh_at: Monotonic,
    /// Places that were named once and are no more, the oldest first.
    gone: VecDeque<K>,
    varies: bool,
}

impl<K> Default for Census<K> {
    fn default() -> Self {
        let start = Monotonic::default();
        Self { named: Vec::new(), since: start, answers: 0, fresh_at: start, gone: VecDeque::new(), varies: false }
    }
}

impl<K: Clone + PartialEq> Census<K> {
    /// Takes an answer of `now`, which may come again from a cache before `until`. One with more than `whole` places is no
    /// whole list.
    pub(super) fn take(&mut self, now: Monotonic, named: &[K], until: Monotonic, whole: usize) {
        self.varies |= named.len() > whole || named.iter().any(|place| self.gone.contains(place));
        if self.varies {
            return;
        }
        let is_same = named.iter().all(|place| self.named.contains(place))
            && self.named.iter().all(|place| named.contains(place));
        if !is_same {
            self.gone.extend(self.named.iter().filter(|place| !named.contains(place)).cloned());
            self.gone.drain(..self.gone.len().saturating_sub(MAX_GONE));
            (self.named, self.since, self.answers) = (named.to_vec(), now, 1);
            self.fresh_at = until;
        } else if now >= self.fresh_at {
            self.answers = self.answers.saturating_add(1);
            self.fresh_at = until;
        }
    }

    /// Whether whoever the last answer did not name is taken for not listed.
    pub(super) fn is_whole(&self, now: Monotonic) -> bool {
        !self.varies && self.answers >= AGREEING && now.since(self.since) >= SPREAD
    }

    /// When another answer would tell more.
    pub(super) fn next(&self, now: Monotonic) -> Option<Monotonic> {
        (!self.varies && !self.is_whole(now)).then(|| (now + BETWEEN).max(self.fresh_at))
    }

    /// Whether the last answer named what an earlier one named.
    pub(super) const fn agrees(&self) -> bool {
        self.answers > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(hours: u64) -> Monotonic {
        Monotonic::from_nanos(1) + Duration::from_secs(hours * HOUR)
    }

    fn census(answers: &[(u64, &str)]) -> Census<char> {
        let mut census = Census::default();
        for (hours, named) in answers {
            let named: Vec<char> = named.chars().collect();
            census.take(at(*hours), &named, at(hours + 1), 7);
        }
        census
    }

    #[test]
    fn four_answers_over_a_day_that_agree_are_the_whole_list() {
        for (answers, now, whole) in [
            (&[][..], 100, false),
            (&[(0, "ab"), (8, "ba"), (24, "ab")], 100, false),
            (&[(0, "ab"), (8, "ba"), (16, "ab"), (24, "ab")], 24, true),
            (&[(0, "ab"), (8, "ba"), (16, "ab"), (23, "ab")], 23, false),
            // Another answer begins anew.
            (&[(0, "abc"), (8, "ab"), (16, "ab"), (24, "ab"), (31, "ab")], 31, false),
            (&[(0, "abc"), (8, "ab"), (16, "ab"), (24, "ab"), (32, "ab")], 32, true),
            (&[(0, "ab"), (8, "abc"), (16, "abc"), (24, "abc"), (32, "abc")], 32, true),
            (&[(0, "abcdefg"), (8, "abcdefg"), (16, "abcdefg"), (24, "abcdefg")], 24, true),
            (&[(0, "abcdefgh"), (8, "abcdefgh"), (16, "abcdefgh"), (24, "abcdefgh")], 24, false),
        ] {
            assert_eq!(census(answers).is_whole(at(now)), whole, "{answers:?}");
        }
    }

    #[test]
    fn one_answer_out_of_a_cache_counts_once() {
        let mut census = Census::default();
        for hours in [0, 6, 12, 23] {
            census.take(at(hours), &['a'], at(24), 7);
        }
        for hours in [24, 48] {
            assert_eq!(census.next(at(hours - 1)), Some(at(hours - 1 + 8)));
            census.take(at(hours), &['a'], at(hours + 24), 7);
            assert!(!census.is_whole(at(hours)) && census.next(at(hours)) == Some(at(hours + 24)));
        }
        census.take(at(72), &['a'], at(96), 7);
        assert!(census.is_whole(at(72)) && census.next(at(72)).is_none());
    }

    #[test]
    fn whoever_comes_back_was_listed_all_the_time() {
        let mut answers = vec![(0, "abc"), (12, "bcd"), (24, "abd")];
        for hours in [36, 48, 60, 72] {
            answers.push((hours, "abd"));
            let census = census(&answers);
            assert!(!census.is_whole(at(hours)) && census.next(at(hours)).is_none(), "{hours}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut census = Census::default();
        for number in 0..1000_u32 {
            census.take(at(u64::from(number)), &[number, number + 100_000], at(u64::from(number) + 1), 7);
        }
        assert!(census.gone.len() == MAX_GONE && !census.varies);
    }
}
