#!/usr/bin/env python3
"""`ntpd migrate` beside chronyd: what chronyd reads, how it expands a configuration, and whom it would answer.

Needs `tests/run` to have unpacked the peers. Nothing is served and no clock is touched: chronyd runs with -x.
"""

import contextlib
import ipaddress
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from lab import OURS, PEERS, ROOT, have

CHRONYD = have(PEERS / "chrony/usr/sbin/chronyd")
CHRONYC = have(PEERS / "chrony/usr/bin/chronyc")
CORPUS = ROOT / "ntpd/tests/migrate"
NTPD = OURS / "ntpd"

# Lines that chronyd takes or refuses when it starts, each for itself.
LINES = """
server a.example nts key 3|server a.example iburst # x|server a.example b c|server a.example minpoll
server a.example minpoll x|server a.example minpoll 8 maxpoll 4|pool a.example maxsources 17|server a.example noselect prefer
server a.example version 2|makestep 1|makestep 0 3|makestep -1 3|makestep 1.5x 3|makestep 1 3 4|makestep 1e1 3|allow 10|allow 10.1
allow 10.1/12|allow 10/8|allow 1.2.3.4/33|allow 10/8 all|allow all 10/8|allow 1.2.3.4 5.6.7.8|ratelimit interval 99|ratelimit leak 0
ratelimit burst 300|ratelimit nonsense 1|ntsservercert|ntstrustedcerts 1 /a|nosystemcert 1|authselectmode foo|authselectmode PREFER
minsources -1|minsources x|bindaddress foo|rtcsync 1|driftfile|driftfile /a b|foo|initstepslew 10|refclock|hwtimestamp|server
maxdistance x|maxdistance|dumponexit|commandkey 1|linux_hz 100|! x|% x|; x|# x|server a.example key 0|server a.example key
server a.example offline iburst burst|peer a.example key 2|port|port 123 5|port 0|server a.example extfield F323
server a.example filter 5 presend 9 polltarget 12|server a.example minpoll 4.5|server a.example minpoll 4x|keyfile /a b
SERVER a.example IBURST|log tracking|leapsectz right/UTC|cmdport 0|local stratum 10 orphan|include /nonexistent|confdir
server a.example offset 0.1 minstratum 3 maxdelay 0.1|server a.example offset x|server a.example maxdelayratio
server a.example minsamples 2.5|server a.example certset 1|server a.example certset x|ntstrustedcerts 1 /a 2|ntstrustedcerts x /a
server a.example minstratum 99|server a.example maxdelay -1|server a.example polltarget 0
smoothtime 400 0.01 leaponly|maxupdateskew 100.0|deny|allow|allow 2001:db8::/32|user root|lock_all|tempcomp /a 1 2 3 4 5
""".replace("\n", "|")


def run(*args, cwd=None):
    return subprocess.run([str(arg) for arg in args], capture_output=True, text=True, cwd=cwd)


def migrate(path, *args):
    result = run(NTPD, "migrate", "--from", "chrony", path, *args)
    return result.returncode, result.stdout, result.stderr


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def grammar(folder):
    """Each line is taken by both, or by neither."""
    file = folder / "line.conf"
    lines = [line for line in LINES.split("|") if line]
    for line in lines:
        file.write_text(line + "\n")
        theirs, ours = run(CHRONYD, "-p", "-f", file), migrate(file)
        # A version of chronyd may not know a directive yet.
        expect((theirs.returncode == 0) == (ours[0] != 1), f"{line!r}: chronyd {theirs.stderr}, we {ours}")
    return len(lines)


def unknown(folder, line):
    file = folder / "one.conf"
    file.write_text(line + "\n")
    return run(CHRONYD, "-p", "-f", file).returncode != 0


def expansion(folder):
    """What chronyd says a configuration comes to becomes the same file."""
    cases = 0
    for case in sorted(CORPUS.glob("*-chrony")):
        copy = folder / case.name
        shutil.copytree(case, copy)
        for path in [path for path in copy.rglob("*") if path.is_file() and path.suffix in (".conf", ".sources")]:
            # Includes are looked for in the copy; what this chronyd does not know is left out for both.
            text = re.sub(r"^(confdir|include) ", rf"\1 {copy}/root", path.read_text(), flags=re.M)
            # `-p` leaves out what stands in the files of a sourcedir.
            text = re.sub(r"^sourcedir .*\n", "", text, flags=re.M)
            kept = [line for line in text.splitlines() if line.startswith(("confdir", "include")) or not unknown(folder, line)]
            path.write_text("\n".join(kept) + "\n")
        main = copy / "chrony.conf"
        expanded = run(CHRONYD, "-p", "-f", main)
        expect(expanded.returncode == 0, f"{case.name}: {expanded.stderr}")
        flat = copy / "flat.conf"
        flat.write_text(expanded.stdout)
        keys = ("--root", case / "root")
        # Paths of includes are those of the copy.
        main.write_text(main.read_text().replace(f" {copy}/root", " "))
        ours, theirs = migrate(main, "--root", copy / "root"), migrate(flat, *keys)
        expect(ours[0] in (0, 2) and theirs[0] in (0, 2), f"{case.name}: {ours[2]} {theirs[2]}")
        expect(tomllib.loads(ours[1]) == tomllib.loads(theirs[1]), f"{case.name}: {ours[1]}\n{theirs[1]}")
        cases += 1
    return cases


