#!/usr/bin/env python3
"""Our daemon, with all its rights, on the clock of a real kernel: that of a guest.

Needs `tests/run` to have unpacked User Mode Linux and busybox, or NTPD_VM to say where they are; needs no root.
    run.py            all cases
    run.py PATTERN    those whose name contains PATTERN
"""

import json
import re
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from lab import BUSYBOX, KERNEL, OURS, Lab, Transcript

CASES = []
# Guests at once: they mostly wait.
AT_ONCE = 3
# How wrong a clock may be that is called right, in seconds: guests share a busy machine.
RIGHT = 0.02
ALWAYS = """'[clock]
step = { threshold = "1s", updates = "always" }'"""


def case(script, seconds=100):
    """A case is what happens in the guest, and a function that judges what it said."""
    def add(judge):
        CASES.append((judge.__name__, script, seconds, judge))
        return judge
    return add


def expect(truth, what, *evidence):
    if not truth:
        raise AssertionError(f"{what}: {evidence}")


def expect_good(clock, what):
    """The clock is right, and the kernel tells everybody so, as `timedatectl` would ask."""
    expect(abs(clock["error"]) < RIGHT, f"{what}: right", clock)
    expect(not clock["unsync"] and clock["state"] != "ERROR", f"{what}: called synchronized", clock)
    expect(not clock["pll"], f"{what}: the kernel's own loops are off", clock)
    expect(0 < clock["maxerror"] < 500_000, f"{what}: a bound that means something", clock)
    expect(clock["esterror"] <= clock["maxerror"], f"{what}: no worse than its bound", clock)
    expect(abs(clock["error"]) * 1e6 <= clock["maxerror"] + 2000, f"{what}: within its bound", clock)


@case(f"""
clock set 1800000000
truth_is 1800003600
report before clock show
start_daemon {ALWAYS} 2
report first clock wait {RIGHT} 40
report status grep -E '^(Uid|Gid|CapEff|CapPrm|NoNewPrivs):' /proc/$DAEMON/status
sleep 10
report later clock show
report tracking ntpctl tracking
by_offset() {{ clock step 100; logged 1 'made the clock jump'; }}
and_back() {{ clock step -50; logged 3 'made the clock jump'; }}
by_date() {{ date -s @1700000000; logged 2 'made the clock jump'; }}
echo "@noticed $(elapsed by_offset)"
report again clock wait {RIGHT} 40
sleep 3
echo "@noticed $(elapsed by_date | tail -n 1)"
report third clock wait {RIGHT} 40
sleep 2
echo "@noticed $(elapsed and_back)"
report fourth clock wait {RIGHT} 40
end_daemon
report after clock show
report refused su -s /bin/sh ntpd -c 'ntpd -c /etc/ntpd.toml'
""")
def a_wrong_clock_is_stepped_whoever_made_it_wrong(said):
    before = said.clock("before")
    expect(abs(before["error"] + 3600) < 5 and before["unsync"], "an hour slow at first", before)
    for tag in ("first", "later", "again", "third", "fourth", "after"):
        expect_good(said.clock(tag), tag)
    # Left alone, the kernel's bound grows by 500 us each second; every 4 s there is a new one.
    grown = said.clock("later")["maxerror"] - said.clock("first")["maxerror"]
    expect(grown < 4000, "the bound is told anew", grown)
    status = "\n".join(said.lines("status"))
    expect(re.search(r"Uid:\s+900\s+900\s+900\s+900", status), "runs as its user", status)
    for kind in ("CapPrm", "CapEff"):
        # CAP_NET_BIND_SERVICE is 10, CAP_SYS_TIME 25.
        expect(int(re.search(rf"{kind}:\s+(\S+)", status)[1], 16) == 1 << 10 | 1 << 25, "two capabilities", status)
    noticed = [float(seconds) for seconds in said.lines("noticed")]
    expect(len(noticed) == 3 and all(seconds < 1 for seconds in noticed), "foreign steps are noticed at once", noticed)
    expect(len(said.logged("made the clock jump")) == 3, "no step of our own is taken for a foreign one", said.lines("log"))
    expect(len(said.logged("stepping the clock")) == 4, "four steps", said.lines("log"))
    expect(not said.logged("another program steers"), "nobody else set a frequency", said.lines("log"))
    expect(said.one("exit") == "0", "a clean end", said.lines("exit"))
    refused = " ".join(said.lines("refused"))
    expect("CAP_SYS_TIME" in refused and "-x" in refused, "says what is missing and what can be done", refused)


