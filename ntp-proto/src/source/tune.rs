//! What may be changed of a source while it is asked.

use super::Source;
use crate::{select::SelectOptions, time::PollInterval};

/// One setting of a source, as an administrator changes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tune {
    /// Shortest poll interval; the longest follows if it is shorter.
    MinPoll(PollInterval),
    /// Longest poll interval; the shortest follows if it is longer.
    MaxPoll(PollInterval),
    /// How often is asked, in proportion to this: 1 at least, 8 usually.
    PollTarget(u8),
    /// The stratum that the server counts as having at least, 0 to 15.
    MinStratum(u8),
    /// Longest round trip, in seconds.
    MaxDelay(f64),
    /// Longest round trip as a multiple of the shortest in memory.
    MaxDelayRatio(Option<f64>),
    /// By how many standard deviations of the offset a round trip may be longer than the shortest in memory.
    MaxDelayDeviations(Option<f64>),
    /// How it may be used: where `which` is set, as in `to`.
    Select {
        /// What is changed.
        which: SelectOptions,
        /// To what.
        to: SelectOptions,
    },
}

impl Source {
    /// Takes a changed setting. It counts for requests and replies from now on.
    pub(crate) fn tune(&mut self, tune: &Tune) {
        let config = &mut self.config;
        match *tune {
            Tune::MinPoll(least) => (config.min_poll, config.max_poll) = (least, config.max_poll.max(least)),
            Tune::MaxPoll(most) => (config.min_poll, config.max_poll) = (config.min_poll.min(most), most),
            Tune::PollTarget(samples) => config.rules.poll_target = samples,
            Tune::MinStratum(stratum) => config.rules.min_stratum = stratum,
            Tune::MaxDelay(seconds) => config.rules.max_delay = seconds,
            Tune::MaxDelayRatio(ratio) => config.rules.max_delay_ratio = ratio,
            Tune::MaxDelayDeviations(most) => config.rules.max_delay_deviations = most,
            Tune::Select { which, to } => {
                let options = &mut config.options;
                for (option, which, to) in [
                    (&mut options.noselect, which.noselect, to.noselect),
                    (&mut options.prefer, which.prefer, to.prefer),
                    (&mut options.trust, which.trust, to.trust),
                    (&mut options.require, which.require, to.require),
                ] {
                    *option = if which { to } else { *option };
                }
            }
        }
        self.schedule.set_range(self.config.min_poll, self.config.max_poll, self.config.rules.poll_target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ReferenceId, SourceId, Trust},
        source::{Authentication, Bursts, SampleRules, SourceConfig},
        time::Monotonic,
    };

    const NONE: SelectOptions = SelectOptions { noselect: false, prefer: false, trust: false, require: false };

    fn poll(log2: i8) -> PollInterval {
        PollInterval::new(log2).unwrap()
    }

    fn source() -> Source {
        let config = SourceConfig {
            reference_id: ReferenceId::default(),
            min_poll: poll(6),
            max_poll: poll(10),
            bursts: Bursts::Never,
            interleaved: false,
            version: 4,
            authentication: Authentication::None,
            trust: Trust::None,
            options: SelectOptions { prefer: true, ..NONE },
            rules: SampleRules::default(),
        };
        Source::new(SourceId(1), config, Monotonic::default())
    }

    #[test]
    fn the_interval_keeps_to_a_range_whose_ends_follow_each_other() {
        let mut source = source();
        for (tune, expected, interval) in [
            (Tune::MaxPoll(poll(8)), (6, 8), 6),
            (Tune::MinPoll(poll(9)), (9, 9), 9),
            (Tune::MaxPoll(poll(4)), (4, 4), 4),
            (Tune::MinPoll(poll(2)), (2, 4), 4),
        ] {
            source.tune(&tune);
            let config = source.config();
            assert_eq!((config.min_poll, config.max_poll), (poll(expected.0), poll(expected.1)), "{tune:?}");
            assert_eq!(source.schedule().poll(), poll(interval), "{tune:?}");
        }
    }

    #[test]
    fn each_setting_changes_itself_alone() {
        let mut source = source();
        for tune in [
            Tune::PollTarget(20),
            Tune::MinStratum(3),
            Tune::MaxDelay(0.1),
            Tune::MaxDelayRatio(Some(2.0)),
            Tune::MaxDelayDeviations(Some(5.0)),
            Tune::MaxDelayRatio(None),
        ] {
            source.tune(&tune);
        }
        let expected = SampleRules {
            poll_target: 20,
            min_stratum: 3,
            max_delay: 0.1,
            max_delay_deviations: Some(5.0),
            ..SampleRules::default()
        };
        assert_eq!(source.config().rules, expected);
        let which = SelectOptions { noselect: true, trust: true, ..NONE };
        source.tune(&Tune::Select { which, to: SelectOptions { trust: true, require: true, ..NONE } });
        assert_eq!(source.config().options, SelectOptions { prefer: true, trust: true, ..NONE });
        source.tune(&Tune::Select { which: SelectOptions { prefer: true, ..NONE }, to: NONE });
        assert_eq!(source.config().options, SelectOptions { trust: true, ..NONE });
    }
}
