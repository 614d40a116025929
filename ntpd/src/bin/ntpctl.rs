//! Watches and controls a running `ntpd`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ntpd::cli::ctl::run(&ntpd::cli::ctl::Ctl::parse())
}
