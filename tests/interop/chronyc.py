#!/usr/bin/env python3
"""Debian's chronyc with our daemon, and ours beside it: what one prints, the other does.

Needs `tests/run` to have unpacked the peers and built the daemon. No clock is touched: every daemon runs with -x.
"""

import re
import subprocess

from cases import case, expect, main
from lab import OURS, have, wait_for
from peers import CHRONYC, CHRONYD, chrony, chrony_server, ntpctl, ours

# What may differ between two answers a moment apart, or because Debian's is older than ours.
NUMBER = re.compile(r"[-+]?\d[\d.]*(ns|us|ms|s|m|h)?")
NEWER = re.compile(r"^(NTP (daemon|kernel|hardware) [RT]X timestamps|Total (kernel|HW) [RT]X) *: \d+\n", re.M)
NEWER_FIELDS = {"serverstats": 6, "ntpdata": 4}

SHOWN = [
    "tracking", "sources", "sources -a", "sourcestats", "sourcestats -a", "selectdata", "selectdata -a", "activity",
    "serverstats", "ntpdata", "authdata", "authdata -a", "clients", "clients -k", "smoothing", "rtcdata", "manual list",
    "accheck 192.0.2.1", "waitsync 1", "sourcename {server}", "ntpdata {server}", "ntpdata 192.0.2.9", "nonsense", "burst",
    "delete 192.0.2.9",
]
CHANGES = [
    "makestep", "burst 2/4", "burst 1/2 {server}", "offline {server}", "online", "online 255.255.255.0/{net}",
    "offline 192.0.2.9", "onoffline", "refresh", "reselect", "rekey", "reload sources", "cyclelogs", "dump",
    "maxdelay {server} 1", "maxdelayratio {server} 2", "maxdelaydevratio {server} 10", "minpoll {server} 1",
    "maxpoll {server} 2", "polltarget {server} 8", "minstratum {server} 0", "minpoll 192.0.2.9 4", "minpoll {server} 99", "allow 192.0.2.0/24",
    "deny all 192.0.2.0/24", "allow 192.0.2.0/33", "cmdallow 192.0.2.0/24", "cmdaccheck 192.0.2.1", "cmddeny all 192.0.2.0/24",
    "cmdaccheck 192.0.2.1", "cmdallow 192.0.2.0/33", "dfreq 1", "doffset 0.001", "reset sources",
]


def daemon(lab):
    """Ours, following a chronyd and a name that does not exist, answering chronyc in both ways."""
    chrony_server(lab.b, "served")
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"'
    text = f"""[[server]]
address = "{lab.b.v4}"
nts = "off"
min-poll = 1
max-poll = 1
[[server]]
address = "nowhere.invalid"
nts = "off"
[serve]
listen = ["127.0.0.1:1123"]
allow = ["127.0.0.1/32"]
"""
    process = ours(lab.a, text, "watched", control)
    process.local = lab.dir / "run/chronyd.sock"
    wait_for("the socket for chronyc", process.local.exists)
    synchronized = lambda: "Normal" in ask(lab, CHRONYC, process.local, "-c", "tracking").stdout
    wait_for("a clock that is synchronized", synchronized)
    return process


def own_chronyc(lab):
    """ntpctl under the other name."""
    link = lab.dir / "chronyc"
    if not link.exists():
        link.symlink_to(OURS / "ntpctl")
    return link


def ask(lab, program, socket, *words, host=None):
    """What comes of it, and its exit status."""
    command = (host or lab.a).command(program, "-n", "-h", socket, *words)
    return subprocess.run(command, capture_output=True, text=True)


def shape(text):
    """What does not change from one moment to the next."""
    return re.sub(" +", " ", NUMBER.sub("#", NEWER.sub("", text)))


@case
def what_ours_prints_is_what_debians_prints(lab):
    process = daemon(lab)
    place = {"server": lab.b.v4, "net": lab.b.v4.rsplit(".", 1)[0] + ".0"}
    for command in [each.format(**place) for each in SHOWN + CHANGES]:
        for csv in ([], ["-c"]):
            theirs = ask(lab, CHRONYC, process.local, *csv, *command.split())
            own = ask(lab, own_chronyc(lab), process.local, *csv, *command.split())
            expect(theirs.returncode == own.returncode, command, theirs, own)
            if csv:
                more = NEWER_FIELDS.get(command.split()[0], 0) if theirs.returncode == 0 else 0
                rows = [text.stdout.strip().splitlines() for text in (theirs, own)]
                expect(len(rows[0]) == len(rows[1]), command, *rows)
                counts = [[line.count(",") for line in lines] for lines in rows]
                expect([count + more for count in counts[0]] == counts[1], command, *rows)
            else:
                expect(shape(theirs.stdout) == shape(own.stdout), command, theirs.stdout, own.stdout)


