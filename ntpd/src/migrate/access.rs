//! Who is answered: rules in the order of another daemon's file become `allow` and `deny`, of which the longest decides.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// How far a prefix is split when it is no multiple of the step: 2^3 parts.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Lengths of prefixes are rounded up to multiples of it; within these the later rule counts.
    step: u8,
    rules: BTreeMap<IpNet, bool>,
}

impl Rules {
    /// chrony keeps a tree of tables, one for each four bits: of two rules in the same table the later one counts.
    pub(super) const fn chrony() -> Self {
        Self { step: 4, rules: BTreeMap::new() }
    }

    /// The longest prefix decides.
    pub(super) const fn longest() -> Self {
        Self { step: 1, rules: BTreeMap::new() }
    }

    /// Adds a rule; `all` takes out those about parts of the same range.
    pub(super) fn add(&mut self, net: IpNet, is_allowed: bool, all: bool) {
        let net = net.trunc();
        if all {
            self.rules.retain(|known, _| !net.contains(known));
        }
        let length = net.prefix_len().next_multiple_of(self.step).min(net.max_prefix_len());
        self.rules.extend(subnets(net, length).into_iter().map(|part| (part, is_allowed)));
    }

    /// The shortest lists that say the same: who is allowed, who is not.
    pub(super) fn lists(&self) -> (Vec<IpNet>, Vec<IpNet>) {
        let mut rules = self.rules.clone();
        loop {
            let before = rules.len();
            join(&mut rules);
            drop_repeated(&mut rules);
            if rules.len() == before {
                break;
            }
        }
        let pick = |wanted| rules.iter().filter(|(_, allowed)| **allowed == wanted).map(|(net, _)| *net).collect();
        (pick(true), pick(false))
    }
}

/// The parts of `length` bits that a prefix has; a few.
fn subnets(net: IpNet, length: u8) -> Vec<IpNet> {
    net.subnets(length).map_or_else(|_| vec![net], Iterator::collect)
}

/// Two halves with the same rule are one rule, whatever was said of the whole.
fn join(rules: &mut BTreeMap<IpNet, bool>) {
    let mut nets: Vec<_> = rules.keys().copied().collect();
    nets.sort_by_key(|net| std::cmp::Reverse(net.prefix_len()));
    for net in nets {
        let (Some(whole), Some(&allowed)) = (net.supernet(), rules.get(&net)) else { continue };
        let halves = subnets(whole, net.prefix_len());
        if halves.iter().all(|half| rules.get(half) == Some(&allowed)) {
            for half in halves {
                rules.remove(&half);
            }
            rules.insert(whole, allowed);
        }
    }
}

/// A rule that the one around it has said already is none.
fn drop_repeated(rules: &mut BTreeMap<IpNet, bool>) {
    let nets: Vec<_> = rules.keys().copied().collect();
    for net in nets {
        let around = std::iter::successors(net.supernet(), IpNet::supernet).find_map(|wider| rules.get(&wider));
        if rules.get(&net) == Some(around.unwrap_or(&false)) {
            rules.remove(&net);
        }
    }
}

/// The entries of a list: all addresses are one word.
pub(super) fn words(nets: &[IpNet]) -> Vec<String> {
    let is_all = |net: &&IpNet| net.prefix_len() == 0;
    if nets.iter().filter(is_all).count() < 2 {
        return nets.iter().map(ToString::to_string).collect();
    }
    let rest = nets.iter().filter(|net| !is_all(net)).map(ToString::to_string);
    std::iter::once("all".to_owned()).chain(rest).collect()
}

