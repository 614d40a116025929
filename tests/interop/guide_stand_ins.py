"""What the guide's pages call that a test cannot have, and what stands in for it."""

import re
import shlex

from cases import expect
from lab import ROOT, wait_for


class StandIn:
    """Runs in the place of lines that match a pattern, for a reason."""

    def __init__(self, pattern, reason, function):
        self.pattern, self.reason, self.function = re.compile(pattern), reason, function

    def run(self, lab, line):
        """The code that the command ends with, and what it prints."""
        result = self.function(lab, shlex.split(line))
        return result if isinstance(result, tuple) else (0, result or "")


STAND_INS = []


def stand_in(pattern, reason):
    def register(function):
        STAND_INS.append(StandIn(pattern, reason, function))
        return function

    return register


def stand_in_for(line):
    """What stands in for this line, if anything does."""
    return next((candidate for candidate in STAND_INS if candidate.pattern.search(line)), None)


def unit(lab, name):
    """The name of a unit and its settings."""
    name = name if "." in name else f"{name}.service"
    for folder in ("etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system"):
        file = lab.root / folder / name
        if file.exists():
            # `-` and `!` before a program are for systemd.
            return name, dict(re.findall(r"^(\w+)=[-!@+]*(.+)$", file.read_text(), re.MULTILINE))
    raise AssertionError(f"there is no unit {name}")


def start(lab, name):
    name, settings = unit(lab, name)
    words = shlex.split(settings["ExecStart"])
    if settings.get("Type") == "oneshot":
        return lab.do(*words, check=False)
    if name in lab.services and lab.services[name].poll() is None:
        return None
    if words[0] == "/usr/sbin/ntpd":
        words.insert(1, "-x")
        # What the unit has systemd make.
        for folder in settings["RuntimeDirectory"].split():
            lab.do("install", "-d", "-o", settings["User"], "-g", settings["User"], f"/run/{folder}")
        others = settings["Conflicts"].split()
        for other in [running for running in lab.services if running in others]:
            stop(lab, other)
    lab.services[name] = lab.a.start(*lab.inside(*words), log=f"{name}.log", shim=False)
    if words[0] == "/usr/sbin/ntpd":
        # systemd waits until the daemon says that it is ready.
        wait_for("the daemon to be ready", lambda: "running" in lab.log(f"{name}.log") or lab.services[name].poll() is not None)
    return None


def stop(lab, name):
    name = name if "." in name else f"{name}.service"
    process = lab.services.pop(name, None)
    if process:
        process.terminate()
        process.wait(10)


@stand_in(r"^systemctl ", "no systemd runs there: what units say is done, with -x")
def systemctl(lab, words):
    verb, *names = [word for word in words[1:] if not word.startswith("-")]
    if verb in ("enable", "disable"):
        done = lab.do("systemctl", verb, *names)
        if "--now" not in words:
            return done.returncode, ""
        verb = {"enable": "start", "disable": "stop"}[verb]
    for name in names:
        if verb in ("stop", "restart"):
            stop(lab, name)
        if verb in ("start", "restart"):
            done = start(lab, name)
            if done and done.returncode:
                return done.returncode, done.stdout + done.stderr
        if verb == "reload":
            name, settings = unit(lab, name)
            expect(name in lab.services, f"{name} runs")
            command = settings["ExecReload"].replace("$MAINPID", str(lab.services[name].pid))
            done = lab.do(*shlex.split(command), check=False)
            if done.returncode:
                return done.returncode, done.stdout + done.stderr
    expect(verb in ("start", "stop", "restart", "reload"), f"systemctl {verb} is known here")
    return 0, ""


@stand_in(r"^journalctl -u ", "there is no journal: the daemon logs to a file of the test")
def journalctl(lab, words):
    return lab.log(f"{unit(lab, words[words.index('-u') + 1])[0]}.log")


@stand_in(r"^apt-get install -y \./", "the package is installed; what its scripts leave to systemd is done as by systemctl")
def install_package(lab, words):
    done = lab.do("sh", "-c", f"cd /root && apt-get install -qy -o Dpkg::Options::=--force-confold {words[-1]}", check=False)
    if "./ntpd_" in words[-1] and done.returncode == 0:
        # It was removed, and so stopped.
        stop(lab, "chrony")
        start(lab, "ntpd")
    return done.returncode, ""


@stand_in(r"^apt-get install -y chrony$", "there is no archive of packages: chrony is taken out of ntpd's way, and no more")
def chrony_again(lab, _):
    stop(lab, "ntpd")
    done = lab.do("apt-get", "remove", "-qy", "ntpd")
    return done.returncode, ""


@stand_in(r"^dnf ", "this is no Fedora; package.py builds the package and looks into it")
def dnf(_, words):
    expect(words[1] in ("install", "swap"), "what dnf is to do", words)


@stand_in(r"^certbot ", "there is no authority to ask: certbot's files come from the lab's, and its hooks are run")
def certbot(lab, words):
    live = "/etc/letsencrypt/live/ntp1.example"
    for target, source in (("fullchain.pem", "guide.pem"), ("privkey.pem", "guide.key")):
        lab.put(f"{live}/{target}", (lab.certificates / source).read_text(), 0o600)
    if words[1] == "renew":
        for hook in sorted((lab.root / "etc/letsencrypt/renewal-hooks/deploy").iterdir()):
            lab.do("env", f"RENEWED_LINEAGE={live}", f"/{hook.relative_to(lab.root)}")


@stand_in(r"^cp -a /etc/chrony\.conf ", "this is no Fedora: Debian has these files elsewhere")
def copy_of_fedora(_, words):
    expect(words[-1].startswith("/root"), "where to", words)


@stand_in(r"^sed -i .* /root/chrony\.conf$", "this is no Fedora: there is no copy to change")
def change_of_fedora(_, words):
    expect(len(words) == 7, "two changes", words)


@stand_in(r"^podman ", "there are no images to be had: that files exist which are named is looked at")
def podman(lab, words):
    if words[1] == "build":
        file = words[words.index("-f") + 1]
        expect((ROOT / file).exists(), f"podman builds {file}")
    for volume in [words[place + 1] for place, word in enumerate(words) if word == "-v"]:
        source = volume.split(":")[0]
        expect(not source.startswith("/") or (lab.root / source[1:]).exists(), f"{source} exists")


@stand_in(r"^ntpd demo\b", "the tests run the demonstration on their own")
def demo(_, words):
    expect(words[:2] == ["ntpd", "demo"], "the demonstration", words)