def packaged(folder):
    """The file that Debian ships becomes what the one with our comments becomes."""
    file = PEERS / "chrony/usr/share/chrony/chrony.conf"
    ours = migrate(file, "--root", CORPUS / "debian-chrony/root")
    golden = (CORPUS / "debian-chrony/ntpd.toml").read_text()
    expect(tomllib.loads(ours[1]) == tomllib.loads(golden), ours[1])


@contextlib.contextmanager
def daemon(state, file):
    """chronyd while it answers commands."""
    process = subprocess.Popen([CHRONYD, "-x", "-d", "-4", "-f", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if run(CHRONYC, "-h", state / "sock", "tracking").returncode == 0:
                break
            expect(process.poll() is None, f"chronyd does not start with {file.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait()


def access(folder):
    """Whom chronyd would answer is whom the new file allows."""
    dice = random.Random(7)
    asked = allowed = 0
    for round_ in range(12):
        bases = [f"10.{a}.{b}.{c}" for a, b, c in itertools.product((0, 1, 16), (0, 128), (0, 64))]
        rules = [f"{dice.choice(('allow', 'deny'))} {dice.choice(('', '', '', 'all '))}{dice.choice(bases)}/{dice.randint(5, 32)}"
                 for _ in range(dice.randint(1, 9))]
        state = folder / f"access-{round_}"
        state.mkdir(mode=0o750)
        file = state / "chrony.conf"
        file.write_text("\n".join(["makestep 1 3", *rules]) + "\n")
        table = tomllib.loads(migrate(file)[1]).get("serve", {})
        with file.open("a") as config:
            config.write(f"port 11123\nbindaddress 127.0.0.1\ncmdport 0\npidfile {state}/pid\nuser root\n"
                         f"bindcmdaddress {state}/sock\n")
        with daemon(state, file):
            for base in bases:
                address = str(ipaddress.ip_address(base) + dice.randint(0, 3))
                theirs = run(CHRONYC, "-h", state / "sock", "accheck", address).stdout
                expect("allowed" in theirs or "denied" in theirs, theirs)

                def longest(key):
                    nets = [ipaddress.ip_network("0.0.0.0/0" if net == "all" else net) for net in table.get(key, [])]
                    return max((net.prefixlen for net in nets if ipaddress.ip_address(address) in net), default=-1)

                ours = longest("allow") > longest("deny")
                expect(ours == ("allowed" in theirs), f"{rules} {address}: chronyd says {theirs}, we {table}")
                asked, allowed = asked + 1, allowed + ours
    expect(0 < allowed < asked, f"{allowed} of {asked} are allowed")
    return asked


def frequency(folder):
    """The frequency that chronyd reads of its file is the one that we take over, with the sign that reports have."""
    state = folder / "drift"
    state.mkdir(mode=0o750)
    (state / "drift").write_text("12.500000 0.250000\n")
    file = state / "chrony.conf"
    file.write_text(f"driftfile {state}/drift\nmakestep 1 3\nport 0\ncmdport 0\nuser root\npidfile {state}/pid\n"
                    f"bindcmdaddress {state}/sock\n")
    code, _, errors = migrate(file, "--state", state / "ours")
    expect(code in (0, 2), errors)
    with daemon(state, file):
        theirs = run(CHRONYC, "-h", state / "sock", "tracking").stdout
    expect(re.search(r"Frequency +: 12\.500 ppm fast", theirs), theirs)
    # Reports of ours call a frequency to steer by that is negative fast, as chronyc does.
    ours = json.loads((state / "ours/drift").read_text().splitlines()[1])
    expect(abs(ours["frequency-ppm"] + 12.5) < 1e-9 and abs(ours["skew-ppm"] - 0.25) < 1e-9, ours)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{grammar(folder)} lines are taken or refused by both")
        print(f"{expansion(folder)} configurations are expanded alike")
        packaged(folder)
        frequency(folder)
        print(f"{access(folder)} addresses are allowed or denied alike")


main()
