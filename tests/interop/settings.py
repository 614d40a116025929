#!/usr/bin/env python3
"""Settings of chrony beside those of ours: the local clock, orphans, files of measurements, leap seconds, clients.

Needs `tests/run` to have unpacked the peers and built the daemon. No clock is touched: every daemon runs with -x.
"""

import re

from cases import case, expect, main
from lab import Lab, match, wait_for
from peers import CHRONYC, CHRONYD, chrony, chrony_server, chronyc, ntpctl, ours, report, stop

FAST = 'nts = "off"\nmin-poll = 0\nmax-poll = 0\n'


def server(host):
    return f'[[server]]\naddress = "{host.v4}"\n{FAST}'


def fields(host, process):
    """Fields of chronyc's tracking: identifier, address, stratum and so on; leap status last."""
    return chronyc(host, process, "tracking").strip().split(",")


def our_chronyc(lab, *words):
    return lab.a.run(CHRONYC, "-n", "-h", lab.dir / "run/chronyd.sock", *words, check=False)


def follows(host, process, stratum):
    """Whether a chronyd follows somebody of this stratum."""
    told = fields(host, process)
    return len(told) > 10 and told[2] == str(stratum + 1) and told[-1] == "Normal"


@case
def a_clock_that_follows_nobody_is_served_if_it_is_to_be(lab):
    text = '[serve]\nallow = "all"\nlocal = { stratum = 7 }\n'
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"'
    served = ours(lab.a, text, "local", control)
    client = chrony(lab.b, f"server {lab.a.v4} minpoll 0 maxpoll 0 iburst", "client")
    wait_for("chronyd to follow", lambda: follows(lab.b, client, 7))
    told = our_chronyc(lab, "-c", "tracking").strip().split(",")
    expect(told[0] == "7F7F0101" and told[2] == "7" and told[-1] == "Normal", "our own tracking", told)
    ours_told = report(lab.a, served, "tracking")
    expect(ours_told["local-stratum"] == 7 and not ours_told["synchronized"], "ntpctl tracking", ours_told)
    # Programs of others change it, and ours.
    told = our_chronyc(lab, "local stratum 4")
    expect("200 OK" in told, "chronyc local", told)
    wait_for("the other stratum", lambda: follows(lab.b, client, 4))
    ntpctl(lab.a, served, "local", "off")
    expect(our_chronyc(lab, "-c", "tracking").startswith("00000000,"), "nobody is followed")
    refused = lambda: match(r"^NTP tests +: \d+ \d0\d ", lab.b.run(CHRONYC, "-h", client.socket, "ntpdata", check=False))
    wait_for("chronyd to hear that it is not synchronized", refused)


@case
def of_orphans_all_follow_one(lab):
    local = 'local = { stratum = 10, orphan = true, wait-unsynced = "3s" }\n'
    first, second = (ours(host, f'{server(other)}[serve]\nallow = "all"\n{local}', host.name)
                     for host, other in ((lab.a, lab.b), (lab.b, lab.a)))
    third = chrony(lab.c, f"server {lab.a.v4} minpoll 0 maxpoll 0\nserver {lab.b.v4} minpoll 0 maxpoll 0\n"
                          "local stratum 10 orphan\nallow all", "third")
    stratum = lambda host, daemon: (report(host, daemon, "tracking") or {}).get("stratum")
    # 10.89.7.1 comes first.
    wait_for("the second to follow the first", lambda: stratum(lab.b, second) == 11)
    wait_for("chronyd to follow the first", lambda: follows(lab.c, third, 10))
    local_stratum = lambda host, daemon: report(host, daemon, "tracking")["local-stratum"]
    expect(local_stratum(lab.a, first) == 10 and local_stratum(lab.b, second) is None, "who serves its own clock")


@case
def files_of_measurements_have_the_columns_of_chronyd(lab):
    chrony_server(lab.b, "served")
    files = ["measurements", "statistics", "tracking", "selection"]
    theirs = lab.dir / "theirs"
    theirs.mkdir()
    chrony(lab.a, f"server {lab.b.v4} minpoll 0 maxpoll 0 iburst\nport 0\nlogdir {theirs}\nlog {' '.join(files)}", "client")
    own = lab.dir / "own"
    quoted = ", ".join(f'"{name}"' for name in files)
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"\n[log.files]\ndirectory = "{own}"\nwrite = [{quoted}]\n'
    daemon = ours(lab.a, server(lab.b), "client", control)
    lines = lambda folder, name: [line for line in lab.log(f"{folder.name}/{name}.log").splitlines()]
    for folder in (theirs, own):
        for name in files:
            wait_for(f"lines in {folder.name}/{name}", lambda: len(lines(folder, name)) > 12)
    for name in files:
        ours_now, theirs_now = lines(own, name), lines(theirs, name)
        expect(ours_now[:3] == theirs_now[:3], f"the banner of {name}", ours_now[:3], theirs_now[:3])
        # Every field ends in the same column and is of the same kind.
        shape = lambda line: [(field.end(), bool(re.fullmatch(r"[-+0-9.e]+", field.group())))
                              for field in re.finditer(r"\S+", line)]
        expect(shape(ours_now[-1]) == shape(theirs_now[-1]), f"the columns of {name}", ours_now[-1], theirs_now[-1])
    # What logrotate does.
    for name in files:
        (own / f"{name}.log").rename(own / f"{name}.log.1")
    expect("200 OK" in our_chronyc(lab, "cyclelogs"), "chronyc cyclelogs")
    for name in files:
        wait_for(f"a new {name}", lambda: lines(own, name)[:1] == lines(theirs, name)[:1])
    (own / "tracking.log").unlink()
    ntpctl(lab.a, daemon, "cyclelogs")
    wait_for("one more", lambda: lines(own, "tracking"))


