"""Two hosts in network namespaces, with a certificate authority of their own, and programs that run in them.

No clock is ever set: our daemon and chronyd run with -x, and all peers without the capability to set it. Everything
made here is removed at the end.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Programs that must not be found by their own name on the machine are unpacked here, not installed.
PEERS = Path(os.environ.get("NTPD_PEERS", ROOT / "target" / "interop" / "peers"))
OURS = Path(os.environ.get("NTPD_BIN", ROOT / "target" / "debug"))


def sh(*command, check=True, **options):
    """Runs a command and returns its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Host:
    """A network namespace with an address of each family and names for everybody."""

    def __init__(self, lab, name, number):
        self.lab = lab
        self.name = name
        self.space = f"ntpd-it-{os.getpid()}-{name}"
        self.v4 = f"10.89.7.{number}"
        self.v6 = f"fd89:7::{number}"
        self.names = [f"{name}.test", *(f"time{n}.{name}.test" for n in range(1, 4))]
        self.programs = []

    def command(self, *words):
        return ["ip", "netns", "exec", self.space, *[str(word) for word in words]]

    def run(self, *words, check=True, **options):
        return sh(*self.command(*words), check=check, **options)

    def start(self, *words, log, shim=True, env=None):
        """Starts a program that must not be able to set the clock."""
        environment = dict(os.environ, **(env or {}))
        guarded = ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", *words]
        if shim:
            guarded = ["env", f"LD_PRELOAD={self.lab.shim}", *guarded]
        out = open(self.lab.dir / log, "w")
        process = subprocess.Popen(self.command(*guarded), stdout=out, stderr=subprocess.STDOUT, env=environment)
        self.programs.append(process)
        return process

    def stop(self):
        for process in self.programs:
            process.terminate()
        for process in self.programs:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.programs = []


class Lab:
    """The two hosts, `a` and `b`, and a folder for everything they write."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="ntpd-interop-"))
        os.chmod(self.dir, 0o755)
        self.hosts = [Host(self, "a", 1), Host(self, "b", 2)]
        self.a, self.b = self.hosts
        self.shim = self.dir / "noclock.so"
        self.certificates = self.dir / "tls"

    def __enter__(self):
        sh("gcc", "-O2", "-shared", "-fPIC", "-o", self.shim, ROOT / "tests/interop/noclock.c", "-ldl")
        self._certificates()
        for host in self.hosts:
            sh("ip", "netns", "add", host.space)
            etc = Path("/etc/netns") / host.space
            etc.mkdir(parents=True)
            names = "".join(f"{h.v4} {' '.join(h.names)}\n" for h in self.hosts)
            (etc / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
            (etc / "resolv.conf").write_text("")
        a, b = self.hosts
        sh("ip", "-n", a.space, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.space)
        for host in self.hosts:
            sh("ip", "-n", host.space, "addr", "add", f"{host.v4}/24", "dev", "eth0")
            sh("ip", "-n", host.space, "addr", "add", f"{host.v6}/64", "dev", "eth0", "nodad")
            sh("ip", "-n", host.space, "link", "set", "lo", "up")
            sh("ip", "-n", host.space, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            host.stop()
            sh("ip", "netns", "del", host.space, check=False)
            shutil.rmtree(Path("/etc/netns") / host.space, ignore_errors=True)
        if os.environ.get("NTPD_KEEP"):
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _certificates(self):
        """One authority, and a certificate for each host."""
        tls = self.certificates
        tls.mkdir()
        key = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]
        sh(*key, tls / "ca.key")
        sh("openssl", "req", "-x509", "-new", "-key", tls / "ca.key", "-subj", "/CN=test authority", "-days", "30",
           "-out", tls / "ca.pem")
        for host in self.hosts:
            name = f"{host.name}.test"
            sh(*key, tls / f"{host.name}.ec")
            # PKCS#8 is what every peer reads.
            sh("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", tls / f"{host.name}.ec", "-out", tls / f"{host.name}.key")
            sh("openssl", "req", "-new", "-key", tls / f"{host.name}.key", "-subj", f"/CN={name}", "-out", tls / "csr")
            names = ",".join(f"DNS:{name}" for name in host.names)
            (tls / "ext").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
            sh("openssl", "x509", "-req", "-in", tls / "csr", "-CA", tls / "ca.pem", "-CAkey", tls / "ca.key",
               "-CAcreateserial", "-days", "20", "-extfile", tls / "ext", "-out", tls / f"{host.name}.crt")
            with open(tls / f"{host.name}.pem", "w") as chain:
                chain.write((tls / f"{host.name}.crt").read_text())

    def write(self, name, text, mode=0o600):
        file = self.dir / name
        file.write_text(text)
        os.chmod(file, mode)
        return file

    def log(self, name):
        file = self.dir / name
        return file.read_text() if file.exists() else ""


def wait_for(what, ready, seconds=40):
    """Polls until `ready` returns something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = ready()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {what}")


def have(program):
    return program if Path(program).exists() else shutil.which(str(program))


CHRONYD = have(PEERS / "chrony/usr/sbin/chronyd")
CHRONYC = have(PEERS / "chrony/usr/bin/chronyc")
NTPSEC = have(PEERS / "ntpsec/usr/sbin/ntpd")
NTPD_RS = have(PEERS / "ntpd-rs/bin/ntp-daemon")
NTPD_RS_CTL = have(PEERS / "ntpd-rs/bin/ntp-ctl")
KEY_HEX = {"AES128": "00112233445566778899aabbccddeeff", "SHA1": "0011223344556677889900112233445566778899",
           "SHA256": "00" * 15 + "11" * 17, "MD5": "00112233445566778899aabbccddee01"}


def chrony(host, text, tag):
    """Starts chronyd with these lines on top of what a test needs."""
    lab = host.lab
    folder = lab.dir / f"chrony-{tag}"
    folder.mkdir(mode=0o750)
    config = lab.write(f"chrony-{tag}.conf", f"""
pidfile {folder}/pid
bindcmdaddress {folder}/sock
cmdport 0
driftfile {folder}/drift
ntsdumpdir {folder}
user root
{text}
""")
    process = host.start(CHRONYD, "-x", "-d", "-f", config, log=f"chrony-{tag}.log")
    process.socket = folder / "sock"
    return process


def chronyc(host, process, *words):
    return host.run(CHRONYC, "-n", "-c", "-h", process.socket, *words, check=False)


def ours(host, text, tag):
    """Starts our daemon with -x."""
    lab = host.lab
    folder = lab.dir / f"ours-{tag}"
    folder.mkdir(mode=0o700)
    config = lab.write(f"ours-{tag}.toml", f"""{text}
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
[log]
level = "debug"
format = "text"
""")
    process = host.start(OURS / "ntpd", "-x", "-c", config, log=f"ours-{tag}.log", shim=False)
    process.socket = folder / "control.sock"
    process.config = config
    return process


def ntpctl(host, process, *words):
    return host.run(OURS / "ntpctl", "--socket", process.socket, *words, check=False)


def match(pattern, text):
    return re.search(pattern, text, re.MULTILINE)
