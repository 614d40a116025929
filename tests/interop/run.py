#!/usr/bin/env python3
"""Our client with every peer as server, every peer as client of our server, over all the ways both can.

Runs as root; needs `tests/run` to have unpacked the peers, or NTPD_PEERS to say where they are.
    run.py            all cases
    run.py PATTERN    those whose name contains PATTERN
"""

import difflib
import json
import os
import re
import sys
import traceback

from lab import (CHRONYC, CHRONYD, KEY_HEX, NTPD_RS, NTPD_RS_CTL, NTPSEC, OURS, ROOT, Lab, chrony, chronyc, have, match, ntpctl, ours,
                 sh, wait_for)

CASES = []


def case(function):
    CASES.append(function)
    return function


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


def expect(truth, what, *evidence):
    if not truth:
        raise AssertionError(f"{what}: {evidence}")


# Servers to measure against. Host a is the server, host b the client.

def chrony_server(host, tag, extra=""):
    return chrony(host, f"local stratum 3\nallow all\n{extra}", tag)


def chrony_nts_server(host, tag, extra=""):
    tls = host.lab.certificates
    server = chrony_server(host, tag, f"""
ntsserverkey {tls}/{host.name}.key
ntsservercert {tls}/{host.name}.pem
{extra}""")
    # To `auto`, a name at which nobody listens for key exchanges is one without NTS.
    listens = lambda: "LISTEN" in host.run("ss", "-Htln", "sport = :4460", check=False)
    wait_for("chronyd to take key exchanges", listens, 20)
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


def ntpd_rs_server(host, tag):
    """Follows a chronyd at another address of the other host: without a source it says itself that it is not
    synchronized, and a server that followed our own address would be a loop for us."""
    lab = host.lab
    tls = lab.certificates
    sh("ip", "-n", lab.b.space, "addr", "add", "10.89.7.12/24", "dev", "eth0", check=False)
    chrony_server(lab.b, f"{tag}-up", "port 11123\nbindaddress 10.89.7.12")
    config = lab.write(f"ntpd-rs-{tag}.toml", f"""
[synchronization]
minimum-agreeing-sources = 1
[source-defaults]
poll-interval-limits = {{ min = 4, max = 4 }}
[[source]]
mode = "server"
address = "10.89.7.12:11123"
[observability]
log-level = "info"
observation-path = "{lab.dir}/ntpd-rs-{tag}.sock"
[[server]]
listen = "0.0.0.0:123"
[[nts-ke-server]]
listen = "0.0.0.0:4460"
certificate-chain-path = "{tls}/{host.name}.pem"
private-key-path = "{tls}/{host.name}.key"
""", 0o644)
    return host.start(NTPD_RS, "-c", config, log=f"ntpd-rs-{tag}.log")


def ntpd_rs_stratum(lab):
    """Stratum that a plain request at host a gets."""
    ask = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); "
           f"s.sendto(bytes([0x23]) + bytes(47), ('{lab.a.v4}', 123)); print(s.recv(100)[1])")
    text = lab.b.run("python3", "-c", ask, check=False)
    return int(text) if text.strip().isdigit() else 16


FAST = 'min-poll = 1\nmax-poll = 2\n'


def trust(lab):
    return f'[trust]\ncertificates = "file"\ncertificate-file = "{lab.certificates}/ca.pem"\n'


def keys(lab, tag, kind):
    """A key file for us and one for chrony with the same key."""
    ours_file = lab.write(f"keys-{tag}.toml", f'[[key]]\nid = 7\ntype = "{kind}"\nsecret = "hex:{KEY_HEX[kind]}"\n')
    theirs = lab.write(f"keys-{tag}", f"7 {kind} HEX:{KEY_HEX[kind]}\n")
    return ours_file, theirs


def run_ours(lab, text, tag, wait=30):
    daemon = ours(lab.b, text, tag)
    try:
        tracking = wait_for(f"our client to synchronize ({tag})", lambda: synchronized(lab.b, daemon), wait)
    except AssertionError:
        print(ntpctl(lab.b, daemon, "sources"), lab.log(f"ours-{tag}.log")[-1500:])
        raise
    expect(abs(tracking["last-offset-seconds"]) < 0.01, "one clock for both hosts: no offset", tracking)
    return daemon, tracking


