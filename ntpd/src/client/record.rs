//! What is written to files of measurements.

use std::{collections::BTreeMap, net::IpAddr};

use ntp_proto::{
    engine::{Now, SourceReport, Tracking},
    filter::Filter as _,
    ids::{Leap, SourceId},
    source::Refined,
    time::{Monotonic, UnixTime},
};

use super::Client;
use crate::{
    log_files::{Estimated, Kind, LogFile, LogFiles, LogWriter, Measured, Selected, Tracked, Who},
    observe::table::option_letters,
};

/// The files, and what the next lines are compared with.
#[derive(Debug)]
pub(super) struct Recorder {
    writer: LogWriter,
    estimates: BTreeMap<SourceId, Last>,
}

/// What was last written of a source.
#[derive(Clone, Copy, Debug)]
struct Last {
    frequency: f64,
    skew: f64,
    samples: usize,
}

/// The state before something happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    tracking: Tracking,
    /// The source that it happens to, when it last replied, and its measurements so far.
    source: Option<(SourceId, Option<Monotonic>, u64)>,
}

impl Client {
    /// Writes these files from now on; those that are written already go on.
    pub(super) fn set_log_files(&mut self, files: Option<&LogFiles>) {
        if self.recorder.as_ref().map(|recorder| recorder.writer.settings()) == files {
            return;
        }
        // The old ones are completed beside the new: a disk that does not keep up must not hold up the clock.
        if let Some(recorder) = self.recorder.take() {
            recorder.writer.leave();
        }
        let started = files.map(|files| LogWriter::start(files.clone())).transpose();
        self.recorder = started
            .unwrap_or_else(|error| {
                tracing::error!(%error, "log files are not written");
                None
            })
            .map(|writer| Recorder { writer, estimates: BTreeMap::new() });
    }

    /// Opens the files anew.
    pub(super) fn cycle_logs(&self) {
        self.recorder.iter().for_each(|recorder| recorder.writer.cycle());
    }

    /// The state before something happens that may be written down, if anything is.
    pub(super) fn before(&self, present: Now, source: Option<SourceId>) -> Option<Before> {
        self.recorder.as_ref()?;
        let source = source.and_then(|id| {
            let source = self.engine.source(present, id)?.source;
            Some((id, source.last_reply().map(|reply| reply.at), source.counts().good))
        });
        Some(Before { tracking: self.engine.tracking(present), source })
    }

    /// Writes down what happened. The clock has not been steered since.
    pub(super) fn record(&mut self, present: Now, before: Option<Before>) {
        let (Some(before), Some(mut recorder)) = (before, self.recorder.take()) else { return };
        let now = self.engine.map().apply(present.clock);
        let unix = now.to_unix(self.engine.era());
        let [statistics, selection, tracking] = [LogFile::Statistics, LogFile::Selection, LogFile::Tracking]
            .map(|file| recorder.writer.settings().has(file));
        if let Some((id, replied, good)) = before.source {
            self.record_reply(&recorder.writer, id, replied, good, present);
            let is_measured = self.engine.source(present, id).is_some_and(|report| report.source.counts().good > good);
            if is_measured && statistics {
                self.record_estimate(&mut recorder, id, &before.tracking, present);
            }
            if is_measured && selection {
                for row in self.selected(unix, present) {
                    recorder.writer.write(Kind::Selection, row.line());
                }
            }
        }
        let after = self.engine.tracking(present);
        if after.updates != before.tracking.updates && tracking {
            recorder.writer.write(Kind::Tracking, self.tracked(unix, &before.tracking, &after, present).line());
        }
        self.recorder = Some(recorder);
    }

    fn record_reply(&self, writer: &LogWriter, id: SourceId, replied: Option<Monotonic>, good: u64, present: Now) {
        let Some((report, address)) = self.engine.source(present, id).zip(self.address_of(id)) else { return };
        let Some(reply) = report.source.last_reply().filter(|reply| Some(reply.at) != replied) else { return };
        // An interleaved reply makes the exchange before it exact, which is what is written: its own was only estimated so far.
        let told = match (reply.refined, reply.exchange) {
            (Some(Refined { exchange, is_kept, sent_stamp, received_stamp }), _) => {
                Some((exchange, is_kept, sent_stamp, received_stamp))
            }
            (None, Some(exchange)) => {
                let is_good = report.source.counts().good > good;
                Some((exchange, is_good, reply.sent_stamp, reply.received_stamp))
            }
            (None, None) => None,
        };
        let Some((exchange, is_good, sent, received)) = told else { return };
        let files = writer.settings();
        let is_wanted = files.has(LogFile::RawMeasurements) || (is_good && files.has(LogFile::Measurements));
        if !is_wanted {
            return;
        }
        let sample = exchange.sample();
        let measured = Measured {
            at: sample.at.to_unix(self.engine.era()),
            address,
            leap: reply.leap,
            is_good,
            local_poll: report.source.schedule().poll().log2_seconds(),
            remote_poll: reply.poll,
            sample,
            reference_id: reply.reference_id,
            interleaved: reply.interleaved,
            sent,
            received,
        };
        writer.write(Kind::Measurements, measured.line());
    }

