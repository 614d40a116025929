//! What administrators are told of the sources and the clock. Each line says what happened, what it means and, where there is
//! something to be done, what.

use ntp_proto::{engine::Notice, ids::SourceId};

use super::Client;
use crate::observe::SourceInfo;

/// How a source is called in messages. Both are fields of their own there, by which a journal is searched.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) address: String,
}

impl From<&SourceInfo> for Place {
    fn from(info: &SourceInfo) -> Self {
        Self { name: info.name.clone(), address: info.address.to_string() }
    }
}

impl Client {
    pub(super) fn place(&self, id: SourceId) -> Place {
        let unknown = || Place { name: format!("source {}", id.0), address: String::new() };
        self.info.get(&id).map_or_else(unknown, Place::from)
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Selected(id) => {
                let Place { name, address } = self.place(id);
                tracing::info!(source = %name, %address, "selected source: the clock follows it most");
            }
            Notice::NoSelection => tracing::warn!(
                "no source can be used: the clock runs on at its last frequency and its error bound grows; `ntpctl sources` says \
                 why each is not used"
            ),
            Notice::Falseticker(id) => {
                let Place { name, address } = self.place(id);
                tracing::warn!(
                    source = %name, %address,
                    "source disagrees with the majority and is left out; if it goes on, mend its clock or remove it"
                );
            }
            Notice::Kiss(id, code) => {
                let Place { name, address } = self.place(id);
                tracing::warn!(
                    source = %name, %address, reason = %code,
                    "server sent a kiss code: it wants to be asked less often, or not at all"
                );
            }
            Notice::Step(by) => {
                tracing::warn!(
                    seconds = by.to_seconds(),
                    "stepping the clock; times logged before are wrong by as much"
                );
            }
            Notice::Wrong(by) => tracing::warn!(
                seconds = by.to_seconds(),
                "clock is wrong, and no step is allowed any more: slewing, which takes long; `ntpctl makestep` steps it"
            ),
            Notice::Ignored(by) => tracing::warn!(
                seconds = by.to_seconds(),
                "offset above clock.max-change ignored; if the sources are right, set the clock by hand or start the daemon anew"
            ),
            Notice::GaveUp(by) => {
                self.gave_up = true;
                tracing::error!(seconds = by.to_seconds(), "offset above clock.max-change once too often; giving up");
            }
            Notice::Unsynchronized => tracing::warn!(
                "error bound too large: the clock is no longer synchronized, and clients are told so; `ntpctl tracking` says why"
            ),
            Notice::Jump(by) => tracing::warn!(
                seconds = by.to_seconds(),
                "somebody else made the clock jump; measuring anew. Find the program that sets it, and stop it"
            ),
        }
    }
}
