//! Directives of chrony.conf that are not looked at further.

use crate::migrate::words::{
    Fate::{Default, Dropped, Needless},
    Simple,
};

/// The directives.
pub(super) const DIRECTIVES: &[Simple] = &[
    // Sources.
    ("acquisitionport", "n", Dropped("each request has a port of its own")),
    ("bindacqaddress", "s", Dropped("the system chooses the address of requests")),
    ("bindacqdevice", "s", Dropped("the system chooses the interface of requests")),
    ("dscp", "n", Default(&[0.0], "packets are not marked")),
    ("dumpdir", "s", Needless("measurements are not needed over a restart")),
    ("dumponexit", "", Needless("measurements are not needed over a restart")),
    ("manual", "", Dropped("the time is not typed in")),
    ("ntsdumpdir", "s", Needless("keys and cookies are kept in state.directory")),
    ("ntscachedir", "s", Needless("keys and cookies are kept in state.directory")),
    ("ntsrefresh", "n", Dropped("keys are exchanged again after a week")),
    ("nocerttimecheck", "n", Needless("a machine that does not know the time finds it without")),
    ("refresh", "n", Dropped("names are asked for again when servers fail")),
    // Selection.
    ("combinelimit", "n", Default(&[3.0], "it cannot be set")),
    ("maxstratum", "n", Default(&[15.0], "it cannot be set")),
    ("minstratum", "n", Default(&[0.0], "it cannot be set")),
    ("reselectdist", "n", Default(&[1e-4], "it cannot be set")),
    ("stratumweight", "n", Default(&[1e-3], "it cannot be set")),
    // The clock.
    ("clockprecision", "n", Dropped("the precision of the clock is measured")),
    ("fallbackdrift", "nn", Dropped("the last good frequency is kept")),
    ("maxclockerror", "n", Default(&[1.0], "the error bound grows by 15 ppm, as in RFC 5905")),
    ("tempcomp", "sn*", Dropped("temperature is not compensated")),
    // The server.
    ("broadcast", "ns*", Dropped("time is not broadcast")),
    ("maxntsconnections", "n", Default(&[100.0], "the number of key exchanges is limited by itself")),
    ("ntpsigndsocket", "s", Dropped("signing by Samba is not supported")),
    ("ntsprocesses", "n", Default(&[1.0], "key exchanges have no processes of their own")),
    ("ntsrotate", "n", Dropped("cookie keys are made anew by themselves; servers share them by cookie-secret")),
    ("ntsratelimit", "*", Dropped("the number of key exchanges is limited by itself")),
    ("ptpport", "n", Default(&[0.0], "NTP over PTP is not supported")),
    ("ptpdomain", "n", Default(&[123.0], "NTP over PTP is not supported")),
    // Commands.
    ("bindcmddevice", "s", Dropped("chronyc is answered at addresses, whatever the interface")),
    ("cmdratelimit", "*", Dropped("requests of chronyc are answered one after the other, and not limited otherwise")),
    ("commandkey", "n", Needless("commands need no key")),
    ("generatecommandkey", "", Needless("commands need no key")),
    // The hardware clock.
    ("rtcsync", "", Needless("the kernel sets the hardware clock while the time is known")),
    ("rtcfile", "s", Dropped("the drift of the hardware clock is not measured")),
    ("rtcautotrim", "n", Dropped("the kernel sets the hardware clock while the time is known")),
    ("rtcdevice", "s", Dropped("the hardware clock is that by which the kernel sets the time")),
    ("rtconutc", "", Needless("/etc/adjtime says whether the hardware clock keeps UTC")),
    ("hwclockfile", "s", Needless("what /etc/adjtime says is taken")),
    // Logs.
    ("mailonchange", "sn", Dropped("no mail is sent")),
    // The system.
    ("hwtstimeout", "n", Default(&[0.001], "the interface's word on a request is waited for 1 ms")),
    ("maxtxbuffers", "n", Default(&[0.0], "every request has a socket of its own, so no saved messages are needed")),
    ("lock_all", "", Dropped("use LimitMEMLOCK= and the like of systemd")),
    ("sched_priority", "n", Default(&[0.0], "use CPUSchedulingPolicy= and the like of systemd")),
    ("pidfile", "s", Needless("the service manager knows the process")),
    ("user", "s", Needless("the daemon becomes the user `ntpd`")),
    ("linux_freq_scale", "n", Needless("it means nothing today")),
    ("linux_hz", "n", Needless("it means nothing today")),
];

/// Options of `server`, `pool` and `peer` that have no counterpart, whether a value follows, and why.
pub(super) const OPTIONS: &[(&str, Option<char>, &str)] = &[
    ("maxdelayquant", Some('n'), "accepted: maxdelay, maxdelayratio, maxdelaydevratio"),
    ("mindelay", Some('n'), "the shortest delay is measured"),
    ("asymmetry", Some('n'), "the asymmetry of a path is not assumed"),
    ("filter", Some('n'), "each sample is used as it comes, weighed by its delay"),
    ("maxunreach", Some('n'), "a source that does not answer loses its vote by its growing error bound"),
    ("presend", Some('n'), "no packet is sent ahead of a request"),
    ("extfield", Some('s'), "extension fields for corrections are not sent"),
    ("auto_offline", None, "sources stay online; `ntpctl offline` takes them off"),
    ("copy", None, "the reference of a source is not copied"),
];
