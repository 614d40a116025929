#!/usr/bin/env python3
"""The Debian packages, installed over chrony in a system of its own below target/interop, upgraded, removed and purged.

Needs `tests/run` to have installed debhelper, debootstrap and lintian and built the programs, which are packed as they are. No
clock is touched: nothing there can set it, and the daemon runs with -x.
"""

import json
import re
import shutil
from pathlib import Path

from cases import case, expect, main
from lab import have, match, sh, wait_for
from machine import BUILT, Machine
from peers import chrony_server

UNITS = ["ntpd.service", "ntpd-wait.service", "nts-pool-lb.service", "nts-pool-srv.service", "nts-pool-publish.service"]
# The worst that `systemd-analyze security` may say of a unit, of 10.
MOST_EXPOSED = 2.4


def repacked(lab, package, version):
    """The same package with another version."""
    tree = lab.dir / "repacked"
    sh("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M))
    target = lab.dir / f"ntpd_{version}.deb"
    sh("dpkg-deb", "-Znone", "-b", tree, target)
    return target


def start(lab):
    """The daemon, until its clock is synchronized."""
    daemon = lab.a.start(*lab.inside("/usr/sbin/ntpd", "-x"), log="ntpd.log", shim=False)
    synchronized = lambda: "Normal" in lab.do("chronyc", "tracking", check=False).stdout
    try:
        wait_for("a clock that is synchronized", synchronized)
    except AssertionError as error:
        raise AssertionError(f"{error}: {lab.log('ntpd.log')}") from error
    return daemon


@case
def chrony_is_replaced_and_everything_goes_on(lab):
    chrony_server(lab.b, "served")
    expect(lab.status("chrony") == "ii", "chrony is installed", lab.status("chrony"))
    site = lab.root / "etc/chrony/chrony.conf"
    site.write_text(site.read_text() + f"\n# ours\nserver {lab.b.v4} iburst minpoll 1 maxpoll 1\n")
    installed = lab.install(lab.packages["ntpd"])
    expect(lab.status("chrony") == "rc" and lab.status("ntpd") == "ii", "it takes chrony's place", installed)

    wanted = lab.root / "etc/systemd/system/multi-user.target.wants"
    expect((wanted / "ntpd.service").is_symlink() and not (wanted / "ntpd-wait.service").is_symlink(), "what is enabled")
    state = lab.do("stat", "-c", "%U:%G %a", "/var/lib/ntpd").stdout.strip()
    expect(state == "ntpd:ntpd 700", "the state directory", state)
    expect(lab.do("ntpd", "check").returncode == 0, "the configuration that comes with it")
    expect("ntpd.service" in lab.do("cat", "/usr/lib/systemd/ntp-units.d/50-ntpd.list").stdout, "timedatectl knows it")

    migrated = lab.do("ntpd", "migrate", "/etc/chrony/chrony.conf", check=False)
    expect(migrated.returncode == 0, "the configuration of chrony is carried over", migrated)
    (lab.root / "etc/ntpd/ntpd.toml").write_text(migrated.stdout)
    expect(f'address = "{lab.b.v4}"' in migrated.stdout and "# ours" in migrated.stdout, "with what is ours", migrated)
    expect(lab.do("ntpd", "check").returncode == 0, "and makes sense")

    daemon = start(lab)
    user = lab.do("id", "-u", "ntpd").stdout.strip()
    expect(str(Path(f"/proc/{daemon.pid}").stat().st_uid) == user != "0", "it gave up root", user)
    rows = lab.do("chronyc", "-c", "-n", "sources").stdout.splitlines()
    expect(any(row.startswith("^,*") and lab.b.v4 in row for row in rows), "chronyc shows the server", rows)
    report = json.loads(lab.do("ntpctl", "--json", "tracking").stdout)
    expect(report["synchronized"], "ntpctl does", report)
    daemon.terminate()
    expect(daemon.wait(10) == 0, "it ends when it is told to", lab.log("ntpd.log"))
    kept = sorted(path.name for path in (lab.root / "var/lib/ntpd").iterdir())
    expect(kept, "it keeps what it learnt")

    before = (lab.root / "etc/ntpd/ntpd.toml").read_text()
    lab.install(repacked(lab, lab.packages["ntpd"], "99.0"))
    expect((lab.root / "etc/ntpd/ntpd.toml").read_text() == before, "an upgrade keeps the configuration")
    now = sorted(path.name for path in (lab.root / "var/lib/ntpd").iterdir())
    expect(now == kept, "and what was learnt", kept, now)
    start(lab)
    lab.a.stop()

    lab.do("apt-get", "remove", "-qy", "ntpd")
    gone = [name for name in ("usr/sbin/ntpd", "usr/bin/ntpctl", "usr/bin/chronyc") if (lab.root / name).exists()]
    expect(not gone and lab.status("ntpd") == "rc", "it can be removed", gone)
    expect((lab.root / "etc/ntpd/ntpd.toml").exists() and (lab.root / "var/lib/ntpd").exists(), "and leaves what is yours")
    lab.do("apt-get", "purge", "-qy", "ntpd")
    left = [name for name in ("etc/ntpd", "var/lib/ntpd", "var/log/ntpd") if (lab.root / name).exists()]
    expect(not left, "until it is purged", left)


@case
def what_pool_operators_run_is_not_started_unasked(lab):
    lab.install(lab.packages["nts-pool"])
    wanted = [path.name for path in (lab.root / "etc/systemd/system").rglob("nts-pool*")]
    expect(not wanted, "nothing is enabled", wanted)
    for program in ("nts-pool-lb", "nts-pool-srv"):
        example = f"/usr/share/doc/nts-pool/examples/{program}.toml"
        expect((lab.root / example[1:]).exists(), "an example is there", example)
        checked = lab.do(program, "check", check=False)
        expect(checked.returncode != 0 and f"/etc/nts-pool/{program}.toml" in checked.stderr, "it says what it needs", checked)
    lab.do("apt-get", "purge", "-qy", "nts-pool")
    expect(lab.status("chrony") == "ii", "it has nothing to do with chrony")


@case
def units_are_as_closed_as_they_can_be(lab):
    for package in lab.packages.values():
        lab.install(package)
    figures = {}
    for unit in UNITS:
        told = lab.do("systemd-analyze", "security", "--offline=true", "--no-pager", unit, check=False).stdout
        figures[unit] = float(match(r"Overall exposure level for .*: ([\d.]+)", told).group(1))
        print(f"     {unit}: {figures[unit]}")
    expect(all(figure <= MOST_EXPOSED for figure in figures.values()), "how exposed units are", figures)
    told = lab.do("systemd-analyze", "verify", "--man=no", *UNITS, check=False)
    complaints = [line for line in told.stderr.splitlines() if any(unit in line for unit in UNITS)]
    expect(not complaints, "systemd has nothing to say about units", complaints)
    lab.do("apparmor_parser", "-QK", "/etc/apparmor.d/ntpd")


@case
def lintian_has_nothing_to_say(lab):
    changes = next(BUILT.glob("*.changes"))
    told = sh("lintian", "--allow-root", "--fail-on", "none", changes, check=False)
    complaints = [line for line in told.splitlines() if line[:2] in ("E:", "W:", "N:")]
    expect(not complaints, "lintian", told)


if __name__ == "__main__":
    main(Machine, debootstrap=have("debootstrap"), lintian=have("lintian"), dh=have("dh"))
