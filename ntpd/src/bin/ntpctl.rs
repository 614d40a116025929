//! Watches and controls a running `ntpd`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|program| ntpd::cli::chronyc::is_meant(&program)) {
        return ntpd::cli::chronyc::run();
    }
    ntpd::cli::ctl::run(&ntpd::cli::ctl::Ctl::parse())
}