@case(f"""
truth_is 1800000000
clock set 1800000000
clock step -0.3
start_daemon
report slew clock watch 14
report first clock wait {RIGHT} 30
sleep 4
end_daemon
report after clock show
report drift cat /var/lib/ntpd/drift*
clock step 0.4
start_daemon
report second timeout 30 sh -c 'while clock show | grep "\\"tick\\": 10000"; do usleep 100000; done; clock show'
end_daemon
report stopped clock show
""")
def a_small_offset_is_slewed_with_the_tick(said):
    slew = said.clocks("slew")
    ticks = [clock["tick"] for clock in slew]
    expect(max(ticks) > 10_100, "the tick takes the slew", ticks)
    expect(max(ticks) <= 11_000 and all(abs(clock["ppm"]) <= 500 for clock in slew), "within the kernel's limits", slew)
    expect(ticks[0] == 10_000 and ticks[-1] == 10_000, "and comes back", ticks)
    expect(not said.logged("stepping the clock") and not said.logged("made the clock jump"), "no step", said.lines("log"))
    expect_good(said.clock("first"), "first")
    for tag in ("after", "stopped"):
        clock = said.clock(tag)
        expect(clock["tick"] == 10_000 and abs(clock["ppm"]) < 200, f"{tag}: the natural frequency stays", clock)
    expect(abs(said.clock("after")["error"]) < RIGHT, "right at the end", said.clock("after"))
    expect(said.lines("drift"), "a file of the drift")
    expect(json.loads(said.lines("second")[-1])["tick"] < 9_900, "the second run was in the middle of its slew", said.lines("second"))
    expect(said.lines("exit") == ["0", "0"], "clean ends", said.lines("exit"))


@case(f"""
truth_is 1800000000
clock set 1800000000
clock slew 0.2
clock loop 0.1
report left clock show
start_daemon
report first clock wait {RIGHT} 30
sleep 6
report quiet clock show
report early grep -c 'another program steers' $LOG
by_frequency() {{ clock frequency 300; logged 1 'another program steers'; }}
by_slew() {{ clock slew 0.2; logged 2 'another program steers'; }}
by_loop() {{ clock loop -0.2; logged 3 'another program steers'; }}
for means in frequency slew loop; do
	echo "@noticed $(elapsed by_$means)"
	sleep 1
	report ended clock show
	sleep 5
	report again clock wait {RIGHT} 20
done
clock slew -0.2
sleep 5
report again clock wait {RIGHT} 20
end_daemon
report after clock show
""")
def whoever_steers_too_is_noticed_told_of_and_ended(said):
    left = said.clock("left")
    expect(left["pll"] and left["offset"] > 0 and left["slew"] > 0, "what a daemon left that is gone", left)
    expect(said.one("early") == "0", "is told of nobody", said.lines("log"))
    quiet, after = said.clock("quiet"), said.clock("after")
    for clock in [quiet, *said.clocks("ended"), *said.clocks("again"), after]:
        expect(not clock["pll"] and clock["offset"] == 0 and clock["slew"] == 0, "nobody else's slew goes on", clock)
    for clock in [quiet, *said.clocks("again")]:
        expect_good(clock, "right again")
    expect(len(said.clocks("again")) == 4, "each time", said.lines("again"))
    noticed = [float(seconds) for seconds in said.lines("noticed")]
    expect(len(noticed) == 3 and all(seconds < 5 for seconds in noticed), "noticed with the next update", noticed)
    told = said.logged("another program steers")
    expect(len(told) == 3, "each told once", told)
    for line, means in zip(told, ["another frequency", "adjtime()", "own loop"], strict=True):
        expect(means in line, "says what was noticed", told)
    expect(abs(after["ppm"] - quiet["ppm"]) < 100 and after["tick"] == 10_000, "our frequency is in force", quiet, after)
    expect(not said.logged("made the clock jump") and not said.logged("stepping the clock"), "nobody stepped", said.lines("log"))


@case(f"""
truth_is 1798761574 1798761600
clock set 1798761574
start_daemon
report first clock wait {RIGHT} 20
report night clock watch 32
report after clock wait {RIGHT} 10
end_daemon
""")
def the_kernel_inserts_the_leap_second_that_is_announced(said):
    states = [clock["state"] for clock in said.clocks("night")]
    order = [state for i, state in enumerate(states) if i == 0 or states[i - 1] != state]
    expect(order[-4:] == ["INS", "OOP", "WAIT", "OK"] or order[-3:] == ["INS", "OOP", "OK"], "armed, done and disarmed", order)
    after = said.clock("after")
    expect_good(after, "after")
    expect(1798761600 <= after["unix"] < 1798761640, "the next year", after)
    expect(after["tai"] == 1, "the kernel counted it", after)
    expect(not said.logged("stepping the clock") and not said.logged("made the clock jump"), "nobody stepped", said.lines("log"))
    expect(not said.logged("falseticker") and not said.logged("no source"), "the source stays in use", said.lines("log"))