/// Both families.
pub(super) fn everybody() -> [IpNet; 2] {
    [ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()]
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    /// chrony's manual, as a tree: a table for each four bits, each entry with a state and perhaps a table below.
    #[derive(Default)]
    struct Node {
        state: Option<bool>,
        below: Vec<Self>,
    }

    impl Node {
        fn set(&mut self, bits: u32, length: u32, allowed: bool, all: bool) {
            if length == 0 {
                self.state = Some(allowed);
                if all {
                    self.below.clear();
                }
                return;
            }
            if self.below.is_empty() {
                self.below = (0..16).map(|_| Self::default()).collect();
            }
            let first = (bits >> 28) as usize;
            if length >= 4 {
                return self.below[first].set(bits << 4, length - 4, allowed, all);
            }
            let fixed = first >> (4 - length) << (4 - length);
            for entry in &mut self.below[fixed..fixed + (1 << (4 - length))] {
                entry.state = Some(allowed);
                if all {
                    entry.below.clear();
                }
            }
        }

        fn get(&self, bits: u32, depth: u32) -> Option<bool> {
            let below = (depth < 8).then(|| self.below.get((bits >> 28) as usize)).flatten();
            below.and_then(|entry| entry.get(bits << 4, depth + 1)).or(self.state)
        }
    }

    fn says(lists: &(Vec<IpNet>, Vec<IpNet>), address: Ipv4Addr) -> bool {
        let longest = |nets: &[IpNet]| {
            nets.iter().filter(|net| net.contains(&IpAddr::V4(address))).map(|net| i32::from(net.prefix_len())).max()
        };
        longest(&lists.0).unwrap_or(-1) > longest(&lists.1).unwrap_or(-1)
    }

    proptest! {
        #[test]
        fn lists_say_what_the_tree_says(
            // Few bits differ, so that rules meet.
            given in prop::collection::vec((0..64_u32, 0..=32_u8, any::<bool>(), prop::bool::weighted(0.2)), 0..12),
            asked in prop::collection::vec(any::<u32>(), 16),
        ) {
            let spread = |few: u32| (few & 0x30) << 26 | (few & 0xc) << 20 | (few & 3) << 7;
            let (mut rules, mut tree) = (Rules::chrony(), Node::default());
            for &(few, length, allowed, all) in &given {
                let bits = spread(few);
                let net = ipnet::Ipv4Net::new(Ipv4Addr::from(bits), length).unwrap().trunc();
                rules.add(net.into(), allowed, all);
                tree.set(u32::from(net.network()), u32::from(length), allowed, all);
            }
            let lists = rules.lists();
            let near = (0..64).flat_map(|few| [spread(few), spread(few) ^ 1, spread(few) ^ 0x40_0000]);
            for bits in near.chain(asked) {
                prop_assert_eq!(says(&lists, Ipv4Addr::from(bits)), tree.get(bits, 0) == Some(true), "{:?}", lists);
            }
        }
    }

    #[test]
    fn lists_are_as_short_as_they_can_be() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut rules = Rules::chrony();
        rules.add(net("10.0.0.0/9"), true, false);
        assert_eq!(rules.lists(), (vec![net("10.0.0.0/9")], vec![]));
        rules.add(net("10.128.0.0/9"), true, false);
        assert_eq!(rules.lists(), (vec![net("10.0.0.0/8")], vec![]));
        rules.add(net("10.1.0.0/16"), false, false);
        rules.add(net("192.0.2.0/24"), false, false);
        assert_eq!(rules.lists(), (vec![net("10.0.0.0/8")], vec![net("10.1.0.0/16")]));
        for all in everybody() {
            rules.add(all, true, true);
        }
        let (allow, deny) = rules.lists();
        assert_eq!((words(&allow), deny.len()), (vec!["all".to_owned()], 0));
    }

    #[test]
    fn in_one_table_the_later_rule_counts() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        // The example of chrony's manual: /25 and /28 share a table, /29 and /28 do not.
        let mut rules = Rules::chrony();
        rules.add(net("192.0.2.0/28"), true, false);
        rules.add(net("192.0.2.0/25"), false, false);
        assert_eq!(rules.lists(), (vec![], vec![]));
        let mut rules = Rules::chrony();
        rules.add(net("192.0.2.0/29"), true, false);
        rules.add(net("192.0.2.0/28"), false, false);
        assert_eq!(rules.lists(), (vec![net("192.0.2.0/29")], vec![]));
    }
}
