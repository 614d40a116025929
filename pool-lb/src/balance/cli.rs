//! The command line of `nts-pool-lb`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// What `nts-pool-lb` is asked to do.
#[derive(Debug, Parser)]
#[command(name = "nts-pool-lb", version, about = "The key-exchange load balancer of an NTS pool")]
#[command(disable_help_subcommand = true)]
pub struct Arguments {
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/nts-pool/nts-pool-lb.toml", global = true)]
    pub config: PathBuf,

    /// Without a command: serve users, in the foreground
    #[command(subcommand)]
    pub command: Option<Task>,
}

/// What to do instead of serving users.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Read all files, say what is wrong with them, and end
    Check {
        /// Ask each name server of the zone for its list too, and keep nothing
        #[arg(long)]
        zone: bool,
    },
    /// Show the members and how they are
    List,
    /// Show whom a client gets, and why
    Why {
        /// The client's address
        client: IpAddr,
    },
    /// Give a member no new users
    Drain {
        /// Its name in the directory
        member: String,
    },
    /// Take a drained member in again
    Undrain {
        /// Its name in the directory
        member: String,
    },
    /// Read members, certificates and keys again, and transfer the zone
    Reload {
        /// Take the zone's list even if it is older than what is known
        #[arg(long)]
        older: bool,
    },
    /// Probe members and publish the verdict, without serving users
    Monitor,
}