@case
def columns_are_chronycs_to_the_letter(lab):
    """Beside a chronyd, whose every number both read alike because nothing changes any more."""
    chrony_server(lab.b, "served")
    process = chrony(lab.a, f"server {lab.b.v4} iburst minpoll 10\nserver 192.0.2.9 offline", "watched")
    follows = lambda: "Normal" in ask(lab, CHRONYC, process.socket, "-c", "tracking").stdout
    wait_for("a clock that is synchronized", follows)
    for command in ("sources", "sourcestats", "selectdata", "authdata", "activity", "clients", "manual list"):
        for csv in ([], ["-c"]):
            # Ages change once a second, and predictions with them; of a few tries one falls between.
            for _ in range(8):
                theirs = ask(lab, CHRONYC, process.socket, *csv, *command.split())
                own = ask(lab, own_chronyc(lab), process.socket, *csv, *command.split())
                if theirs.stdout == own.stdout:
                    break
            changing = command in ("sourcestats", "selectdata")
            alike = theirs.stdout == own.stdout or changing and len(theirs.stdout) == len(own.stdout)
            expect(alike and theirs.returncode == own.returncode, command, theirs.stdout, own.stdout)


def refusals(tell, server):
    """Replies that came and were not used."""
    text = tell("ntpdata", server).stdout
    count = lambda what: int(re.search(rf"Total {what} RX *: (\d+)", text)[1])
    return count("valid") - count("good")


@case
def changes_change_what_they_say(lab):
    process = daemon(lab)
    tell = lambda *words: ask(lab, CHRONYC, process.local, *words)

    def told(*words):
        result = tell(*words)
        expect((result.returncode, result.stdout) == (0, "200 OK\n"), words, result)

    activity = lambda: tell("-c", "activity").stdout.strip().split(",")
    told("offline", lab.b.v4)
    expect(activity()[:2] == ["0", "1"], "offline", activity())
    told("online")
    expect(activity()[:2] == ["1", "0"], "online", activity())
    told("add", "server", lab.b.v6, "minpoll", "2", "maxpoll", "4")
    wait_for("the server that was added", lambda: lab.b.v6 in tell("sources").stdout)
    again = tell("add", "server", lab.b.v6)
    expect(again.stdout == "511 Source already present\n", "twice", again)
    told("reload", "sources")
    expect(lab.b.v6 in tell("sources").stdout, "a reload keeps it")
    told("delete", lab.b.v6)
    expect(lab.b.v6 not in tell("sources").stdout, "delete")
    told("delete", lab.b.v4)
    expect(lab.b.v4 not in tell("sources").stdout, "delete of what the file names")
    told("add", "server", lab.b.v4, "minpoll", "2", "maxpoll", "4")
    row = lambda kind: next((line.split(",") for line in tell("-c", kind).stdout.splitlines() if lab.b.v4 in line), [])
    wait_for("the server with its options", lambda: row("sources")[4:5] == ["2"])
    told("minpoll", lab.b.v4, "3")
    expect(row("sources")[4] == "3", "minpoll", row("sources"))
    told("maxpoll", lab.b.v4, "1")
    expect(row("sources")[4] == "1", "maxpoll", row("sources"))
    # Debian 12 has no such command yet.
    select = lambda *words: ask(lab, own_chronyc(lab), process.local, "selectopts", *words).stdout
    expect(select("192.0.2.9", "+prefer") == "503 No such source\n", "selectopts of nobody")
    expect(select(lab.b.v4, "+noselect") == "200 OK\n", "selectopts")
    expect(row("selectdata")[3] == "N" and row("selectdata")[0] == "N", "selectopts", row("selectdata"))
    expect(select(lab.b.v4, "-noselect", "+prefer") == "200 OK\n", "selectopts")
    expect(row("selectdata")[3:5] == ["-", "P"], "selectopts", row("selectdata"))
    told("minstratum", lab.b.v4, "7")
    told("maxdelay", lab.b.v4, "0.000002")
    wait_for("samples that come too late", lambda: refusals(tell, lab.b.v4) > 0)
    check = lambda: tell("accheck", "192.0.2.1").stdout
    expect(check() == "209 Access denied\n", "accheck", check())
    told("allow", "192.0.2.0/24")
    expect(check() == "208 Access allowed\n", "allow", check())
    told("deny", "all", "192.0.0.0/16")
    expect(check() == "209 Access denied\n", "deny", check())
    told("reset", "sources")
    tracking = lambda: tell("-c", "tracking").stdout.strip().split(",")
    expect(tracking()[-1] == "Not synchronised" and row("sourcestats")[1] in ("0", "1"), "reset sources", tracking(), row("sourcestats"))
    told("maxdelay", lab.b.v4, "1")
    wait_for("a clock that is synchronized anew", lambda: tracking()[-1] == "Normal")
    told("shutdown")
    wait_for("the end of the daemon", lambda: process.poll() is not None)
    expect(process.returncode == 0 and not process.local.exists(), "the end", process.returncode)


