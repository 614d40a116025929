//! Which samples came the same way.
//!
//! Routers change their minds: from one packet on the way is longer or shorter, to the server, back, or both. The shortest
//! round trip tells, and the samples of each route are held against its own. By how much a route's ways differ nobody
//! can see from one server, but it stays the same while the route does, and is at most half of what the round trip
//! takes longer than that of the shortest.

use arrayvec::ArrayVec;

use super::{kalman::Bias, tracker::MAX_SAMPLES};

/// Fewest samples in a row that are late before a longer route is believed in.
const LATE: usize = 4;
/// How improbable it must be that so many were held up one after the other: minus the logarithm of the probability, which is one in a million.
const RARE: f64 = 14.0;
/// Of so many samples one is late before anything is known.
const USUALLY_LATE: f64 = 32.0;
/// Late samples in a row that are a longer route however many usually are late.
const ENOUGH: usize = 32;
/// By how much a sample undercuts the shortest before it where the route is the same, relative to what keeps routes apart: three times
/// [what one sample leaves](super::bank::FIRST_GAP), and less with more samples.
const UNDERCUT: f64 = 0.5;
/// How near to the shortest another sample must be that confirms a route, relative to what keeps routes apart.
const CONFIRM: f64 = 0.5;
/// How much the variance of what a route adds grows before what is left of older samples is given up for what was learnt from all of them.
const LOST: f64 = 2.0;
/// Seconds in which what was learnt of a route when it was first taken fades to a third, once those samples are forgotten: errors of
/// one change of routes after the other add up.
const FADING: f64 = 4.0 * 86_400.0;

/// Samples in a row that came the same way, up to the next route's first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Route {
    /// Its first sample that is kept.
    pub(super) first: usize,
    /// The shortest round trip on it, in seconds.
    pub(super) least: f64,
    /// More than one sample says so: a single one that took too little time may have a wrong timestamp.
    pub(super) confirmed: bool,
}

/// The routes of the samples that are kept.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// The oldest first; the first of them has the oldest sample.
    pub(super) list: ArrayVec<Route, MAX_SAMPLES>,
    /// What the first adds to offsets, as far as samples say that are forgotten.
    pub(super) origin: Option<Bias>,
    /// The shortest round trip on the route that adds nothing, as far as samples say that are forgotten, in seconds.
    straight: f64,
    /// What the last adds, when most was known of that, and the variance as a multiple of what the noise of samples is.
    learnt: Option<(Bias, f64)>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { list: ArrayVec::new(), origin: None, straight: f64::INFINITY, learnt: None }
    }
}

impl Routes {
    /// Takes the newest of `delays`, all in seconds. A longer route is longer by more than `apart`.
    pub(super) fn handle_sample(&mut self, delays: &[f64], apart: f64) {
        let (Some(newest), Some(delay)) = (delays.len().checked_sub(1), delays.last().copied()) else { return };
        let Some(route) = self.list.last().copied() else {
            self.begin(Route { first: newest, least: delay, confirmed: false });
            return;
        };
        let before = self.list.len().checked_sub(2).and_then(|place| self.list.get(place)).copied();
        let own: &[f64] = delays.get(route.first..).unwrap_or_default();
        let run = own.iter().rev().take_while(|delay| **delay > route.least + apart).count();
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let known = newest.saturating_sub(route.first).max(1) as f64;
        let shorter = |than: f64| delay < than - UNDERCUT * apart / known.sqrt();
        let confirms = delay <= route.least + CONFIRM * apart;
        if shorter(route.least) {
            self.begin(Route { first: newest, least: delay, confirmed: false });
        } else if let (Some(before), false) = (before, route.confirmed || confirms) {
            // What does not confirm it came the way before: it may have been held up, and says nothing of another.
            let resumes = before.confirmed && !shorter(before.least);
            let least = if resumes { delay.min(before.least) } else { delay };
            self.begin(Route { first: newest, least, confirmed: resumes });
        } else if run >= LATE - 1 && self.are_too_many(run, delays, apart) {
            self.take_longer(delays, run, apart);
        } else if let Some(route) = self.list.last_mut() {
            route.confirmed |= confirms;
            route.least = route.least.min(delay);
        }
    }

