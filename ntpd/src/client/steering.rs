//! Carrying out what the engine wants of the clock, and what happens to that behind our back.

use std::mem;

use ntp_proto::steer::Steer;

use super::{Client, Disturbance};
use crate::now;

/// Which kinds of commands were refused the last time they were given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusing {
    frequency: bool,
    step: bool,
    status: bool,
}

impl Refusing {
    /// Takes note of whether a command was refused; whether those of its kind were not so far.
    const fn note(&mut self, command: &Steer, refused: bool) -> bool {
        let kind = match command {
            Steer::Frequency(_) => &mut self.frequency,
            Steer::Step(_) => &mut self.step,
            Steer::Status(_) => &mut self.status,
        };
        !mem::replace(kind, refused) && refused
    }
}

/// What it means that a command is refused, and what can be done.
const fn consequence(command: &Steer) -> &'static str {
    match command {
        Steer::Frequency(_) => {
            "cannot steer the clock, which runs free; give back the right to set it (CAP_SYS_TIME), or run with -x to leave it \
             alone"
        }
        Steer::Step(_) => {
            "cannot step the clock, which is slewed instead if it can be; give back the right to set it (CAP_SYS_TIME), or run \
             with -x to leave it alone"
        }
        Steer::Status(_) => {
            "cannot tell the kernel how good the clock is, so that other programs take it for unsynchronized; give back the right \
             to set it (CAP_SYS_TIME), or run with -x to leave it alone"
        }
    }
}

impl Client {
    pub(super) fn steer(&mut self, command: Steer) {
        let outcome = self.clock.steer(command);
        let is_set = matches!(&outcome, Ok(applied) if matches!(applied.command, Steer::Frequency(_)));
        match outcome {
            Ok(applied) => {
                if let (Steer::Step(by), true) = (applied.command, self.clock.is_machines()) {
                    self.watch.handle_own_step(by);
                    self.steps.add(now::monotonic(), applied.at, by);
                }
                if self.clock.is_machines() {
                    self.hardware.handle_steered(&applied);
                }
                self.engine.handle_steered(&applied);
                self.refusing.note(&command, false);
            }
            Err(error) => {
                if self.refusing.note(&command, true) {
                    tracing::error!(reason = %error, "{}", consequence(&command));
                }
                let present = self.clock.now();
                self.engine.handle_refused(present, command);
            }
        }
        for foreign in self.clock.take_foreign() {
            let present = self.clock.now();
            self.engine.handle_foreign(present, foreign, !is_set);
        }
    }

    pub(super) fn look_at_clocks(&mut self) {
        for disturbance in self.watch.check() {
            match disturbance {
                Disturbance::Jump(at, by) if self.clock.follows_kernel() => {
                    self.hardware.handle_jump(by);
                    let present = self.clock.now();
                    self.engine.handle_jump(present, at, by);
                }
                Disturbance::Sleep(slept) => {
                    tracing::info!(
                        seconds = slept.as_secs(),
                        "the machine slept; measuring anew, until then the clock may be off"
                    );
                    self.hardware.handle_sleep();
                    let present = self.clock.now();
                    self.engine.handle_interruption(present);
                }
                Disturbance::Jump(..) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::{
        ids::Leap,
        steer::ClockStatus,
        time::{NtpDuration, Rate},
    };

    use super::*;

    #[test]
    fn a_refusal_is_told_once_for_each_kind_of_command() {
        let (frequency, step) = (Steer::Frequency(Rate::ZERO), Steer::Step(NtpDuration::ZERO));
        let status = Steer::Status(ClockStatus {
            synchronized: false,
            leap: Leap::None,
            max_error: NtpDuration::ZERO,
            estimated_error: NtpDuration::ZERO,
            tai_offset: None,
        });
        // command, refused, told
        let story = [
            (status, false, false),
            (frequency, true, true),
            (status, false, false),
            (frequency, true, false),
            (step, true, true),
            (status, true, true),
            (frequency, true, false),
            (step, false, false),
            (status, true, false),
            (step, true, true),
            (frequency, false, false),
            (frequency, true, true),
        ];
        let mut refusing = Refusing::default();
        for (number, (command, refused, told)) in story.into_iter().enumerate() {
            assert_eq!(refusing.note(&command, refused), told, "{number}: {command:?}");
        }
    }
}
