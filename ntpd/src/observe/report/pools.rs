//! The pools and their members.

use serde::{Deserialize, Serialize};

use super::{Asked, SourceName};
use crate::observe::{PoolInfo, View};

/// All pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PoolsReport {
    /// In the order of the configuration.
    pub pools: Vec<PoolRow>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PoolRow {
    /// Its name.
    pub name: String,
    /// The mode that was configured.
    pub mode: String,
    /// The mode that `auto` has settled on.
    pub settled: Option<String>,
    /// How many members are wanted.
    pub wanted: usize,
    /// Those there are.
    pub members: Vec<PoolMember>,
    /// The name is remembered to offer NTS, so that plain NTP is not used with it.
    pub nts_remembered: bool,
    /// Why there are not as many members as wanted.
    pub note: Option<String>,
}

/// One member of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PoolMember {
    /// Which source.
    #[serde(flatten)]
    pub source: SourceName,
    /// The state letter of chronyc's `sources`.
    pub state: char,
    /// What vouches for it: `dane`, `dnssec`, `pki`, `key` or `none`.
    pub trust: String,
    /// Whether and how it is asked.
    pub asked: Asked,
    /// Why it is used, or not.
    pub reason: String,
}

impl PoolsReport {
    /// Reports on all pools.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        Self { pools: view.pools.iter().map(|pool| row(view, pool)).collect() }
    }
}

fn row(view: &View<'_>, pool: &PoolInfo) -> PoolRow {
    let belongs = |name: &SourceName| name.pool.as_ref() == Some(&pool.name);
    let members = view.engine.sources(view.now).filter_map(|report| {
        let source = Some(view.name(report.source.id())).filter(belongs)?;
        Some(PoolMember {
            source,
            state: report.verdict.short_letter(),
            trust: report.source.config().trust.name().to_owned(),
            asked: report.state.into(),
            reason: view.reason(&report),
        })
    });
    PoolRow {
        name: pool.name.clone(),
        mode: pool.mode.clone(),
        settled: pool.settled.clone(),
        wanted: pool.wanted,
        members: members.collect(),
        nts_remembered: pool.nts_remembered,
        note: pool.note.clone(),
    }
}
