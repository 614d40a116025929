//! What goes wrong with a client's clock.

use clock_control::Clock as _;
use ntp_proto::{
    engine::Notice,
    steer::{Foreign, Steer},
    time::{NtpDuration, Rate},
};

use super::World;

/// Commands that a client's kernel does not obey.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelFaults {
    /// It refuses every change of the frequency.
    pub no_frequency: bool,
    /// It refuses every step.
    pub no_steps: bool,
    /// It sets no frequency beyond this, either way, and says what it set.
    pub largest_frequency: Option<Rate>,
}

impl World {
    /// Has a client's clock obey a command, if its kernel does.
    pub(super) fn steer(&mut self, number: usize, command: Steer) {
        let client = &mut self.clients[number];
        let faults = client.faults;
        let command = match command {
            Steer::Status(status) => {
                client.kernel = Some(status);
                client.kernel_history.push((self.now.as_secs_f64(), status));
                command
            }
            Steer::Step(_) if faults.no_steps => return self.refuse(number, command),
            Steer::Step(_) => {
                client.steps += 1;
                command
            }
            Steer::Frequency(_) if faults.no_frequency => return self.refuse(number, command),
            Steer::Frequency(rate) => Steer::Frequency(faults.largest_frequency.map_or(rate, |most| rate.clamp(most))),
        };
        if let Ok(applied) = client.clock.steer(command) {
            client.engine.handle_steered(&applied);
        }
        if let Some(rate) = client.meddled.take() {
            let now = self.present(number);
            let still = !matches!(command, Steer::Frequency(_));
            self.clients[number].engine.handle_foreign(now, Foreign::Frequency(rate), still);
        }
        if let Some(rate) = self.clients[number].slewed.take() {
            self.bend(number, Rate::new(-rate.get()));
            let now = self.present(number);
            self.clients[number].engine.handle_foreign(
                now,
                Foreign::Slew(NtpDuration::from_seconds(rate.get())),
                false,
            );
        }
    }

    fn refuse(&mut self, number: usize, command: Steer) {
        let now = self.present(number);
        self.clients[number].engine.handle_refused(now, command);
    }

    /// From now on a client's kernel does not obey all commands.
    pub fn set_faults(&mut self, client: usize, faults: KernelFaults) {
        self.clients[client].faults = faults;
    }

    /// The oscillator of a client runs faster from now on by this much.
    pub fn bend(&mut self, client: usize, by: Rate) {
        self.present(client);
        self.clients[client].clock.bend(by);
    }

    /// Another program makes a client's clock run at this rate relative to its oscillator, which is noticed with the next
    /// command.
    pub fn meddle(&mut self, client: usize, rate: Rate) {
        self.present(client);
        let client = &mut self.clients[client];
        client.meddled = client.clock.steer(Steer::Frequency(rate)).ok().map(|_| rate);
    }

    /// Another program has a client's clock gain this much beside its rate, until that is noticed and ended with the next
    /// command.
    pub fn slew_behind(&mut self, client: usize, rate: Rate) {
        self.bend(client, rate);
        self.clients[client].slewed = Some(rate);
    }

    /// What a client's engine had to say, and when.
    #[must_use]
    pub fn notices(&self, client: usize) -> &[(f64, Notice)] {
        &self.clients[client].notices
    }
}
