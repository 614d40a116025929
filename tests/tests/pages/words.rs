//! What a manual page says besides its command line.

/// A page.
pub(super) struct Words {
    pub(super) section: &'static str,
    pub(super) manual: &'static str,
    pub(super) synopsis: &'static [&'static str],
    pub(super) description: &'static [&'static str],
    pub(super) exit: &'static [(&'static str, &'static str)],
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) see: &'static [&'static str],
}

const USER: &str = "User Commands";
const ADMIN: &str = "System Manager's Manual";

const EXIT: &[(&str, &str)] = &[("0", "Done."), ("1", "Failed."), ("2", "The command line makes no sense.")];

pub(super) const NTPD: Words = Words {
    section: "8",
    manual: ADMIN,
    synopsis: &["[OPTIONS]", "[OPTIONS] COMMAND"],
    description: &[
        "Without a command, ntpd runs as a daemon in the foreground: it asks servers for the time, by NTP and by NTS, lets them \
         vote, and slews the clock to what the majority says. It steps the clock at start only. Where its configuration \
         says so, it tells others the time.",
        "Started as root it goes on as the user ntpd and keeps the right to set the clock and to bind ports below 1024. SIGHUP \
         has it read its configuration again, which is applied as a whole or not at all. SIGTERM ends it. It says to \
         systemd when it is ready.",
    ],
    exit: &[
        ("0", "Done."),
        ("1", "Failed; with check, the configuration is wrong; with once and query, no time was had."),
        ("2", "The command line makes no sense; with migrate, something is not carried over."),
        ("3", "The daemon does not believe what its sources say (clock.max-change)."),
    ],
    files: &[
        ("/etc/ntpd/ntpd.toml", "The configuration."),
        ("/etc/ntpd/conf.d/*.toml", "More of it, read after that in the order of names."),
        (
            "/var/lib/ntpd",
            "What is kept over restarts: the clock's frequency, keys and cookies of NTS, what pools turned out to be, \
          the last time that was known.",
        ),
        ("/run/ntpd/control.sock", "Where ntpctl talks to it."),
        ("/run/chrony/chronyd.sock", "Where chronyc talks to it."),
    ],
    see: &["ntpctl(1)", "chronyc(1)", "ntpd.toml(5)"],
};

pub(super) const NTPCTL: Words = Words {
    section: "1",
    manual: USER,
    synopsis: &["[OPTIONS] COMMAND"],
    description: &[
        "ntpctl shows what ntpd does, and tells it what to do. Reports are tables, or JSON with --json. Reports may be read by \
         whoever may write to the socket: root, and the user and group of the daemon.",
        "Called by the name of chronyc, it takes the commands of that program and prints what that prints; see chronyc(1).",
    ],
    exit: EXIT,
    files: &[("/run/ntpd/control.sock", "Where the daemon listens.")],
    see: &["ntpd(8)", "chronyc(1)", "ntpd.toml(5)"],
};

pub(super) const CHRONYC: Words = Words {
    section: "1",
    manual: USER,
    synopsis: &["[OPTION]... [COMMAND]..."],
    description: &[
        "This chronyc comes with ntpd. It talks the protocol of chronyd, takes the commands of chrony's own chronyc and prints its \
         tables and comma-separated values column for column, so that scripts and monitoring go on working.",
        "Without a host it tries the socket, then 127.0.0.1 and ::1. Changes are possible by the socket alone, unless the daemon is \
         told otherwise.",
        "What only ntpd knows, such as what vouches for a source, ntpctl shows.",
    ],
    exit: EXIT,
    files: &[("/run/chrony/chronyd.sock", "Where the daemon listens.")],
    see: &["ntpctl(1)", "ntpd(8)"],
};

pub(super) const NTS_POOL_LB: Words = Words {
    section: "8",
    manual: ADMIN,
    synopsis: &["[OPTIONS]", "[OPTIONS] COMMAND"],
    description: &[
        "nts-pool-lb makes many NTS servers look like one. Users exchange keys with it under the name of the pool; it chooses a member \
         for each, has the member make cookies for the user's keys, and hands them on. Users then ask the member for \
         the time; nts-pool-lb has no part in that.",
        "Members are listed in a file, which is read again when it changes. SIGHUP has it read certificates and keys again too. \
         Users that are being served are served to their end.",
    ],
    exit: &[("0", "Done."), ("1", "Failed."), ("2", "The files or the command line are wrong.")],
    files: &[("/etc/nts-pool/nts-pool-lb.toml", "The configuration.")],
    see: &["nts-pool-srv(8)", "ntpd(8)"],
};

pub(super) const NTS_POOL_SRV: Words = Words {
    section: "8",
    manual: ADMIN,
    synopsis: &["[OPTIONS]", "[OPTIONS] COMMAND"],
    description: &[
        "nts-pool-srv is the DNS of a pool of NTS servers: it answers with service records of a few members, drawn by weight for each \
         user, signs its answers, and proves what is not there. Operators whose DNS is elsewhere take its export and publish.",
        "Members are listed in a file, which is read again when it changes. A file that is wrong changes nothing.",
    ],
    exit: EXIT,
    files: &[("/etc/nts-pool/nts-pool-srv.toml", "The configuration.")],
    see: &["nts-pool-lb(8)", "ntpd(8)"],
};
