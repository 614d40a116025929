"""The programs that meet in the tests: ours, chronyd, NTPsec and ntpd-rs, each as server, as member of a pool, and as user.
"""

import json
import re

from lab import OURS, PEERS, have, wait_for

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


def ours(host, text, tag, control=""):
    """Starts our daemon with -x."""
    lab = host.lab
    folder = lab.dir / f"ours-{tag}"
    folder.mkdir(mode=0o700)
    config = lab.write(f"ours-{tag}.toml", f"""{text}
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
{control}
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


def report(host, daemon, *words):
    """A report of ours as data, or None while the daemon does not answer."""
    text = ntpctl(host, daemon, "--json", *words)
    try:
        return json.loads(text)
    except ValueError:
        return None


def synchronized(host, daemon):
    tracking = report(host, daemon, "tracking")
    return tracking if tracking and tracking.get("synchronized") else None


def trust(lab, **more):
    """The table of trust with the authority of the lab, and more of its keys."""
    values = {"certificates": "file", "certificate_file": str(lab.certificates / "ca.pem"), **more}
    # These kinds of values are the same in JSON.
    return "[trust]\n" + "".join(f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in values.items())


def takes_key_exchanges(host, what):
    """To `auto`, a name at which nobody listens for key exchanges is one without NTS."""
    wait_for(f"{what} to take key exchanges", lambda: "LISTEN" in host.run("ss", "-Htln", "sport = :4460", check=False), 30)


# Servers.

def chrony_server(host, tag, extra=""):
    return chrony(host, f"local stratum 3\nallow all\n{extra}", tag)


def chrony_nts_server(host, tag, extra=""):
    tls = host.lab.certificates
    server = chrony_server(host, tag, f"""
ntsserverkey {tls}/{host.name}.key
ntsservercert {tls}/{host.name}.pem
{extra}""")
    takes_key_exchanges(host, "chronyd")
    return server


def ntpsec_server(host, tag, extra=""):
    lab = host.lab
    config = lab.write(f"ntpsec-{tag}.conf", f"""
disable ntp
tos orphan 5 orphanwait 1
restrict default
{extra}
""")
    return host.start(NTPSEC, "-n", "-g", "-c", config, log=f"ntpsec-{tag}.log")


def ntpsec_nts_server(host, tag, extra=""):
    tls = host.lab.certificates
    return ntpsec_server(host, tag, f"""
nts enable
nts key {tls}/{host.name}.key
nts cert {tls}/{host.name}.pem
nts cookie {host.lab.dir}/ntpsec-cookies-{tag}
{extra}
""")


def ntpd_rs_nts_server(host, tag, synchronization="", more="", extra=""):
    """`synchronization` and `more` are lines of the table of that name and of that of NTS; `extra` holds further tables."""
    lab = host.lab
    tls = lab.certificates
    config = lab.write(f"ntpd-rs-{tag}.toml", f"""
[synchronization]
{synchronization}
[observability]
log-level = "info"
observation-path = "{lab.dir}/ntpd-rs-{tag}.sock"
[[server]]
listen = "[::]:123"
[[nts-ke-server]]
listen = "[::]:4460"
certificate-chain-path = "{tls}/{host.name}.pem"
private-key-path = "{tls}/{host.name}.key"
{more}
{extra}
""", 0o644)
    return host.start(NTPD_RS, "-c", config, log=f"ntpd-rs-{tag}.log")


def our_plain_server(host, tag, extra=""):
    """Our daemon on top of a chronyd at the same host: a server that followed another might be a loop for its clients.

    `extra` holds further tables."""
    chrony_server(host, f"{tag}-up", "port 11123")
    daemon = ours(host, f"""
[[server]]
address = "{host.v4}:11123"
nts = "off"
min-poll = 1
max-poll = 2
[serve]
listen = ["0.0.0.0:123", "[::]:123"]
allow = ["10.89.7.0/24", "fd89:7::/64"]
{extra}""", tag)
    wait_for("our server to synchronize", lambda: synchronized(host, daemon), 30)
    return daemon


def our_nts_server(host, tag, more="", extra=""):
    """The same with NTS. `more` holds lines of the table [serve.nts]."""
    tls = host.lab.certificates
    return our_plain_server(host, tag, f"""
[serve.nts]
listen = ["0.0.0.0:4460", "[::]:4460"]
certificate = "{tls}/{host.name}.pem"
private-key = "{tls}/{host.name}.key"
{more}
{extra}""")


# Users: each says which addresses it has authenticated time from, after several answers; `plain`, from which it has any.

class ChronyUser:
    """chronyd that gets its sources from these lines."""

    def __init__(self, host, tag, lines):
        self.host, self.log = host, f"chrony-{tag}.log"
        self.process = chrony(host, f"{lines}\nport 0\nntstrustedcerts {host.lab.certificates}/ca.pem", tag)

    def rows(self, *words):
        lines = chronyc(self.host, self.process, *words).splitlines()
        return [fields for fields in (line.split(",") for line in lines) if len(fields) > 8]

    def authentic(self):
        # Name, mode, key, type, length, last, attempts, NAK, cookies, cookie length.
        keys = {row[0]: row for row in self.rows("authdata") if row[1] == "NTS" and (row[7], row[8]) == ("0", "8")}
        # Mode, state, name, stratum, poll, reach.
        return {row[2] for row in self.rows("sources") if row[2] in keys and int(row[5], 8) >= 7}

    def plain(self):
        return {row[2] for row in self.rows("sources") if row[1] in "*+" and int(row[5], 8) >= 7}

    def state(self):
        return self.rows("sources"), self.rows("authdata")


class NtpsecUser:
    """NTPsec that gets its sources from these lines."""

    def __init__(self, host, tag, lines):
        lab = host.lab
        self.host, self.log = host, f"ntpsec-{tag}.log"
        stats = lab.dir / f"stats-{tag}"
        stats.mkdir()
        self.peers = stats / "peerstats"
        config = lab.write(f"ntpsec-{tag}.conf", f"""
nts ca {lab.certificates}/ca.pem
{lines}
statsdir {stats}/
filegen peerstats file peerstats type none enable
restrict default
""", 0o644)
        self.process = host.start(NTPSEC, "-n", "-g", "-c", config, log=self.log)

    def authentic(self):
        # Day, second, address, status. The status begins with flags, the lowest of which say that the source is
        # authentic and reachable, and goes on with its selection: 6 is the system peer.
        return set(re.findall(r"^\d+ \S+ (\S+) [37bf]6[0-9a-f]{2} ", self.state(), re.MULTILINE))

    def plain(self):
        return set(re.findall(r"^\d+ \S+ (\S+) [0-9a-f]6[0-9a-f]{2} ", self.state(), re.MULTILINE))

    def state(self):
        return self.peers.read_text() if self.peers.exists() else ""


class NtpdRsUser:
    """ntpd-rs with this source, which names nothing but its mode and its address; with NTS it trusts the lab."""

    def __init__(self, host, tag, source):
        lab = host.lab
        self.host, self.log = host, f"ntpd-rs-{tag}.log"
        authority = f'certificate-authority = "{lab.certificates}/ca.pem"' if '"nts' in source else ""
        self.config = lab.write(f"ntpd-rs-{tag}.toml", f"""
[synchronization]
minimum-agreeing-sources = 1
[source-defaults]
poll-interval-limits = {{ min = 4, max = 4 }}
[observability]
log-level = "info"
observation-path = "{lab.dir}/ntpd-rs-{tag}.sock"
[[source]]
{source}
{authority}
""", 0o644)
        self.process = host.start(NTPD_RS, "-c", self.config, log=self.log)

    def sources(self, metric):
        rows = re.findall(rf'^ntp_source_{metric}{{.*address="(.*):123".*}} (\S+)$', self.state(), re.MULTILINE)
        return {(address.strip("[]"), float(value)) for address, value in rows}

    def plain(self):
        # An offset of zero is one that was not measured.
        measured = {address for address, offset in self.sources("offset_seconds") if offset != 0}
        return measured & {address for address, unanswered in self.sources("unanswered_polls") if unanswered == 0}

    def authentic(self):
        return {address for address, cookies in self.sources("nts_cookies_available") if cookies == 8} & self.plain()

    def state(self):
        text = self.host.run(NTPD_RS_CTL, "-c", self.config, "status", "-f", "prometheus", check=False)
        return "\n".join(line for line in text.splitlines() if line.startswith("ntp_source_"))


class OurUser:
    """Our daemon with these lines, and more keys of the table of trust."""

    def __init__(self, host, tag, lines, **trusted):
        self.host, self.log = host, f"ours-{tag}.log"
        self.process = ours(host, lines + "\n" + trust(host.lab, **trusted), tag)

    def authentic(self):
        sources, keys = report(self.host, self.process, "sources"), report(self.host, self.process, "authdata")
        if not sources or not keys:
            return set()
        full = {row["name"] for row in keys["sources"] if row["mode"].upper() == "NTS" and row["cookies"] == 8}
        return {row["address"].rsplit(":", 1)[0].strip("[]") for row in sources["sources"]
                if row["name"] in full and row["trust"] != "none" and row["reach"] >= 7}

    def plain(self):
        sources = report(self.host, self.process, "sources") or {"sources": []}
        return {row["address"].rsplit(":", 1)[0].strip("[]") for row in sources["sources"] if row["reach"] >= 7}

    def state(self):
        return ntpctl(self.host, self.process, "sources"), ntpctl(self.host, self.process, "authdata")


def authentic(user, among, at_least=1, seconds=60):
    """Waits until a user has authenticated time from so many of these hosts, and from nobody else."""
    return served(user, user.authentic, among, at_least, seconds)


def plain(user, among, at_least=1, seconds=60):
    """Waits until a user has time from so many of these hosts, and from nobody else."""
    return served(user, user.plain, among, at_least, seconds)


def served(user, ask, among, at_least, seconds):
    def hosts():
        addresses = ask()
        names = {host.name for host in among for address in addresses if address in (host.v4, host.v6)}
        strangers = addresses - {address for host in among for address in (host.v4, host.v6)}
        if strangers:
            raise AssertionError(f"{user.log}: time from {strangers}, who is none of {[host.name for host in among]}")
        return names if len(names) >= at_least else None

    try:
        what = f"{ask.__name__} time from {at_least} of {[host.name for host in among]} ({user.log})"
        return wait_for(what, hosts, seconds)
    except AssertionError:
        print(user.host.lab.log(user.log)[-4000:], user.state())
        raise


def stop(*programs):
    for program in programs:
        program.terminate()
    for program in programs:
        program.wait(10)