@case
def our_client_from_chrony_plain(lab):
    chrony_server(lab.a, "s")
    for tag, address in (("v4", lab.a.v4), ("v6", lab.a.v6)):
        daemon, tracking = run_ours(lab, f'[[server]]\naddress = "{address}"\nnts = "off"\n{FAST}', tag)
        expect(tracking["stratum"] == 4, "one below the server", tracking)
        data = report(lab.b, daemon, "ntpdata")["sources"][0]
        expect(data["stamped-sent"] > 0 and data["stamped-received"] > 0, "the kernel stamps", data)
        daemon.terminate()
        daemon.wait(5)
        expect(daemon.returncode == 0, "SIGTERM ends cleanly", daemon.returncode)


@case
def our_client_from_chrony_interleaved(lab):
    chrony_server(lab.a, "s")
    daemon, _ = run_ours(lab, f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\ninterleaved = true\n{FAST}', "x")
    count = lambda: report(lab.b, daemon, "ntpdata")["sources"][0]["interleaved"]
    wait_for("interleaved replies", lambda: count() >= 3, 40)


@case
def our_client_from_chrony_with_keys(lab):
    for kind in ("AES128", "SHA256", "SHA1", "MD5"):
        ours_file, theirs = keys(lab, kind, kind)
        server = chrony_server(lab.a, f"s-{kind}", f"keyfile {theirs}")
        text = f'[[server]]\naddress = "{lab.a.v4}"\nkey = 7\n{FAST}[keys]\nfile = "{ours_file}"\n'
        daemon, _ = run_ours(lab, text, f"k-{kind}")
        auth = report(lab.b, daemon, "authdata")["sources"][0]
        expect(auth["mode"].lower().startswith("sym") or auth["mode"].upper() == "SK", "authenticated by key", auth)
        for program in (daemon, server):
            program.terminate()
            program.wait(5)


@case
def our_client_refuses_a_wrong_key(lab):
    ours_file, _ = keys(lab, "right", "AES128")
    theirs = lab.write("keys-wrong", "7 AES128 HEX:ffffffffffffffffffffffffffffffff\n")
    chrony_server(lab.a, "s", f"keyfile {theirs}")
    text = f'[[server]]\naddress = "{lab.a.v4}"\nkey = 7\n{FAST}[keys]\nfile = "{ours_file}"\n'
    daemon = ours(lab.b, text, "wrong")
    row = lambda: (report(lab.b, daemon, "ntpdata") or {"sources": [None]})["sources"][0]
    wait_for("requests to go out", lambda: (row() or {}).get("sent", 0) >= 4, 30)
    expect(row()["good"] == 0, "nothing is believed", row())
    expect(synchronized(lab.b, daemon) is None, "not synchronized")


@case
def our_client_from_chrony_nts(lab):
    chrony_nts_server(lab.a, "s")
    daemon, _ = run_ours(lab, f'[[server]]\naddress = "a.test"\nnts = "require"\n{FAST}{trust(lab)}', "nts")
    auth = report(lab.b, daemon, "authdata")["sources"][0]
    expect(auth["mode"].upper() == "NTS" and auth["cookies"] == 8, "NTS with a full jar", auth)
    wait_for("several NTS replies", lambda: report(lab.b, daemon, "ntpdata")["sources"][0]["good"] >= 6, 30)
    expect(report(lab.b, daemon, "sources")["sources"][0]["trust"] == "pki", "vouched for by the certificate")
    text = ntpctl(lab.b, daemon, "sources")
    expect("^*" in text and "a.test" in text, "the table shows it", text)


@case
def our_pool_in_mode_auto_finds_nts_and_remembers_it(lab):
    server = chrony_nts_server(lab.a, "s")
    text = f'[[pool]]\nname = "a.test"\ncount = 2\n{FAST}{trust(lab)}'
    daemon, _ = run_ours(lab, text, "auto", 60)
    pools = report(lab.b, daemon, "pools")["pools"]
    expect(pools[0]["nts-remembered"], "the name is remembered to offer NTS", pools)
    expect([s["trust"] for s in report(lab.b, daemon, "sources")["sources"]] == ["pki"], "one member, authenticated")
    server.terminate()
    server.wait(5)


@case
def our_pool_in_mode_auto_uses_plain_ntp_where_there_is_no_nts(lab):
    chrony_server(lab.a, "s")
    daemon, _ = run_ours(lab, f'[[pool]]\nname = "a.test"\ncount = 2\n{FAST}{trust(lab)}', "auto", 60)
    expect([s["trust"] for s in report(lab.b, daemon, "sources")["sources"]] == ["none"], "plain NTP")


@case
def our_client_refuses_a_certificate_of_somebody_else(lab):
    tls = lab.certificates
    chrony_server(lab.a, "s", f"ntsserverkey {tls}/b.key\nntsservercert {tls}/b.pem")
    daemon = ours(lab.b, f'[[server]]\naddress = "a.test"\nnts = "require"\n{FAST}{trust(lab)}', "wrong")
    said = lambda: match(r"certificate", ntpctl(lab.b, daemon, "sources") + lab.log("ours-wrong.log"))
    wait_for("word of the certificate", said, 30)
    expect(synchronized(lab.b, daemon) is None, "not synchronized")
    expect(daemon.poll() is None, "time keeping goes on")


@case
def our_client_from_ntpsec(lab):
    if not NTPSEC:
        return "ntpsec is not here"
    tls = lab.certificates
    key_file, theirs = keys(lab, "sec", "AES128")
    lab.write("keys-sec", f"7 AES-128 {KEY_HEX['AES128']}\n")
    server = ntpsec_server(lab.a, "s", f"""
keys {theirs}
trustedkey 7
nts enable
nts key {tls}/a.key
nts cert {tls}/a.pem
nts cookie {lab.dir}/ntpsec-cookies
""")
    for tag, text in (
        ("plain", f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{FAST}'),
        ("key", f'[[server]]\naddress = "{lab.a.v4}"\nkey = 7\n{FAST}[keys]\nfile = "{key_file}"\n'),
        ("nts", f'[[server]]\naddress = "a.test"\nnts = "require"\n{FAST}{trust(lab)}'),
    ):
        daemon, _ = run_ours(lab, text, tag, 90)
        daemon.terminate()
        daemon.wait(5)
    expect(server.poll() is None, "the peer still runs", lab.log("ntpsec-s.log")[-2000:])


@case
def our_client_from_ntpd_rs(lab):
    if not NTPD_RS:
        return "ntpd-rs is not here"
    ntpd_rs_server(lab.a, "s")
    status = lambda: ntpd_rs_stratum(lab)
    wait_for("ntpd-rs to follow its own source", lambda: status() not in (0, 16), 150)
    # Kept from steering, it does not trust its own frequency, and claims an error bound of seconds.
    limit = '[clock]\nmax-distance = "15s"\n'
    for tag, text in (
        ("plain", f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{FAST}{limit}'),
        ("nts", f'[[server]]\naddress = "a.test"\nnts = "require"\n{FAST}{limit}{trust(lab)}'),
    ):
        daemon, _ = run_ours(lab, text, tag, 60)
        daemon.terminate()
        daemon.wait(5)


# Our server: host b runs our daemon on top of a chronyd there, and peers at host a ask it.

def our_server(lab, extra=""):
    # On the same host: a server that followed host a would be a loop for the clients there.
    chrony_server(lab.b, "up", "port 11123")
    tls = lab.certificates
    text = f"""
[[server]]
address = "{lab.b.v4}:11123"
nts = "off"
{FAST}
[serve]
listen = ["0.0.0.0:123", "[::]:123"]
allow = ["10.89.7.0/24", "fd89:7::/64"]
[serve.nts]
listen = ["0.0.0.0:4460"]
certificate = "{tls}/b.pem"
private-key = "{tls}/b.key"
{extra}"""
    daemon = ours(lab.b, text, "server")
    wait_for("our server to synchronize", lambda: synchronized(lab.b, daemon), 30)
    return daemon


def chrony_client(lab, line, tag, extra="", wait=40):
    client = chrony(lab.a, f"server {line} iburst minpoll 1 maxpoll 1\nport 0\n{extra}", tag)
    selected = lambda: match(r"^\^,\*", chronyc(lab.a, client, "sources"))
    try:
        wait_for(f"chronyd to select our server ({tag})", selected, wait)
    except AssertionError:
        print(lab.log(f"chrony-{tag}.log")[-1500:], chronyc(lab.a, client, "ntpdata"))
        raise
    return client


@case
def chrony_from_our_server(lab):
    daemon = our_server(lab)
    chrony_client(lab, lab.b.v4, "plain")
    chrony_client(lab, lab.b.v6, "v6")
    client = chrony_client(lab, f"{lab.b.v4} xleave", "xleave")
    interleaved = lambda: match(r"Interleaved\s+: Yes", lab.a.run(CHRONYC, "-n", "-h", client.socket, "ntpdata", check=False))
    wait_for("chronyd to be in interleaved mode", interleaved, 30)
    stats = report(lab.b, daemon, "serverstats")["ntp"]
    expect(stats["interleaved"] > 0 and stats["replies-plain"] > 10, "our server counts", stats)


@case
def chrony_from_our_server_with_keys(lab):
    ours_file, theirs = keys(lab, "all", "SHA256")
    our_server(lab, f'[keys]\nfile = "{ours_file}"\n')
    chrony_client(lab, f"{lab.b.v4} key 7", "key", f"keyfile {theirs}")


@case
def chrony_from_our_server_with_nts(lab):
    daemon = our_server(lab)
    capture = lab.dir / "nts.pcap"
    sniffer = lab.b.start("tshark", "-q", "-i", "eth0", "-w", capture, log="tshark.log", shim=False) if have("tshark") else None
    client = chrony_client(lab, "b.test nts", "nts", f"ntstrustedcerts {lab.certificates}/ca.pem")
    data = chronyc(lab.a, client, "authdata")
    expect(match(r"NTS,1,15,256|NTS,\d+,30,128", data), "NTS in use", data)
    stats = report(lab.b, daemon, "serverstats")
    expect(stats["ntp"]["replies-nts"] > 0 and stats["key-exchange"]["completed"] >= 1, "our server counts", stats)
    if sniffer:
        wait_for("more NTS replies", lambda: report(lab.b, daemon, "serverstats")["ntp"]["replies-nts"] > 8, 30)
        sniffer.terminate()
        sniffer.wait(10)
        seen = sh("tshark", "-r", capture, "-Y", "ntp.ext", "-T", "fields", "-e", "ntp.ext.type")
        expect(len(seen.splitlines()) > 8, "NTS fields were captured", seen)
        wrong = sh("tshark", "-r", capture, "-Y", "ntp && (_ws.malformed || _ws.expert.severity == error)")
        lines = [line for line in wrong.splitlines() if "NTP" in line]
        expect(not lines, "tshark finds nothing wrong", lines)


@case
def ntpsec_from_our_server(lab):
    if not NTPSEC:
        return "ntpsec is not here"
    daemon = our_server(lab)
    for tag, line in (("plain", lab.b.v4), ("nts", f"b.test nts ca {lab.certificates}/ca.pem")):
        stats = lab.dir / f"stats-{tag}"
        stats.mkdir()
        config = lab.write(f"ntpsec-{tag}.conf", f"""
server {line} iburst minpoll 3 maxpoll 3
statsdir {stats}/
filegen peerstats file peerstats type none enable
restrict default
""")
        client = lab.a.start(NTPSEC, "-n", "-g", "-c", config, log=f"ntpsec-{tag}.log")
        # The second digit of a peer's status word is its selection: 6 is the system peer.
        peers = stats / "peerstats"
        selected = lambda: peers.exists() and match(r"^\d+ \S+ \S+ [0-9a-f]6[0-9a-f]{2} ", peers.read_text())
        try:
            wait_for(f"NTPsec to select our server ({tag})", selected, 60)
        except AssertionError:
            print(lab.log(f"ntpsec-{tag}.log")[-3000:])
            raise
        client.terminate()
        client.wait(5)
    served = report(lab.b, daemon, "serverstats")["ntp"]
    expect(served["replies-nts"] > 0 and served["replies-plain"] > 0, "our server counts", served)


@case
def ntpd_rs_from_our_server(lab):
    if not NTPD_RS:
        return "ntpd-rs is not here"
    daemon = our_server(lab)
    for tag, source in (
        ("plain", f'mode = "server"\naddress = "{lab.b.v4}"'),
        ("nts", f'mode = "nts"\naddress = "b.test"\ncertificate-authority = "{lab.certificates}/ca.pem"'),
    ):
        config = lab.write(f"ntpd-rs-{tag}.toml", f"""
[synchronization]
minimum-agreeing-sources = 1
[source-defaults]
poll-interval-limits = {{ min = 4, max = 4 }}
[observability]
log-level = "info"
observation-path = "{lab.dir}/rs-{tag}.sock"
[[source]]
{source}
""", 0o644)
        client = lab.a.start(NTPD_RS, "-c", config, log=f"ntpd-rs-{tag}.log")
        before = report(lab.b, daemon, "serverstats")["ntp"]
        counter = "replies-nts" if tag == "nts" else "replies-plain"
        grown = lambda: report(lab.b, daemon, "serverstats")["ntp"][counter] >= before[counter] + 3
        try:
            wait_for(f"ntpd-rs to be answered ({tag})", grown, 60)
            status = lambda: lab.a.run(NTPD_RS_CTL, "-c", config, "status", check=False)
            wait_for(f"ntpd-rs to synchronize ({tag})", lambda: match(r"Stratum:\s+5", status()), 120)
        except AssertionError:
            print(lab.log(f"ntpd-rs-{tag}.log")[-3000:])
            raise
        client.terminate()
        client.wait(5)


@case
def every_source_has_a_reason(lab):
    for number in range(4):
        chrony_server(lab.a, f"s{number}", f"port {1230 + number}")
    servers = "".join(f'[[server]]\naddress = "{lab.a.v4}:{1230 + n}"\nnts = "off"\n{FAST}' for n in range(4))
    daemon, _ = run_ours(lab, servers, "four")
    rows = report(lab.b, daemon, "sources")["sources"]
    expect(len(rows) == 4 and all(row["reason"] for row in rows), "every source has a reason", rows)


@case
def root_is_given_up_where_the_daemon_has_a_user(lab):
    """A user `ntpd` exists in the eyes of host b; the daemon becomes it and still serves port 123, reloads, and saves."""
    passwd = open("/etc/passwd").read() + "ntpd:x:64123:64123::/nonexistent:/usr/sbin/nologin\n"
    group = open("/etc/group").read() + "ntpd:x:64123:\n"
    for name, text in (("passwd", passwd), ("group", group)):
        with open(f"/etc/netns/{lab.b.space}/{name}", "w") as file:
            file.write(text)
    chrony_server(lab.a, "s")
    text = f"""
[[server]]
address = "{lab.a.v4}"
nts = "off"
{FAST}
[serve]
listen = ["0.0.0.0:123"]
allow = ["10.89.7.0/24"]
"""
    config = lab.write("ours-user.toml", text, 0o644)
    sockets = lab.dir / "user"
    state = lab.dir / "user-state"
    os.chmod(lab.dir, 0o777)
    config.write_text(text + f'[state]\ndirectory = "{state}"\n[control]\nsocket = "{sockets}/control.sock"\n')
    daemon = lab.b.start(OURS / "ntpd", "-x", "-c", config, log="ours-user.log", shim=False)
    daemon.socket = sockets / "control.sock"
    wait_for("our client to synchronize", lambda: synchronized(lab.b, daemon), 30)
    pids = lab.b.run("pgrep", "-f", f"ntpd -x -c {config}").split()
    status = next(s for s in (open(f"/proc/{pid}/status").read() for pid in pids) if s.startswith("Name:\tntpd"))
    expect("Uid:\t64123\t64123\t64123\t64123" in status, "it runs as its user", status)
    effective = int(match(r"^CapEff:\s+(\w+)", status).group(1), 16)
    expect(effective == 1 << 10, "CAP_NET_BIND_SERVICE alone is left with -x", hex(effective))
    config.write_text(config.read_text().replace('"0.0.0.0:123"', '"0.0.0.0:123", "[::]:123"'))
    answer = ntpctl(lab.b, daemon, "reload")
    expect("applied" in answer, "port 123 can be bound again after the drop", answer)
    daemon.terminate()
    daemon.wait(5)
    expect(os.stat(state).st_uid == 64123, "the state directory belongs to the user", os.stat(state))


@case
def reload_is_all_or_nothing(lab):
    chrony_server(lab.a, "s")
    good = f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{FAST}'
    daemon, _ = run_ours(lab, good, "reload")
    text = daemon.config.read_text()
    lab.write("ours-reload.toml", text.replace("min-poll", "min-pol"))
    answer = ntpctl(lab.b, daemon, "reload")
    expect("min-pol" in answer, "the error names the key", answer)
    expect(len(report(lab.b, daemon, "sources")["sources"]) == 1, "the old configuration still runs")
    lab.write("ours-reload.toml", text + f'[[server]]\naddress = "{lab.a.v6}"\nnts = "off"\n')
    ntpctl(lab.b, daemon, "reload")
    wait_for("the added server", lambda: len(report(lab.b, daemon, "sources")["sources"]) == 2, 10)
    expect(synchronized(lab.b, daemon), "the first server went on undisturbed")


@case
def names_that_do_not_resolve_are_tried_again(lab):
    chrony_server(lab.a, "s")
    daemon = ours(lab.b, f'[[server]]\naddress = "late.test"\nnts = "off"\n{FAST}', "late")
    said = lambda: match(r"late\.test", ntpctl(lab.b, daemon, "sources"))
    wait_for("the name to be shown as unresolved", said, 20)
    hosts = f"/etc/netns/{lab.b.space}/hosts"
    with open(hosts, "a") as file:
        file.write(f"{lab.a.v4} late.test\n")
    wait_for("our client to synchronize once the name exists", lambda: synchronized(lab.b, daemon), 90)


def shape(text):
    """A transcript with everything that changes from run to run made alike."""
    text = re.sub(r"[+-]?\d+(\.\d+)?", "0", text)
    text = re.sub(r"\b[0-9A-F]{8}\b", "0", text)
    text = re.sub(r"\b0(ns|us|ms|s)\b", "0s", text)
    text = re.sub(r"\b(slow|fast)\b", "slow", text)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3}\b", "Day Mon", text)
    text = re.sub(r"[ \t]+", " ", text)
    # Which of equals is the best one is chance.
    text = re.sub(r"best source|agrees; [a-z ]+", "used", text)
    return re.sub(r"^\^[*+-]", "^*", text, flags=re.MULTILINE)


@case
def the_guide_shows_what_is_printed(lab):
    """docs/guide/transcript.md is what `ntpd -x` with three NTS servers of chronyd prints, but for the numbers."""
    tls = lab.certificates
    for number in (1, 2, 3):
        chrony_server(lab.a, f"s{number}", f"""
port {1230 + number}
ntsport {4460 + number}
ntsserverkey {tls}/a.key
ntsservercert {tls}/a.pem
""")
    servers = "".join(f"""
[[server]]
address = "time{n}.a.test"
nts = "require"
ke-port = {4460 + n}
{FAST}""" for n in (1, 2, 3))
    daemon, _ = run_ours(lab, servers + trust(lab), "guide", 60)
    good = lambda: sum(row["good"] >= 8 for row in report(lab.b, daemon, "ntpdata")["sources"]) == 3
    wait_for("some measurements of each server", good, 60)
    printed = "".join(f"$ ntpctl {word}\n{ntpctl(lab.b, daemon, word)}\n"
                      for word in ("sources", "tracking", "authdata", "sourcestats", "activity"))
    file = ROOT / "docs/guide/transcript.md"
    text = f"# What `ntpctl` prints\n\nA run of `ntpd -x` with three NTS servers of chronyd; the tests compare it to a real run.\n\n```\n{printed.rstrip()}\n```\n"
    if os.environ.get("NTPD_WRITE_TRANSCRIPT"):
        file.write_text(text)
    expect(shape(file.read_text()) == shape(text), "the guide's transcript is true", "\n".join(
        difflib.unified_diff(shape(file.read_text()).splitlines(), shape(text).splitlines(), lineterm="")))


def main():
    wanted = [function for function in CASES if all(word in function.__name__ for word in sys.argv[1:])]
    if not CHRONYD:
        sys.exit("chronyd is not here: run tests/run as root")
    passed, failed, skipped = 0, 0, 0
    for function in wanted:
        try:
            with Lab() as lab:
                reason = function(lab)
            if reason and os.environ.get("CI"):
                raise AssertionError(reason)
            if reason:
                skipped += 1
                print(f"skip {function.__name__}: {reason}", flush=True)
            else:
                passed += 1
                print(f"ok   {function.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {function.__name__}", flush=True)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