@case
def over_udp_everybody_may_look_and_nobody_touch(lab):
    process = daemon(lab)
    udp = lambda *words: ask(lab, CHRONYC, "127.0.0.1,::1", *words)
    for command in ("tracking", "sources", "sourcestats", "activity"):
        result = udp(command)
        expect(result.returncode == 0, command, result)
    result = udp("waitsync", "3", "0.1", "0.0", "1")
    expect(result.returncode == 0, "as chrony-wait.service does", result)
    for command in ("makestep", "shutdown", "ntpdata", "serverstats"):
        result = udp(command)
        expect(result.stdout == "501 Not authorised\n", command, result)
    # From elsewhere there is no answer at all.
    far = ask(lab, CHRONYC, lab.a.v4, "tracking", host=lab.b)
    expect(far.stdout == "506 Cannot talk to daemon\n", "from elsewhere", far)
    # A chronyd that runs already is told of, and the daemon runs without.
    other = ours(lab.a, 'server = "192.0.2.1"', "second", f'chronyc-socket = "{lab.dir}/run/chronyd.sock"')
    said = lambda: "is chronyd running?" in lab.log("ours-second.log")
    wait_for("what is in the way", said)
    expect(other.poll() is None and process.poll() is None, "both go on")


@case
def from_where_it_is_asked_changes_while_it_runs(lab):
    chrony_server(lab.b, "served")
    control = f'chronyc-socket = "{lab.dir}/run/chronyd.sock"\nchronyc-listen = "{lab.a.v4}:323"'
    process = ours(lab.a, f'server = "{lab.b.v4}"', "asked", control)
    socket = lab.dir / "run/chronyd.sock"
    wait_for("the socket for chronyc", socket.exists)
    tell = lambda *words: ask(lab, CHRONYC, socket, *words).stdout
    # It does not wait long for an answer that does not come.
    far = lambda: ask(lab, CHRONYC, lab.a.v4, "-m", "timeout 200", "retries 0", "activity", host=lab.b).stdout
    silence = "506 Cannot talk to daemon\n"
    expect(tell("cmdaccheck", lab.b.v4) == "209 Access denied\n" and far() == silence, "it is not answered")
    expect(tell("cmdallow", f"{lab.b.v4}/24") == "200 OK\n", "cmdallow")
    expect(tell("cmdaccheck", lab.b.v4) == "208 Access allowed\n" and "sources online" in far(), "it is")
    expect(tell("cmddeny", lab.b.v4) == "200 OK\n" and far() == silence, "the longer range counts")
    expect(tell("cmdallow", "all") == "200 OK\n" and "sources online" in far(), "rules about parts go")
    expect(ntpctl(lab.a, process, "reload") == "configuration applied\n", "nothing waits for a start anew")
    expect("sources online" in far(), "a reload leaves it")
    expect(tell("cmddeny", "all") == "200 OK\n" and far() == silence, "nobody any more")
    expect(tell("cmdaccheck", "127.0.0.1") == "208 Access allowed\n", "but this machine")


if __name__ == "__main__":
    main(chronyd=have(CHRONYD), chronyc=have(CHRONYC))
