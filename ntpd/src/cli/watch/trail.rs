//! What the sources said of late, for lines of small bars.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use super::Look;
use crate::observe::report::{SourceName, SourceRow};

/// Most measurements of a source that are kept.
pub(super) const LONGEST: usize = 120;

/// Which source: those of one name are told apart by their addresses.
type Key = (String, Option<SocketAddr>);

/// Measurements of all sources there are. A source that goes takes its trail along.
#[derive(Clone, Debug, Default)]
pub(super) struct Trails(BTreeMap<Key, Trail>);

/// Measurements of one source, the newest last, in seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    pub(super) offsets: VecDeque<f64>,
    pub(super) jitters: VecDeque<f64>,
    age: Option<f64>,
    measured: Option<f64>,
}

impl Trails {
    /// Takes what is new in a look. A measurement counts once, however often it is looked at.
    pub(super) fn add(&mut self, look: &Look) {
        let rows = &look.sources.sources;
        self.0.retain(|key, _| rows.iter().any(|row| self::key(&row.judged.source) == *key));
        for row in rows {
            let jitter = look.sourcestats.sources.iter().find(|each| each.source == row.judged.source);
            let trail = self.0.entry(key(&row.judged.source)).or_default();
            if !trail.is_new(row) {
                continue;
            }
            push(&mut trail.offsets, row.offset_seconds);
            push(&mut trail.jitters, jitter.and_then(|each| each.deviation_seconds));
        }
    }

    /// That of a source.
    pub(super) fn of(&self, source: &SourceName) -> Option<&Trail> {
        self.0.get(&key(source))
    }
}

impl Trail {
    /// Whether there was a reply since the last time.
    fn is_new(&mut self, row: &SourceRow) -> bool {
        let younger = match (self.age, row.last_reply_age_seconds) {
            (Some(before), Some(now)) => now < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let other = row.measured_offset_seconds.is_some() && row.measured_offset_seconds != self.measured;
        (self.age, self.measured) = (row.last_reply_age_seconds, row.measured_offset_seconds);
        younger || other
    }
}

fn key(source: &SourceName) -> Key {
    (source.name.clone(), source.address)
}

fn push(values: &mut VecDeque<f64>, value: Option<f64>) {
    values.extend(value.filter(|value| value.is_finite()));
    while values.len() > LONGEST {
        values.pop_front();
    }
}

/// Bars from `low` to `high` for the last `width` values; one that is nowhere between has none. Where all are the same, bars are
/// the least.
pub(super) fn bars(values: &VecDeque<f64>, low: f64, high: f64, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: &f64| {
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        let share = if share.is_nan() { 0.0 } else { share };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
        let place = (share * 7.0).round() as usize;
        BARS.get(place).copied().unwrap_or(' ')
    };
    values.iter().skip(values.len().saturating_sub(width)).map(bar).collect()
}
