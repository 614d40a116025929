#!/usr/bin/env python3
"""Every command and every configuration of docs/guide, run as it stands there, each page on a machine of its own.

A page is read from top to bottom, as its reader would:

    toml      is checked. Where its first line is a comment with a path, it is written to that file.
    sh        is a script; its second line is a comment with the path that it is written to.
    yaml      is for Prometheus, whose program judges it.
    console   is run line by line: `#` as root, `$` as a user without rights. What stands below a command must be what it
              prints, but for the numbers; a line of `...` stands for any lines.

Nothing else is taken. With NTPD_SHOW=1 all that is printed is shown. Needs what package.py needs. No clock is touched: nothing there can set it, and daemons run with -x.
"""

import os
import re
import shutil
import textwrap
import time

from cases import case, expect, main
from guide_stand_ins import STAND_INS, stand_in_for
from guide_messages import prove
from lab import PEERS, ROOT, have, sh, shape
from machine import Machine
from peers import CHRONYD, chrony, takes_key_exchanges

GUIDE = ROOT / "docs/guide"
PROMTOOL = have(PEERS / "prometheus/usr/bin/promtool")
# Pages that install the package themselves, where chrony keeps the time.
FROM_THE_START = ["five-minutes.md", "replace-chronyd.md"]
# Whose blocks another test runs.
ELSEWHERE = {"transcript.md": "run.py compares it to a run of three servers, and writes it"}
# Servers that the pages name, each with an address of its own.
NAMES = ["time.example", "ntp1.example", "ntp2.example", "2.debian.pool.ntp.org"]
KEY = "7 AES128 HEX:00112233445566778899aabbccddeeff\n"
# Commands that are to end with another code than 0, and why.
CODES = {
    "ntpd check -c /root/wrong.toml": (1, "it shows what is told of a mistake"),
    "/tmp/ntpd-look/usr/sbin/ntpd migrate /etc/chrony/chrony.conf > /tmp/ntpd.toml": (2, "keys are not written yet"),
}
# Reports whose columns fill up while one waits.
REPORTS = ("ntpctl", "chronyc")


class Block:
    """A fenced block of a page."""

    def __init__(self, page, line, language, text):
        self.place = f"{page}:{line}"
        self.language = language
        self.text = textwrap.dedent(text)

    def commands(self):
        """Each command with what stands below it: the prompt, the line, and the lines of output."""
        found = []
        for line in self.text.splitlines():
            if line[:2] in ("$ ", "# "):
                found.append((line[0], line[2:], []))
            else:
                expect(found, f"{self.place}: output without a command", line)
                found[-1][2].append(line)
        return found

    def path(self, at):
        """The file that a comment in this line names."""
        lines = self.text.splitlines()
        named = re.fullmatch(r"# (/\S+)", lines[at]) if len(lines) > at else None
        return named and named.group(1)


