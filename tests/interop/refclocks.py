#!/usr/bin/env python3
"""Reference clocks that are programs: a shared segment and a socket, read by our daemon and, beside it, by Debian's chronyd.

Needs `tests/run` to have unpacked the peers and built the daemon. No clock is touched: every daemon runs with -x. Segments have
units of which nobody else makes use, and are removed at the end.
"""

import ctypes
import json
import os
import socket
import struct
import threading
import time

from cases import case, expect, main
from lab import wait_for
from peers import CHRONYC, CHRONYD, chrony, chrony_server, chronyc, ntpctl, ours, report, synchronized

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p
LIBC.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
LIBC.shmdt.argtypes = [ctypes.c_void_p]
KEY = 0x4E545030
# mode, count, clock s and us, receive s and us, leap, precision, samples, valid, clock ns, receive ns.
SHM = "@iiqiqiiiiiII36x"
SOCK = "@qqdiiii"
MAGIC = 0x534F434B
# How far the programs say that this machine's clock is behind, in seconds.
AHEAD = 0.123456


class Segment:
    """A segment as gpsd writes it."""

    def __init__(self, unit):
        self.id = LIBC.shmget(KEY + unit, struct.calcsize(SHM), 0o1600)
        if self.id < 0:
            raise OSError(ctypes.get_errno(), f"segment {unit}")
        self.at = LIBC.shmat(self.id, None, 0)

    def write(self, now, ahead, leap=0):
        true = now + int(ahead * 1e9)
        parts = []
        for nanos in (true, now):
            parts += [nanos // 10**9, nanos % 10**9 // 1000]
        text = struct.pack(SHM, 0, 0, *parts, leap, -20, 0, 1, true % 10**9, now % 10**9)
        ctypes.memmove(self.at, text, len(text))

    def remove(self):
        LIBC.shmdt(self.at)
        LIBC.shmctl(self.id, 0, None)


def datagram(now, ahead, pulse=0, leap=0, magic=MAGIC):
    return struct.pack(SOCK, now // 10**9, now % 10**9 // 1000, ahead, pulse, leap, 0, magic)


class Feed:
    """What says the time several times a second, until it is stopped. Sockets that are not there yet are tried again."""

    def __init__(self, units=(), paths=(), ahead=AHEAD):
        self.segments = [Segment(unit) for unit in units]
        self.paths = paths
        self.ahead = ahead
        self.also = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.socket.close()
        for segment in self.segments:
            segment.remove()

    def send(self, path, text):
        try:
            self.socket.sendto(text, str(path))
        except OSError:
            pass

    def run(self):
        while not self.ended.wait(0.2):
            now = time.time_ns()
            for segment in self.segments:
                segment.write(now, self.ahead)
            for path in self.paths:
                for text in [datagram(now - now % 1000, self.ahead), *self.also]:
                    self.send(path, text)


def row(host, daemon, name, show="sources"):
    found = report(host, daemon, show)
    return next((row for row in found["sources"] if row["name"] == name), None) if found else None


def stats(host, daemon, name, samples):
    """The source's statistics once it has so many samples."""
    def ready():
        found = row(host, daemon, name, "sourcestats")
        return found if found and found["samples"] >= samples else None
    return wait_for(f"{samples} samples of {name}", ready, 60)


def chrony_offset(host, process, name, samples):
    def ready():
        for line in chronyc(host, process, "sourcestats").splitlines():
            fields = line.split(",")
            if fields[0] == name and int(fields[1]) >= samples:
                return float(fields[6])
        return None
    return wait_for(f"{samples} samples of {name} in chronyd", ready, 60)


def table(driver, where, refid, more=""):
    return f'[[refclock]]\ndriver = "{driver}"\n{where}\nrefid = "{refid}"\npoll = 0\ndpoll = -2\n{more}\n'


def free_units(count):
    """Units that no other run of this script uses."""
    first = 64 + os.getpid() % 150
    return range(first, first + count)


@case
def ours_and_chronyd_hear_the_same(lab):
    one, other = free_units(2)
    paths = [lab.dir / "ours.sock", lab.dir / "theirs.sock"]
    with Feed((one, other), paths):
        theirs = chrony(lab.a, f"""
refclock SHM {other} refid SHMX poll 0 dpoll -2 noselect
refclock SOCK {paths[1]} refid SOCX poll 0 dpoll -2 noselect
""", "beside")
        watch = 'select = ["noselect"]'
        tables = table("shm", f"unit = {one}", "SHMX", watch), table("sock", f'device = "{paths[0]}"', "SOCX", watch)
        daemon = ours(lab.a, "".join(tables), "feeds")
        for name in ("SHMX", "SOCX"):
            own, told = stats(lab.a, daemon, name, 4)["offset-seconds"], chrony_offset(lab.a, theirs, name, 4)
            # chronyd's sign is the other way round, and its source and ours are the machine's own clock.
            expect(abs(own - AHEAD) < 1e-3 and abs(abs(told) - AHEAD) < 1e-3, name, own, told)
            expect(abs(abs(own) - abs(told)) < 1e-4, "both hear the same", own, told)
        expect(row(lab.a, daemon, "SHMX")["verdict"] == "not-selectable", "only watched", row(lab.a, daemon, "SHMX"))


@case
def a_reference_clock_is_followed_and_shown(lab):
    path = lab.dir / "gps.sock"
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"\nchronyc-listen = []'
    with Feed((), [path]):
        daemon = ours(lab.a, table("sock", f'device = "{path}"', "GPS", "delay = \"1ms\""), "gps", control)
        tracking = wait_for("a clock that is synchronized", lambda: synchronized(lab.a, daemon))
        expect(tracking["stratum"] == 1 and tracking["reference-id"] == "47505300", "stratum and name", tracking)
        found = row(lab.a, daemon, "GPS")
        expect(found["state"] == "*" and found["stratum"] == 0 and found["trust"] == "local", "followed", found)
        expect(found["refclock"] == f"sock {path}" and found["address"] is None, "what it is", found)
        shown = ntpctl(lab.a, daemon, "sources")
        expect("#* GPS" in shown, "in the table", shown)
        local = lab.dir / "run/chronyd.sock"
        words = ("sources", "sourcestats", "selectdata", "tracking")
        rows = {word: lab.a.run(CHRONYC, "-n", "-c", "-h", local, word).splitlines() for word in words}
        expect(rows["sources"][0].startswith("#,*,GPS,0,0,"), "chronyc sources", rows)
        expect(rows["sourcestats"][0].startswith("GPS,"), "chronyc sourcestats", rows)
        expect(rows["selectdata"][0].startswith("*,GPS,"), "chronyc selectdata", rows)
        expect(rows["tracking"][0].startswith("47505300,GPS,1,"), "chronyc tracking", rows)
        # A name that is no server's is none to be put offline with all.
        ntpctl(lab.a, daemon, "offline")
        expect(row(lab.a, daemon, "GPS")["asked"] == "online", "offline is for servers", row(lab.a, daemon, "GPS"))


@case
def nonsense_is_counted_and_does_no_harm(lab):
    path = lab.dir / "gps.sock"
    feed = Feed((), [path])
    far = datagram(time.time_ns() - 3600 * 10**9, 0.0)
    feed.also = [b"", b"x" * 500, datagram(time.time_ns(), 1.0, magic=1), datagram(time.time_ns(), float("nan")), far]
    with feed:
        daemon = ours(lab.a, table("sock", f'device = "{path}"', "GPS"), "gps")
        offset = stats(lab.a, daemon, "GPS", 4)["offset-seconds"]
        wait_for("it is followed", lambda: row(lab.a, daemon, "GPS")["state"] == "*")
        packets = json.loads(ntpctl(lab.a, daemon, "--json", "ntpdata", "GPS"))["sources"][0]
        refused = packets["refused"]
        expect(refused.get("malformed", 0) >= 4 and refused.get("stale", 0) >= 1, "counted", refused)
        expect(abs(offset) < 1.0, "without weight", offset)


@case
def a_device_that_is_missing_is_told_and_comes_and_goes_with_a_reload(lab):
    path = lab.dir / "gps.sock"
    missing = '[[refclock]]\ndriver = "pps"\ndevice = "/nonexistent/pps0"\nlock = "GPS"\nrefid = "PPS"\n'
    phc = '[[refclock]]\ndriver = "phc"\ndevice = "lo"\nrefid = "PHC"\n'
    gps = table("sock", f'device = "{path}"', "GPS")
    with Feed((), [path]):
        daemon = ours(lab.a, gps + missing + phc, "some")
        wait_for("GPS is followed", lambda: (row(lab.a, daemon, "GPS") or {}).get("state") == "*")
        reasons = {name: row(lab.a, daemon, name)["reason"] for name in ("PPS", "PHC")}
        expect("cannot read pps /nonexistent/pps0: No such file or directory" in reasons["PPS"], "named", reasons)
        expect("cannot read phc lo: the interface has no hardware clock" in reasons["PHC"], "named", reasons)
        expect(lab.log("ours-some.log").count("cannot read pps") == 1, "told once", lab.log("ours-some.log"))
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(missing, "").replace(phc, ""))
        ntpctl(lab.a, daemon, "reload")
        expect(row(lab.a, daemon, "PPS") is None and row(lab.a, daemon, "GPS")["state"] == "*", "gone, and the rest goes on",
               report(lab.a, daemon, "sources"))
        # The same socket in another way: it is not lost between.
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('refid = "GPS"', 'refid = "GPS"\nstratum = 3'))
        ntpctl(lab.a, daemon, "reload")
        wait_for("it is followed with its new stratum", lambda: (row(lab.a, daemon, "GPS") or {}).get("stratum") == 3)
        daemon.terminate()
        daemon.wait(10)
        expect(not path.exists(), "the socket goes with the daemon")


