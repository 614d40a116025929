//! A hardware clock that the kernel did not read.

use super::*;

/// Where a machine that starts at 0 comes to be, whose hardware clock reads this.
fn start(reading: i64, facts: ClockFacts) -> (i64, Standing) {
    let unread = ClockFacts { set_by: SetBy::Unread { reading, voltage_low: false }, ..facts };
    let machine = Machine::new(config(), &unread, 0, 3);
    (machine.at.clock.seconds, machine.boot.report().standing)
}

#[test]
fn it_is_read_now_and_then_worth_as_much_as_if_the_kernel_had() {
    assert_eq!(start(TRUE, GOOD), (TRUE, Standing::Plausible));
    // One that lost its time, or runs far ahead, is no better than none.
    let behind = Standing::Untrusted(Distrust::BehindFloor);
    assert_eq!(start(BUILD - 1, GOOD), (BUILD, behind));
    assert_eq!(start(BUILD + 20 * 365 * DAY, GOOD), (BUILD, behind));
    let restored = ClockFacts { restored: true, ..GOOD };
    assert_eq!(start(TRUE, restored), (TRUE, Standing::Untrusted(Distrust::Restored)));
}
