//! The time daemon.

use std::process::ExitCode;

use clap::Parser as _;
use ntpd::cli::{Cli, run};

fn main() -> ExitCode {
    run(&Cli::parse())
}