@case(f"""
truth_is 1798761574 1798761600
clock set 1798761574
printf '#@ 4102444800\\n3692217600 37\\n4007750400 38\\n' >/run/leap-seconds.list
start_daemon '[clock]
leap-file = "/run/leap-seconds.list"'
report first clock wait {RIGHT} 20
report night clock watch 32
report after clock wait {RIGHT} 10
report tracking ntpctl tracking
end_daemon
""")
def a_list_of_leap_seconds_tells_the_kernel_of_tai_too(said):
    night = said.clocks("night")
    expect(any(clock["state"] == "INS" and clock["tai"] == 37 for clock in night), "armed, with TAI as it was", night)
    expect(not any(clock["state"] in ("WAIT", "OK") and clock["tai"] != 38 and clock["unix"] >= 1798761600 for clock in night),
           "TAI goes on as it did", night)
    after = said.clock("after")
    expect_good(after, "after")
    expect(after["tai"] == 38, "the kernel knows how far TAI is ahead", after)
    expect(any("good until" in line for line in said.lines("tracking")), "ntpctl tells of the file", said.lines("tracking"))
    expect(not said.logged("stepping the clock") and not said.logged("made the clock jump"), "nobody stepped", said.lines("log"))


ROLLOVER = 2_085_978_496
END_OF_32_BITS = 2_147_483_648


@case(f"""
truth_is {ROLLOVER - 16}
clock set {ROLLOVER - 16}
start_daemon
report before clock wait {RIGHT} 14
report over clock watch 20
report past clock show
end_daemon
anew() {{
	rm -f /var/lib/ntpd/*
	later $1 $2
}}
later() {{
	truth_is $1
	clock set $2
	start_daemon
	report stepped clock wait {RIGHT} 30
}}
anew 2114380800 1000; end_daemon
later 2114384400 1000; end_daemon
anew {END_OF_32_BITS - 12} 1792000000
sleep 16
report beyond clock show
end_daemon
anew {END_OF_32_BITS + 86400} 1000; end_daemon
anew 1800000000 4300000000; end_daemon
""", 140)
def eras_and_32_bits_end_and_clocks_go_on(said):
    before, past = said.clock("before"), said.clock("past")
    expect_good(before, "before the era ends")
    expect_good(past, "after")
    expect(before["unix"] < ROLLOVER < past["unix"], "the end of the era lies between", before, past)
    expect(all(abs(clock["error"]) < RIGHT for clock in said.clocks("over")), "right all the time", said.lines("over"))
    stepped = said.clocks("stepped")
    wanted = [2114380800, 2114384400, END_OF_32_BITS, END_OF_32_BITS + 86400, 1800000000]
    for clock, near in zip(stepped, wanted, strict=True):
        expect_good(clock, f"stepped to {near}")
        expect(abs(clock["unix"] - near) < 60, f"stepped to {near}", clock)
    beyond = said.clock("beyond")
    expect_good(beyond, "beyond 32 bits")
    expect(beyond["unix"] > END_OF_32_BITS, "beyond 32 bits", beyond)
    expect(len(said.logged("it is set forward")) == 1, "to when it was last kept, where that is known", said.lines("log"))
    expect(len(said.logged("stepping the clock")) == len(wanted) + 1, "each by one step more", said.lines("log"))


@case("""
insmod /lib/pps_core.ko
insmod /lib/pps-ktimer.ko
truth_is 1800000000
clock set 1800000000
start_daemon '[[refclock]]
driver = "pps"
device = "/dev/pps0"
poll = 2
select = ["noselect"]'
report first clock wait 0.02 20
sleep 12
report pulses ntpctl --json ntpdata PPS0
report status grep -E '^(Uid|CapEff):' /proc/$DAEMON/status
report sources ntpctl sources
end_daemon
""")
def pulses_of_the_kernel_are_read(said):
    expect_good(said.clock("first"), "first")
    row = json.loads("".join(said.lines("pulses")))["sources"][0]
    # The kernel's timer makes them a little more than a second apart, so that some lie between two seconds.
    expect(row["received"] >= 8 and row["valid"] + row["refused"].get("ambiguous", 0) >= 8, "read, numbered or refused", row)
    expect(set(row["refused"]) <= {"ambiguous", "unnumbered"}, "for no other reason", row)
    expect("Uid:\t900" in "\n".join(said.lines("status")), "opened as root, read as the daemon's user", said.lines("status"))
    expect(any("#? PPS0" in line for line in said.lines("sources")), "shown", said.lines("sources"))


def run(lab, name, script, seconds, judge):
    began = time.monotonic()
    text = lab.boot(name, script, seconds)
    try:
        judge(Transcript(text))
        problem = None
    except Exception:
        problem = f"{text}\n{traceback.format_exc()}"
    return name, time.monotonic() - began, problem


def main():
    wanted = [entry for entry in CASES if len(sys.argv) < 2 or sys.argv[1] in entry[0]]
    needed = [KERNEL, BUSYBOX, OURS / "ntpd", OURS / "ntpctl", OURS / "truth"]
    missing = [str(path) for path in needed if not path.exists()]
    if missing or not wanted:
        print("missing: " + ", ".join(missing) if missing else "no such case")
        return 1
    failed = 0
    with Lab() as lab, ThreadPoolExecutor(AT_ONCE) as pool:
        for name, took, problem in pool.map(lambda entry: run(lab, *entry), wanted):
            print(f"{'FAILED' if problem else 'ok'} {name} ({took:.1f} s)", flush=True)
            if problem:
                print(problem)
                failed += 1
    print(f"{len(wanted) - failed} of {len(wanted)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
