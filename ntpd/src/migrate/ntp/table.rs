//! Directives of ntp.conf that are not looked at further.

use crate::migrate::words::{
    Fate::{Dropped, Needless},
    Simple,
};

const REFCLOCK: &str = "reference clocks of this file are not carried over: name the device in [[refclock]]";
const CAST: &str = "time is asked of servers only: no broadcast, multicast or manycast";
const FILES: &str = "`write` of [log.files] says which files are written, in the columns of chronyd";
const AUTOKEY: &str = "Autokey is not supported; NTS takes its place";
const COMMANDS: &str = "`ntpctl` uses a socket of the file system";

/// The directives.
pub(super) const DIRECTIVES: &[Simple] = &[
    ("automax", "*", Needless(AUTOKEY)),
    ("basedate", "s", Needless("eras are told apart by the last known time")),
    ("broadcast", "s*", Dropped(CAST)),
    ("broadcastclient", "*", Dropped(CAST)),
    ("broadcastdelay", "n", Needless(CAST)),
    ("calldelay", "n", Needless("there are no modems")),
    ("clockstats", "*", Needless(FILES)),
    ("controlkey", "n", Needless(COMMANDS)),
    ("crypto", "*", Dropped(AUTOKEY)),
    ("discard", "*", Dropped("`rate-limit` of [serve] says how often clients may ask")),
    ("driftfile", "s*", Needless("kept in state.directory")),
    ("dscp", "n", Dropped("packets are not marked")),
    ("extra", "*", Dropped("`listen` of [serve] names all ports")),
    ("filegen", "s*", Needless("files of measurements are rotated by logrotate")),
    ("fudge", "s*", Dropped(REFCLOCK)),
    ("ident", "s*", Dropped(AUTOKEY)),
    ("keysdir", "s", Needless(AUTOKEY)),
    ("limit", "*", Dropped("`rate-limit` of [serve] says how often clients may ask")),
    ("logconfig", "*", Needless("`level` of [log] says what is logged")),
    ("logfile", "s", Dropped("messages go to the journal, or to standard error")),
    ("manycastclient", "s*", Dropped(CAST)),
    ("manycastserver", "s*", Dropped(CAST)),
    ("mdnstries", "n", Needless("the daemon does not announce itself")),
    ("monitor", "*", Needless("no requests are remembered beyond what limits their rate")),
    ("mru", "*", Needless("no requests are remembered beyond what limits their rate")),
    ("multicastclient", "*", Dropped(CAST)),
    ("ntpsigndsocket", "s", Dropped("signing by Samba is not supported")),
    ("phone", "*", Dropped(REFCLOCK)),
    ("pidfile", "s", Needless("the service manager knows the process")),
    ("pollskewlist", "*", Dropped("it cannot be set")),
    ("refclock", "s*", Dropped(REFCLOCK)),
    ("requestkey", "n", Needless(COMMANDS)),
    ("reset", "*", Needless(FILES)),
    ("revoke", "n", Needless(AUTOKEY)),
    ("rlimit", "*", Dropped("use LimitMEMLOCK= and the like of systemd")),
    ("saveconfigdir", "s", Needless("the configuration is not saved")),
    ("setvar", "*", Dropped(COMMANDS)),
    ("simulate", "*", Dropped("there is no such simulation")),
    ("statistics", "s*", Dropped(FILES)),
    ("statsdir", "s", Needless("measurements are not written to files without [log.files]")),
    ("tick", "n", Dropped("the length of a tick is not changed")),
    ("trap", "*", Dropped(COMMANDS)),
    ("ttl", "*", Needless(CAST)),
    ("unconfig", "s*", Dropped("leave the source out")),
    ("unpeer", "s*", Dropped("leave the source out")),
];