    /// Whether the last `run` samples, which are late, are more than chance makes of them.
    fn are_too_many(&self, run: usize, delays: &[f64], apart: f64) -> bool {
        let known = delays.len() - run;
        // If only one says otherwise its timestamps may be wrong.
        if known == 1 {
            return true;
        }
        let ends = self.list.iter().skip(1).map(|next| next.first).chain([known]);
        let late = |(route, end): (&Route, usize)| {
            let own = delays.get(route.first..end.min(known)).unwrap_or_default();
            own.iter().filter(|delay| **delay > route.least + apart).count()
        };
        let late: usize = self.list.iter().zip(ends).map(late).sum();
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let share = (late as f64 + 1.0) / (known as f64 + USUALLY_LATE);
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let improbable = run as f64 * -share.ln() >= RARE;
        run >= LATE && (improbable || run >= ENOUGH)
    }

    /// Believes that the last `run` samples came by a longer route.
    fn take_longer(&mut self, delays: &[f64], run: usize, apart: f64) {
        let (before, late) = delays.split_at(delays.len() - run);
        if let Some(route) = self.list.last_mut() {
            // What confirmed the route before may have been these samples, when nobody knew yet how little delays vary.
            let own = before.get(route.first..).unwrap_or_default();
            route.confirmed &= own.iter().filter(|delay| **delay <= route.least + CONFIRM * apart).count() > 1;
            // One that was resumed by samples which are all late has none.
            if route.first >= before.len() {
                self.list.pop();
            }
        }
        self.begin(Route {
            first: before.len(),
            least: late.iter().copied().fold(f64::INFINITY, f64::min),
            confirmed: true,
        });
    }

    /// The shortest round trip on the route that adds nothing, in seconds.
    pub(super) fn straight(&self) -> f64 {
        let shortest = |confirmed: bool| {
            let counts = self.list.iter().filter(|route| route.confirmed || !confirmed);
            counts.map(|route| route.least).fold(f64::INFINITY, f64::min)
        };
        let is_any = self.list.iter().any(|route| route.confirmed);
        self.straight.min(shortest(is_any))
    }

    fn begin(&mut self, route: Route) {
        self.list.push(route);
        self.learnt = None;
    }

    /// Takes what is believed of the last route, where samples have a variance of `noise`. If that is less than was known of it, because
    /// the samples from before it are going to be forgotten, it returns how many those are: what was learnt is worth more than what is
    /// left of them.
    pub(super) fn learn(&mut self, bias: Bias, noise: f64) -> usize {
        let (Some(last), true) = (self.list.last(), self.list.len() > 1) else { return 0 };
        let relative = bias.variance / noise;
        match self.learnt {
            Some((_, learnt)) if relative > LOST * learnt => last.first,
            Some((_, learnt)) if relative > learnt => 0,
            _ => {
                self.learnt = Some((bias, relative));
                0
            }
        }
    }

    /// The oldest `count` samples are forgotten, which are `seconds` older than the next.
    pub(super) fn forget(&mut self, count: usize, seconds: f64) {
        self.straight = self.straight();
        let first = self.place(count);
        if first > 0 {
            self.list.drain(..first);
            self.origin = self.learnt.filter(|_| self.list.len() == 1).map(|(bias, _)| bias);
        }
        self.list.iter_mut().for_each(|route| route.first = route.first.saturating_sub(count));
        let left = (-seconds.max(0.0) / FADING).exp();
        self.origin = self.origin.map(|bias| Bias { mean: left * bias.mean, variance: left.powi(2) * bias.variance });
        if let Some(route) = self.list.first() {
            self.straight = route.least - left * (route.least - self.straight).max(0.0);
        }
    }

