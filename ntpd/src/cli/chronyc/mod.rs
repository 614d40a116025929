//! `ntpctl` called as `chronyc`: its options, its commands, and its output column for column, over its protocol.
//!
//! Addresses are shown by the names they were configured by, where chronyc asks DNS for their names; `-n` shows addresses
//! as with chronyc.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::{ArgAction, CommandFactory as _, Parser};

use super::FAILED;
use crate::observe::chronyc::client::{Failure, Peer, Talker};

mod change;
mod format;
mod ntpdata;
mod show;

/// The name that this program has then.
const NAME: &str = "chronyc";

/// Options of chronyc. Some are accepted for scripts that give them, and mean nothing here.
#[derive(Clone, Debug, Parser)]
#[command(name = NAME, version, disable_help_flag = true, disable_version_flag = true)]
#[command(about = "Watches and controls a running ntpd as chronyc does chronyd")]
struct Args {
    /// Talk IPv4 only
    #[arg(short = '4')]
    ipv4: bool,
    /// Talk IPv6 only
    #[arg(short = '6')]
    ipv6: bool,
    /// Show addresses
    #[arg(short = 'n')]
    numeric: bool,
    /// Show names as they were configured
    #[arg(short = 'N')]
    names: bool,
    /// Print values separated by commas
    #[arg(short = 'c')]
    csv: bool,
    /// Print a line with a dot after each answer
    #[arg(short = 'e')]
    end_dot: bool,
    /// Every argument is a command of its own
    #[arg(short = 'm')]
    many: bool,
    /// Talk to this host or socket; several are separated by commas
    #[arg(short = 'h', value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// Talk to this port
    #[arg(short = 'p', value_name = "PORT", default_value_t = 323)]
    port: u16,
    /// Accepted, without a meaning
    #[arg(short = 'a', hide = true)]
    authenticate: bool,
    /// Accepted, without a meaning
    #[arg(short = 'd', hide = true)]
    debug: bool,
    /// Accepted, without a meaning
    #[arg(short = 'f', value_name = "FILE", hide = true)]
    file: Option<String>,
    /// Accepted, without a meaning
    #[arg(short = 'u', value_name = "USER", hide = true)]
    user: Option<String>,
    /// Print the version
    #[arg(short = 'v', long = "version", action = ArgAction::Version)]
    version: Option<bool>,
    /// Print help
    #[arg(long = "help", action = ArgAction::Help)]
    help: Option<bool>,
    /// The command; commands are read from standard input without one
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Whether a program called by this path is to be chronyc.
#[must_use]
pub fn is_meant(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(NAME))
}

/// Its options, for its manual page.
#[must_use]
pub fn options() -> clap::Command {
    Args::command()
}

/// Does what the command line asks for.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    let mut session = Session {
        talker: Talker::new(Peer::list(&args.host, args.port, args.ipv4, args.ipv6)),
        csv: args.csv,
        numeric: args.numeric,
        end_dot: args.end_dot,
    };
    let succeeded = if args.command.is_empty() {
        session.converse()
    } else if args.many {
        // Each is done, whatever came of those before.
        let done: Vec<bool> = args.command.iter().map(|line| session.line(line)).collect();
        done.into_iter().all(|done| done)
    } else {
        session.line(&args.command.join(" "))
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// What stays the same from command to command.
struct Session {
    talker: Talker,
    csv: bool,
    numeric: bool,
    end_dot: bool,
}

/// What came of a command.
#[derive(Debug)]
enum Outcome {
    /// To be printed.
    Text(String),
    /// To be printed, and the program fails.
    Failed(String),
    /// The command makes no sense, as is told on standard error.
    Misused(String),
    /// Nothing more is to be done.
    Quit,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let text = format!("{failure}\n");
        if matches!(failure, Failure::Address) { Self::Misused(text) } else { Self::Failed(text) }
    }
}

impl Session {
    /// Reads commands until there are no more.
    fn converse(&mut self) -> bool {
        let input = io::stdin();
        let prompt = input.is_terminal();
        let mut succeeded = true;
        loop {
            if prompt {
                print!("{NAME}> ");
                let _ = io::stdout().flush();
            }
            let mut line = String::new();
            match input.lock().read_line(&mut line) {
                Ok(0) | Err(_) => return succeeded,
                Ok(_) => {}
            }
            if matches!(line.trim(), "exit" | "quit") {
                return succeeded;
            }
            succeeded = self.line(&line);
        }
    }

