//! Sources that may have no better time than this machine.

use super::Engine;
use crate::select::{Candidate, Circumstances, Selection, Verdict, select};

impl Engine {
    /// Chooses among those with a time from elsewhere, and where there is none, perhaps follows another orphan.
    pub(super) fn choose(&self, candidates: &[Candidate], around: &Circumstances) -> Selection {
        let Some(stratum) = self.orphan_stratum else { return select(candidates, around, &self.select) };
        let is_orphan = |candidate: &Candidate| candidate.estimate.stratum >= stratum;
        let others: Vec<Candidate> = candidates.iter().copied().filter(|candidate| !is_orphan(candidate)).collect();
        let selection = select(&others, around, &self.select);
        let followed = if selection.chosen.is_none() { self.first_orphan(candidates, stratum) } else { None };
        let orphan = followed.map(|orphan| {
            // One that all follow is a majority of its own.
            let around = Circumstances { configured_voters: 1, required_missing: false, ..*around };
            select(&[orphan], &around, &self.select)
        });
        let mut judged = selection.verdicts.iter().copied();
        let verdicts = candidates.iter().map(|candidate| match (&orphan, followed) {
            (Some(orphan), Some(followed)) if followed.id == candidate.id => {
                orphan.verdicts.first().copied().unwrap_or(Verdict::Orphan)
            }
            _ if is_orphan(candidate) => Verdict::Orphan,
            _ => judged.next().unwrap_or(Verdict::NoSamples),
        });
        let verdicts = verdicts.collect();
        let decided = orphan.unwrap_or(selection);
        Selection { verdicts, ..decided }
    }

    /// The orphan that comes first, if it comes before this machine.
    fn first_orphan(&self, candidates: &[Candidate], stratum: u8) -> Option<Candidate> {
        let named =
            candidates.iter().filter(|c| c.estimate.stratum == stratum && !c.options.noselect).filter_map(|c| {
                let source = self.sources.get(&c.id)?;
                Some((source.config().reference_id.0, source.own_reference()?.0, *c))
            });
        let (name, own, candidate) = named.min_by_key(|(name, ..)| *name)?;
        (name < own).then_some(candidate)
    }
}
