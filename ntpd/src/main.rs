//! The time daemon.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ntpd::cli::run(&ntpd::cli::Cli::parse())
}
