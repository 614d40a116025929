//! What somebody who wrote an unknown word may have meant.

use strsim::damerau_levenshtein;

/// Directives of chrony.conf, and the keys that do the same.
const CHRONY: [(&str, &str); 31] = [
    ("rxfilter", "rx-filter"),
    ("makestep", "clock.step"),
    ("maxslewrate", "clock.max-slew-rate"),
    ("corrtimeratio", "clock.correction-time-ratio"),
    ("maxdrift", "clock.max-frequency"),
    ("maxdistance", "clock.max-distance"),
    ("maxjitter", "clock.max-jitter"),
    ("minsources", "clock.min-sources"),
    ("leapsecmode", "clock.leap"),
    ("leapsectz", "clock.leap-file"),
    ("leapseclist", "clock.leap-file"),
    ("maxupdateskew", "clock.max-update-skew"),
    ("maxchange", "clock.max-change"),
    ("logchange", "clock.log-change"),
    ("logdir", "log.files.directory"),
    ("logbanner", "log.files.banner"),
    ("log", "log.files.write"),
    ("local", "serve.local"),
    ("smoothtime", "serve.smear"),
    ("driftfile", "state.directory"),
    ("ntsdumpdir", "state.directory"),
    ("keyfile", "keys.file"),
    ("ratelimit", "serve.rate-limit"),
    ("ntsservercert", "serve.nts.certificate"),
    ("ntsserverkey", "serve.nts.private-key"),
    ("ntstrustedcerts", "trust.certificate-file"),
    ("ntsaeads", "trust.aeads"),
    ("authselectmode", "clock.auth-select-mode"),
    ("sourcedir", "source-directories"),
    ("ntsport", "ke-port"),
    ("certset", "certificate-file"),
];

/// Keys of tables that are often written outside of them.
const MISPLACED: [(&str, &str); 6] = [
    ("allow", "serve.allow"),
    ("deny", "serve.deny"),
    ("listen", "serve.listen"),
    ("step", "clock.step"),
    ("certificate", "serve.nts.certificate"),
    ("maxsources", "pool.count"),
];

/// The key that `written` was probably meant to be: one of `known` that looks like it, or one elsewhere that does
/// what it says.
pub(super) fn suggest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let written = written.replace('_', "-").to_ascii_lowercase();
    let allowed = (written.chars().count() / 3).max(1);
    known
        .iter()
        .map(|&candidate| (damerau_levenshtein(&written, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
        .or_else(|| {
            let elsewhere = CHRONY.iter().chain(&MISPLACED).find(|(word, _)| *word == written);
            elsewhere.map(|&(_, key)| key)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_recognised() {
        let known = ["min-poll", "max-poll", "mode", "name", "count"];
        for (written, meant) in [
            ("minpoll", Some("min-poll")),
            ("max_poll", Some("max-poll")),
            ("Mode", Some("mode")),
            ("cuont", Some("count")),
            ("nmae", Some("name")),
            ("colour", None),
            ("x", None),
            ("makestep", Some("clock.step")),
            ("allow", Some("serve.allow")),
        ] {
            assert_eq!(suggest(written, &known), meant, "{written}");
        }
    }
}