    fn record_estimate(&self, recorder: &mut Recorder, id: SourceId, before: &Tracking, present: Now) {
        let Some((report, who)) = self.engine.source(present, id).zip(self.who(id)) else { return };
        let Some(estimate) = report.estimate else { return };
        let after = self.engine.tracking(present);
        // What was corrected since has moved with the time believed in: the line says what was found.
        let (offset, frequency) = if after.updates == before.updates {
            (0.0, 0.0)
        } else {
            (after.last_offset, after.frequency.get() - before.frequency.get())
        };
        let (offset, frequency) = (estimate.offset + offset, estimate.frequency + frequency);
        let new = Last { frequency: estimate.frequency, skew: estimate.skew, samples: estimate.samples };
        let old = recorder.estimates.insert(id, new);
        // Sources that are gone need not be remembered.
        recorder.estimates.retain(|id, _| self.info.contains_key(id));
        let latest = report.source.filter().latest().map_or(estimate.at, |sample| sample.at);
        let estimated = Estimated {
            at: latest.to_unix(self.engine.era()),
            who,
            jitter: estimate.jitter,
            offset,
            offset_deviation: estimate.offset_deviation,
            frequency,
            skew: estimate.skew,
            stress: old.map_or(0.0, |old| (frequency - old.frequency).abs() / old.skew.max(f64::MIN_POSITIVE)),
            samples: estimate.samples,
            dropped: old.map_or(0, |old| (old.samples + 1).saturating_sub(estimate.samples)),
            runs: estimate.runs,
        };
        recorder.writer.write(Kind::Statistics, estimated.line());
    }

    fn tracked(&self, at: UnixTime, before: &Tracking, after: &Tracking, present: Now) -> Tracked {
        let remaining = after.pending.to_seconds() - after.last_offset;
        let max_error = after.last_offset.abs()
            + remaining.abs()
            + before.root_delay.to_seconds() / 2.0
            + before.root_dispersion.to_seconds();
        Tracked {
            at,
            who: after.selected.and_then(|id| self.who(id)),
            stratum: after.status.stratum,
            frequency_ppm: after.frequency.to_ppm(),
            skew_ppm: after.skew * 1e6,
            offset: after.last_offset,
            leap: if after.synchronized { after.status.leap } else { Leap::Unsynchronized },
            used: self.engine.sources(present).filter(|report| report.verdict.is_used()).count(),
            offset_deviation: after.offset_deviation,
            remaining,
            root_delay: after.root_delay.to_seconds(),
            root_dispersion: after.root_dispersion.to_seconds(),
            max_error,
        }
    }

    fn selected(&self, at: UnixTime, present: Now) -> Vec<Selected> {
        let row = |report: SourceReport<'_>| {
            let estimate = report.estimate;
            Some(Selected {
                at,
                who: self.who(report.source.id())?,
                state: report.verdict.letter(),
                options: option_letters(report.effective.into()),
                reach: report.source.reach().bits(),
                age: estimate.map_or(0.0, |estimate| estimate.age),
                // Offsets here are those of the source, there those of this clock.
                low: estimate.map_or(0.0, |estimate| -(estimate.offset + estimate.distance())),
                high: estimate.map_or(0.0, |estimate| estimate.distance() - estimate.offset),
            })
        };
        self.engine.sources(present).filter_map(row).collect()
    }

    fn address_of(&self, id: SourceId) -> Option<IpAddr> {
        self.info.get(&id).and_then(|info| info.address).map(|address| address.ip())
    }

    fn who(&self, id: SourceId) -> Option<Who> {
        let info = self.info.get(&id)?;
        Some(info.address.map_or_else(|| Who::Refclock(info.name.clone()), |address| Who::Server(address.ip())))
    }
}
