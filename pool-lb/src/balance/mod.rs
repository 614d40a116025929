//! The balancer that a pool operator runs: users' key exchanges in, members' cookies out.
//!
//! What is decided ([`assign`], [`health`], [`pace`], [`proxy`], [`round`]) knows no clock and no socket. Around it, [`keeper`] owns
//! the verdict on members and the files, and each worker (a thread with a runtime, listeners and connections to members
//! of its own) serves users. They share what does not change, counters, and pointers that are swapped.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ntp_proto::pool::Name;
use nts_ke::{client::ClientConfig, server::ServerConfig};
use tokio::sync::mpsc;

pub mod assign;
pub mod cli;
pub mod config;
mod connection;
pub mod control;
mod dials;
pub mod health;
pub mod identity;
pub mod keeper;
mod membership;
pub mod metrics;
mod names;
mod now;
pub mod pace;
mod probe;
pub mod proxy;
pub mod round;
mod serve;
mod trouble;
mod upstream;
mod user;
mod zone;

pub use keeper::{Balancer, StartError};
pub use zone::{inspect, kept};

use crate::acceptor::Complaint;
use assign::{Aliases, Assignments};
use config::Config;
use dials::Dials;
use health::Sample;
use metrics::{Counter, Metrics};

/// Samples that wait for the judge.
const MAX_EVENTS: usize = 4096;

/// What one thread learned of a member.
struct Event {
    member: Name,
    sample: Sample,
}

/// What all threads see.
struct Core {
    config: Config,
    /// What users are shown; nothing if there are none.
    server: ArcSwapOption<ServerConfig>,
    client: ArcSwap<ClientConfig>,
    assignments: ArcSwap<Assignments>,
    aliases: ArcSwap<Aliases>,
    metrics: Metrics,
    complaint: Complaint,
    dials: Dials,
    events: mpsc::Sender<Event>,
}

/// [`Core`] as it is passed around.
#[derive(Clone)]
struct Shared(Arc<Core>);

impl std::ops::Deref for Shared {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.0
    }
}

impl Core {
    fn tell(&self, member: &Name, sample: Sample) {
        if self.events.try_send(Event { member: member.clone(), sample }).is_err() {
            self.metrics.count(Counter::SamplesDropped);
        }
    }

    /// Remembers that a member may appear under this name.
    fn learn_alias(&self, member: &Name, alias: &str) {
        if !self.aliases.load().knows(member, alias) {
            self.aliases.rcu(|known| {
                let mut known = Aliases::clone(known);
                known.insert(member, alias);
                known
            });
        }
    }
}

#[cfg(test)]
mod tests;