    /// Which route the `index`th sample came by.
    pub(super) fn place(&self, index: usize) -> usize {
        self.list.iter().rposition(|route| route.first <= index).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where routes begin, and the shortest round trip of each.
    fn told(delays: &[f64]) -> Vec<(usize, f64)> {
        let mut routes = Routes::default();
        (1..=delays.len()).for_each(|count| routes.handle_sample(&delays[..count], 3.0));
        routes.list.iter().map(|route| (route.first, route.least)).collect()
    }

    #[test]
    fn packets_that_are_held_up_are_no_route() {
        assert_eq!(told(&[]), []);
        assert_eq!(told(&[10.0, 12.0, 30.0, 40.0, 30.0, 11.0, 9.6, 12.5]), [(0, 9.6)]);
        // Three at the end may be held up as well.
        assert_eq!(told(&[10.0, 11.0, 30.0, 40.0, 30.0]), [(0, 10.0)]);
    }

    #[test]
    fn where_many_are_held_up_it_takes_more_of_them() {
        // 20 of 60 are late, and then so many in a row.
        let so_many = |count: usize| -> Vec<f64> {
            let usual = (0..60).map(|n| if n % 3 == 1 { 30.0 } else { 10.0 });
            usual.chain([40.0, 22.0, 35.0, 23.0].into_iter().cycle().take(count)).collect()
        };
        for (count, expected) in [(4, 1), (9, 1), (10, 2)] {
            assert_eq!(told(&so_many(count)).len(), expected, "{count}");
            // One that is a little shorter does not make it forgotten how many are late.
            let shorter = [&so_many(0), [9.8, 9.9].as_slice(), &so_many(count)[60..]].concat();
            assert_eq!(told(&shorter).len(), expected + 1, "{count}");
        }
        // However many are late, a route is noticed.
        let mut delays: Vec<f64> = (0..200).map(|n| if n % 10 > 0 { 30.0 } else { 10.0 }).collect();
        delays.extend([31.0; 32]);
        assert!(told(&delays).len() > 1);
    }

    #[test]
    fn what_does_not_confirm_a_shorter_route_came_by_the_one_before() {
        let all = [20.0, 21.0, 19.0, 20.5, 10.0, 45.0, 44.0, 10.5, 11.0];
        assert_eq!(told(&all), [(0, 19.0), (4, 10.0), (5, 19.0), (7, 10.5)]);
        // Or by a longer one, as more of them show.
        let mut delays = vec![20.0, 21.0, 19.0, 20.5, 10.0, 45.0, 44.0];
        assert_eq!(told(&delays).last(), Some(&(5, 19.0)));
        delays.extend([46.0, 45.5, 44.5]);
        assert_eq!(told(&delays), [(0, 19.0), (4, 10.0), (5, 44.0)]);
        // One that is shorter than that as well is another, and not confirmed by itself.
        assert_eq!(told(&[20.0, 21.0, 19.0, 5.0, 12.0, 20.0, 20.5]), [(0, 19.0), (3, 5.0), (4, 12.0), (5, 20.0)]);
    }

    #[test]
    fn a_longer_route_begins_with_its_first_sample() {
        assert_eq!(told(&[10.0, 11.0, 10.5, 20.0, 21.0, 19.0, 22.0, 18.5]), [(0, 10.0), (3, 18.5)]);
    }

    #[test]
    fn of_four_samples_three_outvote_the_first() {
        assert_eq!(told(&[10.0, 20.0, 21.0, 20.5]), [(0, 10.0), (1, 20.0)]);
        assert_eq!(told(&[10.0, 20.0, 21.0, 11.0, 20.5]), [(0, 10.0)]);
    }

    #[test]
    fn a_shorter_route_shows_at_once() {
        assert_eq!(told(&[20.0, 21.0, 19.0, 10.0]), [(0, 19.0), (3, 10.0)]);
        // The first packet of all was held up.
        assert_eq!(told(&[20.0, 10.0, 11.0]), [(0, 20.0), (1, 10.0)]);
    }

    #[test]
    fn the_longer_a_route_is_known_the_less_can_be_shorter() {
        let mut delays = vec![10.0, 9.0];
        assert_eq!(told(&delays), [(0, 9.0)]);
        delays.extend([11.0; 60]);
        delays.push(8.5);
        assert_eq!(told(&delays), [(0, 9.0), (62, 8.5)]);
    }

    #[test]
    fn what_is_forgotten_is_known_for_a_while() {
        let mut routes = Routes::default();
        let delays = [10.0, 11.0, 20.0, 21.0, 19.0, 22.0];
        (1..=delays.len()).for_each(|count| routes.handle_sample(&delays[..count], 3.0));
        let known = |mean, variance| Bias { mean, variance };
        assert_eq!([known(3.0, 2.0), known(4.0, 1.0), known(4.1, 1.1)].map(|bias| routes.learn(bias, 1.0)), [0; 3]);
        // The first two samples are of less use than what they said.
        assert_eq!(routes.learn(known(5.0, 2.1), 1.0), 2);
        routes.forget(2, FADING);
        assert_eq!(routes.list.as_slice(), [Route { first: 0, least: 19.0, confirmed: true }]);
        let Bias { mean, variance } = routes.origin.unwrap();
        assert!((mean - 4.0 / 1_f64.exp()).abs() < 1e-12 && (variance - 2_f64.exp().recip()).abs() < 1e-12);
        assert!((routes.straight - (19.0 - 9.0 / 1_f64.exp())).abs() < 1e-12);
        // A shorter one again.
        routes.handle_sample(&[20.0, 21.0, 19.0, 22.0, 10.5], 3.0);
        assert_eq!(routes.list.last(), Some(&Route { first: 4, least: 10.5, confirmed: false }));
    }
}