@case
def a_disk_that_is_full_holds_nothing_up(lab):
    chrony_server(lab.b, "served")
    small = lab.dir / "small"
    small.mkdir()
    # In a mount namespace of its own.
    config = lab.write("full.toml", f"""{server(lab.b)}
[state]
directory = "{lab.dir}/full-state"
[control]
socket = "{lab.dir}/full.sock"
[log.files]
directory = "{small}"
write = ["measurements", "statistics", "tracking", "selection"]
""")
    from lab import OURS
    script = f"mount -t tmpfs -o size=16k none {small} && exec {OURS}/ntpd -x -c {config}"
    daemon = lab.a.start("unshare", "-m", "sh", "-c", script, log="full.log", shim=False)
    daemon.socket = lab.dir / "full.sock"
    complaint = "log file not written"
    wait_for("the disk to be full", lambda: complaint in lab.log("full.log"), 120)
    updates = lambda: report(lab.a, daemon, "tracking")["updates"]
    before = updates()
    wait_for("the clock to be kept", lambda: updates() > before + 5)
    said = [re.search(r"file=(\S+)", line)[1] for line in lab.log("full.log").splitlines() if complaint in line]
    expect(len(said) == len(set(said)), "it is said once of each file", lab.log("full.log"))


@case
def a_file_of_leap_seconds_is_read_and_its_end_told(lab):
    chrony_server(lab.b, "served")
    leaps = lab.write("leap-seconds.list", "#@ 3900000000\n3644697600 36\n3692217600 37\n", 0o644)
    daemon = ours(lab.a, f'{server(lab.b)}[clock]\nleap-file = "{leaps}"\n', "leaps")
    expired = lambda: "expired" in lab.log("ours-leaps.log")
    wait_for("a warning", expired)
    told = report(lab.a, daemon, "tracking")["leap-file"]
    expect(told["expired"] and told["expires-unix-seconds"] == 3900000000 - 2208988800, "ntpctl tracking", told)
    lab.write("leap-seconds.list", "#@ 4200000000\n3644697600 36\n3692217600 37\n", 0o644)
    ntpctl(lab.a, daemon, "reload")
    told = report(lab.a, daemon, "tracking")["leap-file"]
    expect(not told["expired"], "after a reload", told)
    expect(lab.log("ours-leaps.log").count("has expired") == 1, "it is said once")


@case
def who_asks_is_known_if_it_is_to_be(lab):
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"'
    served = ours(lab.a, '[serve]\nallow = "all"\nlocal = true\nclient-log = 100\n', "served", control)
    client = chrony(lab.b, f"server {lab.a.v4} minpoll 0 maxpoll 0 iburst", "client")
    wait_for("chronyd to follow", lambda: follows(lab.b, client, 10))
    rows = report(lab.a, served, "clients")["clients"]
    expect([row["address"] for row in rows] == [lab.b.v4] and rows[0]["ntp"]["requests"] > 2, "ntpctl clients", rows)
    told = our_chronyc(lab, "-c", "clients").strip().split(",")
    expect(told[0] == lab.b.v4 and int(told[1]) >= rows[0]["ntp"]["requests"], "chronyc clients", told)
    our_chronyc(lab, "clients", "-r")
    expect(report(lab.a, served, "clients")["clients"][0]["ntp"]["requests"] < 5, "counts begin anew")
    refused = ntpctl_as_nobody(lab, served)
    expect("client-log" not in refused and lab.b.v4 not in refused, "only for those who may change something", refused)
    stop(served)


def ntpctl_as_nobody(lab, daemon):
    from lab import OURS
    return lab.a.run("setpriv", "--reuid", "65534", "--clear-groups", OURS / "ntpctl", "--socket", daemon.socket, "clients",
                     check=False)


if __name__ == "__main__":
    main(lambda: Lab("a", "b", "c"), chronyd=CHRONYD)