@case
def what_comes_over_a_socket_may_be_pulses(lab):
    time_path, pulse_path = lab.dir / "time.sock", lab.dir / "pulse.sock"
    pulses = Feed((), [pulse_path])

    def only_pulses():
        while not pulses.ended.wait(0.2):
            now = time.time_ns() // 1000 * 1000
            # Which second it begins it does not say.
            pulses.send(pulse_path, datagram(now, AHEAD + 5, pulse=1))

    pulses.thread = threading.Thread(target=only_pulses)
    with Feed((), [time_path], AHEAD + 0.2), pulses:
        daemon = ours(lab.a, table("sock", f'device = "{time_path}"', "NMEA", 'select = ["noselect"]')
                      + table("sock", f'device = "{pulse_path}"', "PPS", 'lock = "NMEA"\nselect = ["noselect"]'), "pulses")
        rough, fine = (stats(lab.a, daemon, name, 4)["offset-seconds"] for name in ("NMEA", "PPS"))
        expect(abs(rough - AHEAD - 0.2) < 1e-3 and abs(fine - AHEAD) < 1e-3, "the part below a second is the pulse's", rough, fine)


@case
def interfaces_that_do_not_stamp_packets_say_so_and_the_kernel_does(lab):
    chrony_server(lab.b, "served")
    server = f'[[server]]\naddress = "{lab.b.v4}"\nnts = "off"\nmin-poll = 0\nmax-poll = 0\n'
    daemon = ours(lab.a, f'hwtimestamp = ["eth0", "gone0"]\n{server}', "named")
    wait_for("a clock that is synchronized", lambda: synchronized(lab.a, daemon))
    log = lab.log("ours-named.log")
    for interface, reason in (("eth0", "the interface does not support hardware timestamps"), ("gone0", "there is no such interface")):
        lines = [line for line in log.splitlines() if f"interface={interface}" in line and "no hardware timestamps" in line]
        expect(len(lines) == 1 and reason in lines[0], f"{interface}: said once, and why", log)
    reply = report(lab.a, daemon, "ntpdata")["sources"][0]
    expect(reply["reply"]["sent-stamp"] == "kernel" and reply["reply"]["received-stamp"] == "kernel", "the kernel's", reply)
    expect(reply["hardware-sent"] == 0 and reply["stamped-sent"] > 0, "counted", reply)
    other = ours(lab.a, f'hwtimestamp = "*"\n{server}', "all")
    wait_for("a clock that is synchronized", lambda: synchronized(lab.a, other))
    log = lab.log("ours-all.log")
    expect(log.count("hardware timestamps") == 1 and "no interface supports hardware timestamps" in log, "said once", log)


if __name__ == "__main__":
    main(chronyd=CHRONYD, chronyc=CHRONYC)
