//! `hwtimestamp`.

use std::{collections::BTreeMap, time::Duration};

use clock_control::RxFilter;
use ntp_proto::time::PollInterval;

use super::{
    HwTimestamp, MAX_INTERFACES,
    problem::{Report, Wrong},
    raw::{Data, Value},
    section::Section,
    sources::{entries, unique},
    values,
};

/// What `rx-filter` may say.
pub(super) const FILTERS: &[(&str, RxFilter)] =
    &[("all", RxFilter::All), ("ntp", RxFilter::Ntp), ("ptp", RxFilter::Ptp), ("none", RxFilter::None)];

/// Longest time in an interface that is made up for.
const MAX_COMPENSATION: Duration = Duration::from_millis(1);

/// Longest name of an interface (`IFNAMSIZ` of linux/if.h, with its final zero).
const MAX_NAME: usize = 15;

/// Reads `hwtimestamp`: the name of an interface, a table, or a list of both.
pub(super) fn interfaces(value: Option<Value>, report: &Report) -> Vec<HwTimestamp> {
    let mut seen = BTreeMap::new();
    entries("hwtimestamp", "interface", value, MAX_INTERFACES, report)
        .into_iter()
        .filter_map(|section| {
            let place = section.place().clone();
            let found = interface(section)?;
            unique(&mut seen, found.interface.clone(), &place, "hwtimestamp.interface", report).then_some(found)
        })
        .collect()
}

fn interface(mut section: Section<'_>) -> Option<HwTimestamp> {
    let interface = section.required("interface", name);
    let rx_filter = section.field("rx-filter", values::word(FILTERS)).map(|found| found.value);
    let default_poll = PollInterval::new(0).unwrap_or(PollInterval::MIN);
    let min_poll = section.field("min-poll", values::poll).map_or(default_poll, |found| found.value);
    let mut compensation =
        |key| section.field(key, values::signed_seconds(MAX_COMPENSATION)).map_or(0.0, |found| found.value);
    let (tx_comp, rx_comp) = (compensation("tx-comp"), compensation("rx-comp"));
    let cross_timestamp = section.field("cross-timestamp", values::boolean).is_none_or(|found| found.value);
    section.finish();
    Some(HwTimestamp { interface: interface?.value, rx_filter, min_poll, tx_comp, rx_comp, cross_timestamp })
}

fn name(data: &Data) -> Result<String, Wrong> {
    let text = values::text(data)?;
    let is_name =
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if is_name {
        Ok(text)
    } else {
        Err(Wrong::new(format!("`{text}` is no name of an interface")).accepted("such as \"eth0\", or \"*\" for all"))
    }
}