def blocks(page):
    text = (GUIDE / page).read_text()
    for found in re.finditer(r"^( *)```(\S*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found.group(2), found.group(3))


class Reader(Machine):
    """Somebody who does what a page says, at a machine with chrony; host b is every server that the guide names."""

    def __init__(self):
        super().__init__()
        self.services = {}

    def build(self):
        super().build()
        self.certify("guide", *NAMES)
        hosts = "127.0.0.1 localhost\n"
        for number, name in enumerate(NAMES, 20):
            sh("ip", "-n", self.b.space, "addr", "add", f"10.89.7.{number}/24", "dev", "eth0")
            hosts += f"10.89.7.{number} {name}\n"
        (self.root / "etc/hosts").write_text(hosts)
        (self.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        authority = self.root / "usr/local/share/ca-certificates/lab.crt"
        authority.write_text((self.certificates / "ca.pem").read_text())
        self.do("update-ca-certificates")
        for package in self.packages.values():
            (self.root / "root" / package.name).write_bytes(package.read_bytes())
        tls = self.certificates
        chrony(self.b, f"""
local stratum 3
allow all
keyfile {self.write("served.keys", KEY)}
ntsserverkey {tls}/guide.key
ntsservercert {tls}/guide.pem
""", "served")
        takes_key_exchanges(self.b, "chronyd")

    def put(self, path, text, mode=0o644):
        """Writes a file of the machine as its reader would, below the machine's root."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path):
        return (self.root / path.lstrip("/")).read_text()

    def shell(self, prompt, line):
        """Runs a line in a shell: the code that it ended with, and what it printed."""
        words = ["sh", "-c", f"cd /root && {line}"]
        if prompt == "$":
            words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", f"cd /tmp && {line}"]
        done = self.do(*words, check=False)
        return done.returncode, done.stdout + done.stderr


def run(lab, block, prompt, line, expected):
    stand_in = stand_in_for(line)
    # A wait is part of what a page says only where it says it: what is asked at once may be on its way still.
    patience = time.monotonic() + (30 if line.split()[0] in REPORTS else 0)
    while True:
        code, printed = stand_in.run(lab, line) if stand_in else lab.shell(prompt, line)
        wanted = CODES.get(line, (0, ""))[0]
        if (code == wanted and is_like(printed, expected)) or time.monotonic() > patience:
            break
        time.sleep(1)
    if os.environ.get("NTPD_SHOW"):
        print(f"{prompt} {line}\n{printed}", end="")
    logs = {name: lab.log(f"{name}.log")[-1500:] for name in lab.services}
    expect(code == wanted, f"{block.place}: `{line}` ends with {wanted}", code, printed, logs)
    expect(is_like(printed, expected), f"{block.place}: `{line}` prints this", "\n".join(expected), printed)


def is_like(printed, expected):
    """Whether this was printed, but for what changes from run to run; nothing expected is anything."""
    if not expected:
        return True
    lines = [shape(line.rstrip()) for line in expected]
    while lines and not lines[-1]:
        lines.pop()
    pattern = "\n".join(".*?" if line == "..." else re.escape(line) for line in lines)
    actual = "\n".join(shape(line.rstrip()) for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def obey(lab, block):
    """Does what a block says; the file that it wrote, if that is to be checked by a command of the page."""
    if block.language == "toml":
        path = block.path(0)
        if path:
            lab.put(path, block.text)
        else:
            lab.put("/root/block.toml", block.text)
        if path and not path.startswith("/etc/ntpd/"):
            # What a command that follows shows.
            return path
        done = lab.do("ntpd", "check", *([] if path else ["-c", "/root/block.toml"]), check=False)
        expect(done.returncode == 0 and "valid" in done.stdout, f"{block.place} makes sense", done.stdout, done.stderr)
    elif block.language == "yaml":
        # Prometheus asks the daemon, so its own program judges.
        file = lab.write("prometheus.yml", block.text)
        shutil.copy(ROOT / "packaging/prometheus/ntpd.rules.yml", lab.dir)
        sh(PROMTOOL, "check", "config", file)
    elif block.language == "sh":
        path = block.path(1)
        expect(path and block.text.startswith("#!/bin/sh\n"), f"{block.place} is a script with a path")
        lab.put(path, block.text, 0o755)
    else:
        expect(block.language == "console", f"{block.place} is of a known language", block.language)
        for command in block.commands():
            run(lab, block, *command)
    return None


def prepare(lab, page):
    """What is there before anybody begins."""
    (lab.root / "etc/chrony/chrony.keys").write_text(KEY)
    site = lab.root / "etc/chrony/chrony.conf"
    site.write_text(f"{site.read_text()}\nserver ntp1.example iburst\nserver ntp2.example iburst key 7\n")
    lab.put("/var/lib/chrony/chrony.drift", "12.500000 0.250000\n")
    if page in FROM_THE_START:
        daemon = lab.a.start(*lab.inside("/usr/sbin/chronyd", "-x", "-n"), log="chrony.service.log", shim=False)
        lab.services["chrony.service"] = daemon
    else:
        install = "apt-get install -y ./ntpd_*.deb"
        expect(stand_in_for(install).run(lab, install)[0] == 0, "the package is installed")
        lab.put("/etc/ntpd/ntpd.toml", 'pool = "time.example"\n')
        stand_in_for("systemctl restart ntpd").run(lab, "systemctl restart ntpd")
    # What certificates and the like a configuration may name.
    for name, mode in (("fullchain.pem", 0o644), ("key.pem", 0o644), ("ca.pem", 0o644)):
        source = {"fullchain.pem": "guide.pem", "key.pem": "guide.key", "ca.pem": "ca.pem"}[name]
        lab.put(f"/etc/ntpd/tls/{name}", (lab.certificates / source).read_text(), mode)


def page_case(page):
    def run_page(lab):
        prepare(lab, page)
        unchecked = []
        for block in blocks(page):
            unchecked.append(obey(lab, block))
            unchecked = [path for path in unchecked if path and f"ntpd check -c {path}" not in block.text]
        expect(not unchecked, "every configuration is checked", unchecked)

    run_page.__name__ = f"page_{page.removesuffix('.md').replace('-', '_')}"
    return case(run_page)


@case
def messages_are_what_is_said_when_it_is_so(lab):
    prove(lab, GUIDE / "troubleshooting.md")


@case
def whatever_stands_in_is_needed(_):
    lines = [line for page in GUIDE.glob("*.md") for block in blocks(page.name) if block.language == "console"
             for _, line, _ in block.commands()]
    for one in STAND_INS:
        expect(one.reason and any(stand_in_for(line) is one for line in lines), "a stand-in has a line", one.pattern.pattern)
    expect(set(CODES) <= set(lines), "codes are those of lines", set(CODES) - set(lines))


for name in sorted(path.name for path in GUIDE.glob("*.md")):
    if name not in ELSEWHERE:
        page_case(name)


if __name__ == "__main__":
    main(Reader, chronyd=CHRONYD, promtool=PROMTOOL, debootstrap=have("debootstrap"), dh=have("dh"))
