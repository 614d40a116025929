//! What chronyc asks of the daemon, and who is answered.

use std::net::IpAddr;

use ntp_proto::server::TooManyRules;

use super::{Daemon, StartError};
use crate::{
    config::{AccessChange, AddFault, Added, Server},
    observe::{
        chronyc::{Host, may_ask},
        control::{Change, ControlError, Reply, Show},
    },
    serve::ClientLog,
};

impl Daemon {
    /// Changes who is served, until the configuration is read again.
    pub(super) fn change_access(&mut self, change: &AccessChange) -> Result<(), StartError> {
        let Some(serve) = &self.config.serve else {
            return Err(StartError("nothing is served; [serve] of the configuration says what is".into()));
        };
        let mut serve = serve.clone();
        serve.access.change(change).map_err(StartError::new)?;
        self.serving.set_access(&serve, &self.keys)?;
        self.config.serve = Some(serve);
        Ok(())
    }

    /// Changes from where chronyc is answered over UDP, until the daemon ends.
    pub(super) fn change_chronyc_access(&mut self, change: &AccessChange) -> Result<(), TooManyRules> {
        let mut access = self.chronyc_access.borrow().clone();
        access.change(change)?;
        self.chronyc_access.send_replace(access);
        Ok(())
    }
}

impl Host for Daemon {
    fn show(&mut self, show: &Show) -> Result<Reply, ControlError> {
        self.report(show)
    }

    fn change(&mut self, change: &Change) -> Result<(), ControlError> {
        self.carry_out(change).map(|_| ())
    }

    fn add(&mut self, source: Added) -> Result<(), AddFault> {
        if let Added::Server(Server { key: Some(key), .. }) = &source
            && self.keys.iter().all(|known| known.id() != *key)
        {
            return Err(AddFault::UnknownKey);
        }
        self.amendments.add(&self.configured(), source)?;
        self.client.set_sources(&self.sources(), &self.keys);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> bool {
        let is_removed = self.amendments.remove(&self.configured(), name);
        if is_removed {
            self.client.set_sources(&self.sources(), &self.keys);
        }
        is_removed
    }

    fn is_served(&self, address: IpAddr) -> bool {
        self.config.serve.as_ref().is_some_and(|serve| serve.access.permit(address))
    }

    fn may_ask(&self, address: IpAddr) -> bool {
        may_ask(&self.chronyc_access.borrow(), address)
    }

    fn clients(&self) -> Option<&ClientLog> {
        self.serving.clients().map(AsRef::as_ref)
    }

    fn commands(&self) -> (u64, u64) {
        self.chronyc_counts.get()
    }
}
