//! Whose configuration a file is.

use super::words::first_words;

/// The program that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// chronyd: chrony.conf, or a file of sources.
    Chrony,
    /// ntp.org's ntpd, or NTPsec's: ntp.conf.
    Ntp,
    /// systemd-timesyncd: timesyncd.conf.
    Timesyncd,
    /// ntpd-rs: ntp.toml.
    NtpdRs,
}

/// Directives that only one of chrony.conf and ntp.conf has.
const TELLING: [(&str, Format); 34] = [
    ("allow", Format::Chrony),
    ("authselectmode", Format::Chrony),
    ("bindcmdaddress", Format::Chrony),
    ("cmdallow", Format::Chrony),
    ("cmdport", Format::Chrony),
    ("confdir", Format::Chrony),
    ("deny", Format::Chrony),
    ("hwtimestamp", Format::Chrony),
    ("include", Format::Chrony),
    ("initstepslew", Format::Chrony),
    ("keyfile", Format::Chrony),
    ("leapseclist", Format::Chrony),
    ("leapsectz", Format::Chrony),
    ("local", Format::Chrony),
    ("logdir", Format::Chrony),
    ("makestep", Format::Chrony),
    ("maxupdateskew", Format::Chrony),
    ("minsources", Format::Chrony),
    ("ntsdumpdir", Format::Chrony),
    ("rtcsync", Format::Chrony),
    ("sourcedir", Format::Chrony),
    ("disable", Format::Ntp),
    ("enable", Format::Ntp),
    ("filegen", Format::Ntp),
    ("fudge", Format::Ntp),
    ("includefile", Format::Ntp),
    ("interface", Format::Ntp),
    ("keys", Format::Ntp),
    ("leapfile", Format::Ntp),
    ("restrict", Format::Ntp),
    ("statsdir", Format::Ntp),
    ("tinker", Format::Ntp),
    ("tos", Format::Ntp),
    ("trustedkey", Format::Ntp),
];

/// Finds out by the name of a file, or by what it says.
pub(super) fn recognise(name: &str, text: &str) -> Option<Format> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let by_name = match file {
        "chrony.conf" => Some(Format::Chrony),
        "ntp.conf" | "ntpd.conf" => Some(Format::Ntp),
        "timesyncd.conf" => Some(Format::Timesyncd),
        "ntp.toml" => Some(Format::NtpdRs),
        _ if file.ends_with(".sources") => Some(Format::Chrony),
        _ if file.ends_with(".toml") => Some(Format::NtpdRs),
        _ => None,
    };
    by_name.or_else(|| by_content(text))
}

fn by_content(text: &str) -> Option<Format> {
    let trimmed = || text.lines().map(str::trim);
    if trimmed().any(|line| line == "[Time]") {
        return Some(Format::Timesyncd);
    }
    if trimmed().any(|line| ["[[source]]", "[synchronization]"].contains(&line)) {
        return Some(Format::NtpdRs);
    }
    first_words(text).find_map(|word| TELLING.iter().find(|(known, _)| *known == word).map(|&(_, format)| format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_text_tells() {
        for (name, text, format) in [
            ("/etc/chrony/chrony.conf", "", Some(Format::Chrony)),
            ("/run/chrony-dhcp/eth0.sources", "", Some(Format::Chrony)),
            ("/etc/ntpsec/ntp.conf", "", Some(Format::Ntp)),
            ("timesyncd.conf", "", Some(Format::Timesyncd)),
            ("ntp.toml", "", Some(Format::NtpdRs)),
            ("x", "server a\nmakestep 1 3\n", Some(Format::Chrony)),
            ("x", "# makestep 1 3\nserver a\nRestrict default\n", Some(Format::Ntp)),
            ("x", "[Time]\nNTP=a\n", Some(Format::Timesyncd)),
            ("x", "[[source]]\nmode = \"pool\"\n", Some(Format::NtpdRs)),
            ("x", "server a iburst\n", None),
        ] {
            assert_eq!(recognise(name, text), format, "{name} {text}");
        }
    }
}