    /// Does one command and prints what comes of it; whether it succeeded.
    fn line(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        // As in its files.
        let is_comment = words.first().is_none_or(|word| word.starts_with(['!', ';', '#', '%']));
        if is_comment {
            return true;
        }
        let (text, succeeded) = match self.command(&words) {
            Outcome::Text(text) => (text, true),
            Outcome::Failed(text) => (text, false),
            Outcome::Misused(text) => {
                eprint!("{text}");
                (String::new(), false)
            }
            Outcome::Quit => (String::new(), true),
        };
        print!("{text}");
        if self.end_dot {
            println!(".");
        }
        let _ = io::stdout().flush();
        succeeded
    }

    fn command(&mut self, words: &[&str]) -> Outcome {
        let (Some(name), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else { return Outcome::Quit };
        match *name {
            "exit" | "quit" => Outcome::Quit,
            "help" => Outcome::Text(HELP.to_owned()),
            "waitsync" => self.wait(arguments),
            // Whose names are shown, and for how long is waited, is up to the options and to us.
            "dns" | "timeout" | "retries" | "authhash" | "password" => Outcome::Text(String::new()),
            name => self
                .show(name, arguments)
                .or_else(|| self.change(name, arguments))
                .unwrap_or_else(|| Outcome::Misused("Unrecognized command\n".to_owned())),
        }
    }
}

/// What `help` prints: commands, each with what it does in two columns.
pub const HELP: &str = "\
tracking                    State of the clock
sources [-a]                Sources in one glance
sourcestats [-a]            What the measurements of each source say together
selectdata [-a]             What selection goes by
authdata [-a]               How each source is authenticated
ntpdata [ADDRESS]           Last reply of each source
sourcename ADDRESS          Name of a source as it was configured
activity                    How many sources are asked
serverstats                 What was served
clients                     Who was served
accheck ADDRESS             Whether this address is served
allow [all] [ADDRESS[/BITS]]
                            Serve this range from now on
deny [all] [ADDRESS[/BITS]]
                            Serve this range no more
cmdaccheck ADDRESS          Whether chronyc is answered over UDP from this address
cmdallow [all] [ADDRESS[/BITS]]
                            Answer chronyc over UDP from this range
cmddeny [all] [ADDRESS[/BITS]]
                            Answer it from this range no more
waitsync [TRIES [CORRECTION [SKEW [INTERVAL]]]]
                            Wait until the clock is synchronized
makestep [THRESHOLD LIMIT]  Step the clock now, or say when it is stepped
maxupdateskew PPM           Use no frequency with a larger error bound
local [OPTIONS], local off  Serve the local clock where sources do not tell the time
online [[MASK/]ADDRESS]     Ask sources again
offline [[MASK/]ADDRESS]    Ask sources no more
onoffline                   Ask the sources to which there is a route
burst GOOD/MAX [[MASK/]ADDRESS]
                            Ask several times in a row
minpoll ADDRESS LOG2        Change the shortest poll interval of a source
maxpoll ADDRESS LOG2        Change its longest poll interval
polltarget ADDRESS NUMBER   Change how often it is asked: 8 usually, 16 twice as often
minstratum ADDRESS STRATUM  Change the stratum it counts as having at least
maxdelay ADDRESS SECONDS    Change the longest round trip that is taken
maxdelayratio ADDRESS RATIO
                            The same, as a multiple of the shortest; 0 is no limit
maxdelaydevratio ADDRESS RATIO
                            The same, by the spread of offsets; 0 is no limit
selectopts ADDRESS [+OPTION|-OPTION ...]
                            Change how one source may be used
add server NAME [OPTIONS]   Add a server
add pool NAME [OPTIONS]     Add a pool
delete ADDRESS              Remove a server
refresh                     Look names up again
reload sources              Read the directories of sources again
reselect                    Choose among the sources anew
reset sources               Forget all measurements, and measure anew
rekey                       Make new keys for cookies, or read keys again
cyclelogs                   Open files of measurements anew
dump                        Accepted
shutdown                    End the daemon
exit, quit                  Leave
";
