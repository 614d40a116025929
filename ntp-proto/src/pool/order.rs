//! The order in which the targets of service records are tried (RFC 2782).

use super::{MAX_MEMBERS, MAX_SHUNNED, Service};

/// Most targets that are kept of one answer: few enough that all of them and a full set of members can be shunned.
pub const MAX_TARGETS: usize = MAX_SHUNNED - 2 * MAX_MEMBERS;

/// Puts records in the order in which a client tries them: by priority, and within one by a draw in which each has a
/// chance in proportion to its weight.
///
/// `draw` returns a random number below its argument, which is never zero. Records beyond the first [`MAX_TARGETS`] in
/// that order are dropped.
#[must_use]
pub fn order(mut records: Vec<Service>, mut draw: impl FnMut(u64) -> u64) -> Vec<Service> {
    // RFC 2782 leaves the order within a weight open. Pools publish records that are all of weight 0; these must share
    // the load too.
    for place in (1..records.len()).rev() {
        let other = draw(u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1));
        records.swap(place, usize::try_from(other).unwrap_or(place).min(place));
    }
    // RFC 2782 has those of weight 0 "placed at the beginning of the list": they are drawn only if the number is 0.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len().min(MAX_TARGETS));
    while let Some(priority) = records.first().map(|record| record.priority)
        && ordered.len() < MAX_TARGETS
    {
        let weights = || records.iter().take_while(|record| record.priority == priority).map(|record| record.weight);
        let sum: u64 = weights().map(u64::from).sum();
        // "Choose a uniform random number between 0 and the sum computed (inclusive), and select the RR whose running
        // sum value is the first in the selected order which is greater than or equal to the random number".
        let number = draw(sum + 1);
        let mut running = 0;
        let chosen = weights().position(|weight| {
            running += u64::from(weight);
            running >= number
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Name;

    fn service(priority: u16, weight: u16, host: usize) -> Service {
        Service { priority, weight, port: 4460, target: Name::parse(&format!("h{host}.example")).unwrap() }
    }

    /// A fixed sequence of numbers that look random.
    fn draws() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn lower_priorities_come_first_whatever_their_weight() {
        let records = vec![service(2, 65_535, 0), service(1, 0, 1), service(1, 1, 2), service(0, 0, 3)];
        let mut draw = draws();
        for _ in 0..100 {
            let priorities: Vec<_> = order(records.clone(), &mut draw).iter().map(|record| record.priority).collect();
            assert_eq!(priorities, [0, 1, 1, 2]);
        }
    }

    #[test]
    fn the_first_place_goes_by_weight() {
        let records = vec![service(0, 10, 0), service(0, 0, 1), service(0, 90, 2)];
        let mut draw = draws();
        let mut firsts = [0_u32; 3];
        for _ in 0..100_000 {
            let first = order(records.clone(), &mut draw).swap_remove(0);
            let place = records.iter().position(|record| record.target == first.target).unwrap();
            firsts[place] += 1;
        }
        // Of the 101 numbers one selects the record of weight 0.
        for (count, share) in firsts.into_iter().zip([10.0, 1.0, 90.0]) {
            let expected = 100_000.0 * share / 101.0;
            let deviation = (f64::from(count) - expected).abs();
            assert!(deviation < 5.0 * expected.sqrt(), "{count} {expected}");
        }
    }

    #[test]
    fn equal_weights_and_weight_zero_are_all_tried() {
        for weight in [0, 7, 65_535] {
            let records: Vec<_> = (0..MAX_TARGETS).map(|host| service(5, weight, host)).collect();
            let mut ordered = order(records.clone(), draws());
            assert_eq!(ordered.len(), records.len());
            ordered.sort_by(|a, b| a.target.cmp(&b.target));
            ordered.dedup();
            assert_eq!(ordered.len(), records.len());
        }
    }

    #[test]
    fn equal_weights_share_the_first_place() {
        let mut draw = draws();
        for weight in [0, 1, 100] {
            let records: Vec<_> = (0..4).map(|host| service(5, weight, host)).collect();
            let mut firsts = [0_u32; 4];
            for _ in 0..40_000 {
                let first = order(records.clone(), &mut draw).swap_remove(0);
                let place = records.iter().position(|record| record.target == first.target).unwrap();
                firsts[place] += 1;
            }
            assert!(firsts.iter().all(|count| (9_500..10_500).contains(count)), "{weight} {firsts:?}");
        }
    }

    #[test]
    fn the_list_is_bounded() {
        let records: Vec<_> = (0..1000).map(|host| service(5, 1, host)).collect();
        assert_eq!(order(records, draws()).len(), MAX_TARGETS);
        assert_eq!(order(vec![], draws()), []);
    }
}
