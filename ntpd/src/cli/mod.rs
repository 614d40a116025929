//! The command line of `ntpd`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{config::Origin, oneshot, start};
#[cfg(feature = "demo")]
use crate::{config::PoolModeName, demo};

mod check;
pub mod chronyc;
mod migrate;

pub(crate) use check::print;
pub use migrate::MigrateArgs;
pub mod ctl;
pub mod watch;

/// Exit code of a command that failed; usage errors have 2, as clap gives them.
pub const FAILED: u8 = 1;

/// Exit code of a daemon that does not believe what its sources say, and is not to be started again.
pub const GIVEN_UP: u8 = 3;

/// What `ntpd` is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "ntpd", version, about = "Keeps this machine's clock right, and tells others the time")]
#[command(args_conflicts_with_subcommands = false, disable_help_subcommand = true)]
pub struct Cli {
    /// Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Never touch the system clock: keep time in this process only
    #[arg(short = 'x', long = "no-clock", global = true)]
    pub no_clock: bool,

    /// Without a command: run the daemon in the foreground
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration and change nothing
    Check,
    /// Print the configuration with all defaults
    Explain,
    /// Set the clock once and exit
    Once,
    /// Measure servers and print what they say; needs no configuration and no privilege
    Query(QueryArgs),
    /// Print the configuration that another time daemon's comes to; what is lost is said on standard error
    Migrate(MigrateArgs),
    /// Show the whole system on loopback; needs no privilege and no network
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
}

/// Arguments of `ntpd query`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct QueryArgs {
    /// Pools, servers or addresses to ask
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Arguments of `ntpd demo`.
#[cfg(feature = "demo")]
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// How the client is to use the name of the pool
    #[arg(long, value_enum, default_value_t = PoolModeName::Auto)]
    pub mode: PoolModeName,
    /// Start instead with a clock at 1970, nothing saved, and an impostor among the operators
    #[arg(long, conflicts_with_all = ["mode", "keep"])]
    pub first_boot: bool,
    /// Print the result for a script
    #[arg(long)]
    pub json: bool,
    /// Stay up at the end, so that other clients can try it
    #[arg(long)]
    pub keep: bool,
}

impl Cli {
    /// Which configuration is meant.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.config.clone().map_or(Origin::Standard, Origin::File)
    }
}

/// Does what the command line asks for.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    match &cli.command {
        Some(Command::Check) => check::check(&cli.origin()),
        Some(Command::Explain) => check::explain(&cli.origin()),
        None => start::run(&cli.origin(), cli.no_clock),
        Some(Command::Once) => oneshot::once(&cli.origin(), cli.no_clock),
        Some(Command::Query(query)) => oneshot::query(&query.names),
        Some(Command::Migrate(args)) => migrate::run(args),
        #[cfg(feature = "demo")]
        Some(Command::Demo(args)) => demo::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::error::ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let check = Cli { config: Some("a.toml".into()), no_clock: false, command: Some(Command::Check) };
        assert_eq!(parse("ntpd check -c a.toml").as_ref(), Ok(&check));
        assert_eq!(parse("ntpd -c a.toml check"), Ok(check));
        let daemon = parse("ntpd -x").unwrap();
        assert_eq!((daemon.no_clock, daemon.command.clone(), daemon.origin()), (true, None, Origin::Standard));
        let query = Command::Query(QueryArgs { names: vec!["a".into(), "b".into()] });
        assert_eq!(parse("ntpd query a b").unwrap().command, Some(query));
        assert_eq!(parse("ntpd once -c x").unwrap().origin(), Origin::File("x".into()));
    }

    #[cfg(feature = "demo")]
    #[test]
    fn the_demonstration_has_the_modes_of_the_configuration() {
        use clap::ValueEnum as _;

        let words = PoolModeName::value_variants().iter().map(|mode| mode.name());
        assert_eq!(words.collect::<Vec<_>>(), ["auto", "srv", "lb", "shared-cert", "ip-cert", "classic"]);
        for mode in PoolModeName::value_variants() {
            let line = format!("ntpd demo --mode {}", mode.name());
            let args = DemoArgs { mode: *mode, first_boot: false, json: false, keep: false };
            assert_eq!(parse(&line).unwrap().command, Some(Command::Demo(args)), "{line}");
        }
        let error = Cli::try_parse_from(["ntpd", "demo", "--mode", "nonsense"]).unwrap_err().to_string();
        assert!(
            error.contains("'nonsense'") && error.contains("auto, srv, lb, shared-cert, ip-cert, classic"),
            "{error}"
        );
    }

    #[cfg(feature = "demo")]
    #[test]
    fn the_first_boot_has_no_pool_and_so_no_mode() {
        let args = DemoArgs { mode: PoolModeName::Auto, first_boot: true, json: true, keep: false };
        assert_eq!(parse("ntpd demo --first-boot --json").unwrap().command, Some(Command::Demo(args)));
        for other in ["--mode srv", "--keep"] {
            let line = format!("ntpd demo --first-boot {other}");
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            let (code, error) = (error.exit_code(), error.to_string());
            let option = &other[..6];
            assert!(
                code == 2
                    && error.contains("--first-boot")
                    && error.contains("cannot be used with")
                    && error.contains(option),
                "{error}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in ["ntpd chekc", "ntpd -c", "ntpd query", "ntpd check extra", "ntpd -y", "ntpd demo --mode srvx"] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
