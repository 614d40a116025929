//! The DNS side of a pool of NTS servers.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    pool_srv::publish::cli::run(&pool_srv::publish::cli::Cli::parse())
}
