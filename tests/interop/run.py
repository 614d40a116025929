#!/usr/bin/env python3
"""Our client with every peer as server, every peer as client of our server, over all the ways both can.

Runs as root; needs `tests/run` to have unpacked the peers, or NTPD_PEERS to say where they are.
    run.py            all cases
    run.py PATTERN    those whose name contains PATTERN
"""

import difflib
import os
import re
import sys

from cases import TooOld, case, expect, main
from lab import ROOT, have, match, sh, shape, wait_for
from peers import (CHRONYC, CHRONYD, KEY_HEX, NTPD_RS, NTPD_RS_CTL, NTPSEC, OURS, NtpdRsUser, chrony, chrony_nts_server,
                   chrony_server, chronyc, ntpctl, ntpd_rs_nts_server, ntpsec_nts_server, ntpsec_server, our_nts_server, ours, report,
                   stop, synchronized, trust)


# Servers to measure against. Host a is the server, host b the client.

def ntpd_rs_server(host, tag):
    """Follows a chronyd at another address of the other host: without a source it says itself that it is not
    synchronized, and a server that followed our own address would be a loop for us."""
    lab = host.lab
    sh("ip", "-n", lab.b.space, "addr", "add", "10.89.7.12/24", "dev", "eth0", check=False)
    chrony_server(lab.b, f"{tag}-up", "port 11123\nbindaddress 10.89.7.12")
    return ntpd_rs_nts_server(host, tag, "minimum-agreeing-sources = 1", extra="""
[source-defaults]
poll-interval-limits = { min = 4, max = 4 }
[[source]]
mode = "server"
address = "10.89.7.12:11123"
""")


def ntpd_rs_stratum(lab):
    """Stratum that a plain request at host a gets."""
    ask = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); "
           f"s.sendto(bytes([0x23]) + bytes(47), ('{lab.a.v4}', 123)); print(s.recv(100)[1])")
    text = lab.b.run("python3", "-c", ask, check=False)
    return int(text) if text.strip().isdigit() else 16


KINDS = ("AES128", "SHA256", "SHA1", "MD5")
FAST = 'min-poll = 1\nmax-poll = 2\n'


def keys(lab, tag, kind):
    """A key file for us and one for chrony with the same key."""
    ours_file = lab.write(f"keys-{tag}.toml", f'[[key]]\nid = 7\ntype = "{kind}"\nsecret = "hex:{KEY_HEX[kind]}"\n')
    theirs = lab.write(f"keys-{tag}", f"7 {kind} HEX:{KEY_HEX[kind]}\n")
    return ours_file, theirs


# NTPsec shortens longer digests to 20 octets.
NTPSEC_KINDS = {"AES128": "AES-128", "SHA1": "SHA1", "MD5": "MD5"}


def ntpsec_keys(lab):
    """A key file for us, and the lines by which NTPsec has the same keys, numbered as in NTPSEC_KINDS."""
    numbered = list(enumerate(NTPSEC_KINDS.items(), 1))
    ours_file = lab.write("keys-sec.toml", "".join(
        f'[[key]]\nid = {number}\ntype = "{kind}"\nsecret = "hex:{KEY_HEX[kind]}"\n' for number, (kind, _) in numbered))
    theirs = lab.write("keys-sec", "".join(f"{number} {name} {KEY_HEX[kind]}\n" for number, (kind, name) in numbered))
    return ours_file, f"keys {theirs}\ntrustedkey {' '.join(str(number) for number, _ in numbered)}\n"


def nts_from(name, more):
    return f'[[server]]\naddress = "{name}"\nnts = "require"\n{FAST}{more}'


# Number of an AEAD algorithm and bits of its keys; what is negotiated where the tag of a run says what is offered. No
# peer but newer versions of chronyd has 30.
AEADS = {15: 256, 17: 512, 30: 128}
NEGOTIATED = {"nts": 15, "nts-17": 17, "nts-17-15": 17, "nts-30-15": 15}


def expect_aead(lab, daemon, tag):
    if tag not in NEGOTIATED:
        return
    number = NEGOTIATED[tag]
    # ntpd-rs claims an error bound that grows past what anybody believes between two answers of its own source.
    wait_for(f"several replies ({tag})", lambda: report(lab.b, daemon, "ntpdata")["sources"][0]["good"] >= 3, 150)
    auth = report(lab.b, daemon, "authdata")["sources"][0]
    expect((auth["mode"].upper(), auth["algorithm-number"], auth["key-bits"]) == ("NTS", number, AEADS[number]), tag, auth)
    expect(auth["naks"] == 0, f"{tag}: nothing was refused", auth)


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
    for kind in KINDS:
        ours_file, theirs = keys(lab, kind, kind)
        server = chrony_server(lab.a, f"s-{kind}", f"keyfile {theirs}")
        text = f'[[server]]\naddress = "{lab.a.v4}"\nkey = 7\n{FAST}[keys]\nfile = "{ours_file}"\n'
        daemon, _ = run_ours(lab, text, f"k-{kind}")
        auth = report(lab.b, daemon, "authdata")["sources"][0]
        expect((auth["mode"], auth["algorithm"]) == ("symmetric-key", kind), "authenticated by key", auth)
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
    key_file, theirs = ntpsec_keys(lab)
    server = ntpsec_nts_server(lab.a, "s", theirs)
    for tag, text in (
        ("plain", f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{FAST}'),
        *((f"key-{kind}", f'[[server]]\naddress = "{lab.a.v4}"\nkey = {number}\n{FAST}[keys]\nfile = "{key_file}"\n')
          for number, kind in enumerate(NTPSEC_KINDS, 1)),
        ("nts", nts_from("a.test", trust(lab))),
        ("nts-17", nts_from("a.test", trust(lab, aeads=[17]))),
        ("nts-17-15", nts_from("a.test", trust(lab, aeads=[17, 15]))),
        ("nts-30-15", nts_from("a.test", trust(lab, aeads=[30, 15]))),
    ):
        daemon, _ = run_ours(lab, text, tag, 90)
        expect_aead(lab, daemon, tag)
        if tag.startswith("key-"):
            auth = report(lab.b, daemon, "authdata")["sources"][0]
            expect((auth["mode"], auth["algorithm"]) == ("symmetric-key", tag.removeprefix("key-")), "authenticated by key", auth)
        daemon.terminate()
        daemon.wait(5)
    expect(server.poll() is None, "the peer still runs", lab.log("ntpsec-s.log")[-2000:])


@case
def our_client_asks_ntpsec_less_that_wants_it(lab):
    if not NTPSEC:
        return "ntpsec is not here"
    # Two at once and then one in seven seconds; whoever asks more often is told so, once in a second.
    ntpsec_server(lab.a, "s", "limit average 0.2 burst 10 kod 1\nrestrict default limited kod")
    text = f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\niburst = false\nmin-poll = 0\nmax-poll = 6\n'
    daemon, _ = run_ours(lab, text, "rate", 120)
    wait_for("word that this is too often", lambda: "kiss code" in lab.log("ours-rate.log"), 60)
    row = lambda name: report(lab.b, daemon, name)["sources"][0]
    wait_for("an interval that is long enough", lambda: row("sources")["poll-log2-seconds"] >= 3, 120)
    before = row("ntpdata")
    wait_for("replies at that interval", lambda: row("ntpdata")["good"] >= before["good"] + 4, 150)
    after = row("ntpdata")
    expect(after["sent"] - before["sent"] <= after["good"] - before["good"] + 1, "it is hardly refused again", before, after)
    expect(synchronized(lab.b, daemon), "it is synchronized all the same")


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
        ("nts", nts_from("a.test", limit + trust(lab))),
        ("nts-17", nts_from("a.test", limit + trust(lab, aeads=[17]))),
        ("nts-17-15", nts_from("a.test", limit + trust(lab, aeads=[17, 15]))),
        ("nts-30-15", nts_from("a.test", limit + trust(lab, aeads=[30, 15]))),
    ):
        daemon, _ = run_ours(lab, text, tag, 60)
        expect_aead(lab, daemon, tag)
        daemon.terminate()
        daemon.wait(5)


# Our server: host b runs our daemon on top of a chronyd there, and peers at host a ask it.

def our_server(lab, extra=""):
    return our_nts_server(lab.b, "server", extra=extra)


def served(lab, daemon):
    return report(lab.b, daemon, "serverstats")["ntp"]


def given(lab):
    """Numbers of the AEAD algorithms that our server gave, by its log."""
    numbers = {"AesSivCmac256": 15, "AesSivCmac512": 17, "AesGcmSiv128": 30}
    return [numbers[name] for name in re.findall(r"NTS key exchange with \S+ Client\((\w+)\)", lab.log("ours-server.log"))
            if name in numbers]


def list_aeads(lab, daemon, aeads):
    """Changes the list of a server that runs."""
    text = re.sub(r"^aeads = .*\n|^\[trust\]\n", "", daemon.config.read_text(), flags=re.MULTILINE)
    daemon.config.write_text(f"{text}[trust]\naeads = {aeads}\n")
    answer = ntpctl(lab.b, daemon, "reload")
    expect("applied" in answer, "the reload is applied", answer)


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
    ours_file = lab.write("keys-all.toml", "".join(
        f'[[key]]\nid = {number}\ntype = "{kind}"\nsecret = "hex:{KEY_HEX[kind]}"\n' for number, kind in enumerate(KINDS, 1)))
    theirs = lab.write("keys-all", "".join(f"{number} {kind} HEX:{KEY_HEX[kind]}\n" for number, kind in enumerate(KINDS, 1)))
    daemon = our_server(lab, f'[keys]\nfile = "{ours_file}"\n')
    for number, kind in enumerate(KINDS, 1):
        before = served(lab, daemon)["replies-symmetric"]
        client = chrony_client(lab, f"{lab.b.v4} key {number}", f"key-{kind}", f"keyfile {theirs}")
        data = chronyc(lab.a, client, "authdata")
        expect(f",SK,{number}," in data, f"{kind}: authenticated by key", data)
        expect(served(lab, daemon)["replies-symmetric"] > before, f"{kind}: our server counts", served(lab, daemon))
        client.terminate()
        client.wait(5)
    wrong = lab.write("keys-wrong", "1 AES128 HEX:ffffffffffffffffffffffffffffffff\n")
    client = chrony(lab.a, f"server {lab.b.v4} key 1 iburst minpoll 1 maxpoll 1\nport 0\nkeyfile {wrong}", "key-wrong")
    wait_for("a key that is not ours to be dropped", lambda: served(lab, daemon)["dropped-key"] >= 3, 30)
    expect(not match(r"^\^,\*", chronyc(lab.a, client, "sources")), "nothing is believed")


@case
def chrony_from_our_server_with_nts(lab):
    daemon = our_server(lab)
    client = chrony_client(lab, "b.test nts", "nts", f"ntstrustedcerts {lab.certificates}/ca.pem")
    data = chronyc(lab.a, client, "authdata")
    expect(match(r"NTS,1,15,256|NTS,\d+,30,128", data), "NTS in use", data)
    stats = report(lab.b, daemon, "serverstats")
    expect(stats["ntp"]["replies-nts"] > 0 and stats["key-exchange"]["completed"] >= 1, "our server counts", stats)


def gcm_siv(lab):
    """Whether chronyd has AES-128-GCM-SIV, found out by letting it try with itself, and the directive that names it.

    Versions without the directive export its keys in a way of their own and say nothing of it (no record 1024)."""
    config = lab.write("probe.conf", "ntsaeads 30\n")
    directive = "" if "Invalid directive" in lab.a.run(CHRONYD, "-p", "-f", config, check=False) else "ntsaeads 30"
    server = chrony_nts_server(lab.a, "probe-s", directive)
    client = chrony(lab.b, f"server a.test nts iburst minpoll 1 maxpoll 1\nport 0\n{directive}\n"
                    f"ntstrustedcerts {lab.certificates}/ca.pem", "probe-c")
    keys_made = lambda: match(r",NTS,1,(\d+),", chronyc(lab.b, client, "authdata"))
    found = wait_for("chronyd to exchange keys with itself", keys_made, 20)
    for program in (client, server):
        program.terminate()
        program.wait(5)
    return found.group(1) == "30", directive


@case
def chrony_with_aes_gcm_siv_in_both_directions(lab):
    has, directive = gcm_siv(lab)
    if not has:
        return TooOld("this chronyd has no AES-128-GCM-SIV")
    server = chrony_nts_server(lab.a, "s", directive)
    # With record 1024 both know how keys are exported; without it, ours tries the other way after a refusal.
    refused = 0 if directive else 1
    for tag, aeads in (("30", [30]), ("30-15", [30, 15])):
        daemon, _ = run_ours(lab, nts_from("a.test", trust(lab, aeads=aeads)), tag)
        wait_for("several replies", lambda: report(lab.b, daemon, "ntpdata")["sources"][0]["good"] >= 6, 30)
        auth = report(lab.b, daemon, "authdata")["sources"][0]
        expect((auth["algorithm-number"], auth["key-bits"], auth["cookies"]) == (30, 128, 8), "AES-128-GCM-SIV", auth)
        expect(auth["naks"] == refused, "requests refused", refused, auth)
        daemon.terminate()
        daemon.wait(5)
    server.terminate()
    server.wait(5)
    # A client that does not say how it exports keys gets another algorithm as long as there is one.
    daemon = our_server(lab, trust(lab, aeads=[30] if directive else [30, 15]))
    client = chrony_client(lab, "b.test nts", "gcm", f"{directive}\nntstrustedcerts {lab.certificates}/ca.pem")
    wait_for("more NTS replies", lambda: served(lab, daemon)["replies-nts"] > 6, 30)
    data = chronyc(lab.a, client, "authdata")
    number = 30 if directive else 15
    fields = rf",NTS,1,{number},{AEADS[number]},-?\d+,\d+,0,8,"
    expect(match(fields, data), "the algorithm, nothing refused, a full jar", number, data)
    expect(served(lab, daemon)["replies-nts-nak"] == 0, "our server refused nothing", served(lab, daemon))
    expect(given(lab) == [number], "one key exchange", given(lab))


UNIQUE_ID, COOKIE, PLACEHOLDER, AUTHENTICATOR = 0x104, 0x204, 0x304, 0x404


class Capture:
    """What passes between the hosts, as tshark reads it."""

    FIELDS = ("udp.srcport", "udp.dstport", "ntp.flags.vn", "ntp.flags.mode", "ntp.org", "ntp.rec", "ntp.xmt", "ntp.keyid",
              "ntp.mac", "ntp.ext.type")

    def __init__(self, lab, tag):
        self.lab = lab
        self.file = lab.dir / f"{tag}.pcap"
        log = f"tshark-{tag}.log"
        self.sniffer = lab.b.start("tshark", "-q", "-i", "eth0", "-w", self.file, log=log, shim=False)
        wait_for("tshark to capture", lambda: "Capturing on" in lab.log(log), 20)

    def packets(self):
        self.sniffer.terminate()
        self.sniffer.wait(10)
        wrong = sh("tshark", "-r", self.file, "-Y", "ntp && (_ws.malformed || _ws.expert.severity == error)")
        lines = [line for line in wrong.splitlines() if "NTP" in line]
        expect(not lines, "tshark finds nothing wrong", lines)
        wanted = [word for field in self.FIELDS for word in ("-e", field)]
        text = sh("tshark", "-r", self.file, "-Y", "ntp", "-T", "fields", *wanted)
        rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == len(self.FIELDS) - 1]
        packets = [dict(zip(("from", "to", "version", "mode", "origin", "receive", "transmit", "key", "mac", "fields"), row))
                   for row in rows]
        for packet in packets:
            packet["fields"] = [int(kind, 0) for kind in packet["fields"].split(",") if kind]
        return packets


def expect_packets(packets, kind):
    """Every packet is of this kind, and requests and replies belong together."""
    requests = [packet for packet in packets if packet["to"] == "123"]
    replies = [packet for packet in packets if packet["from"] == "123"]
    expect(len(requests) >= 3 and len(replies) >= 3, f"{kind}: both directions were captured", packets)
    for packet in packets:
        mode = "3" if packet["to"] == "123" else "4"
        expect((packet["version"], packet["mode"]) == ("4", mode), f"{kind}: version and mode", packet)
        expect(bool(packet["key"] and packet["mac"]) == (kind == "key"), f"{kind}: a MAC or none", packet)
        if kind == "key":
            expect(int(packet["key"], 16) == 7, "the key's number", packet)
        fields = packet["fields"]
        if kind != "nts":
            expect(not fields, f"{kind}: no extension fields", packet)
        elif packet in requests:
            expect(fields[:2] == [UNIQUE_ID, COOKIE] and fields[-1] == AUTHENTICATOR, "NTS request", packet)
            expect(set(fields[2:-1]) <= {PLACEHOLDER}, "NTS request", packet)
        else:
            # New cookies are encrypted in the last field.
            expect(fields == [UNIQUE_ID, AUTHENTICATOR], "NTS reply", packet)
    asked = {packet["transmit"] for packet in requests}
    basic = [reply for reply in replies if reply["origin"] in asked]
    # RFC 9769 section 2: an interleaved request names the receive timestamp of the last reply, and its reply the request's.
    told = {reply["receive"] for reply in replies}
    other = {request["receive"] for request in requests if request["origin"] in told}
    interleaved = [reply for reply in replies if reply["origin"] in other]
    expect(len(basic) + len(interleaved) >= len(replies) - 1, f"{kind}: replies are to these requests", packets)
    expect((len(interleaved) >= 2) == (kind == "interleaved"), f"{kind}: interleaved or not", len(interleaved), packets)


KINDS_OF_PACKETS = ("plain", "interleaved", "key", "nts")


@case
def captured_packets_of_our_client_read_as_meant(lab):
    if not have("tshark"):
        return "tshark is not here"
    ours_file, theirs = keys(lab, "capture", "AES128")
    chrony_nts_server(lab.a, "s", f"keyfile {theirs}")
    for kind in KINDS_OF_PACKETS:
        basic = "interleaved = false\n" if kind != "interleaved" else "interleaved = true\n"
        text = {
            "key": f'[[server]]\naddress = "{lab.a.v4}"\nkey = 7\n{basic}{FAST}[keys]\nfile = "{ours_file}"\n',
            "nts": nts_from("a.test", basic + trust(lab)),
        }.get(kind, f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{basic}{FAST}')
        capture = Capture(lab, kind)
        daemon, _ = run_ours(lab, text, kind)
        wait_for("some replies", lambda: report(lab.b, daemon, "ntpdata")["sources"][0]["good"] >= 6, 40)
        daemon.terminate()
        daemon.wait(5)
        expect_packets(capture.packets(), kind)


@case
def captured_packets_of_our_server_read_as_meant(lab):
    if not have("tshark"):
        return "tshark is not here"
    ours_file, theirs = keys(lab, "capture", "AES128")
    daemon = our_server(lab, f'[keys]\nfile = "{ours_file}"\n')
    for kind in KINDS_OF_PACKETS:
        line, extra = {
            "plain": (lab.b.v4, ""),
            "interleaved": (f"{lab.b.v4} xleave", ""),
            "key": (f"{lab.b.v4} key 7", f"keyfile {theirs}"),
            "nts": ("b.test nts", f"ntstrustedcerts {lab.certificates}/ca.pem"),
        }[kind]
        capture = Capture(lab, kind)
        counter = {"plain": "replies-plain", "interleaved": "interleaved", "key": "replies-symmetric", "nts": "replies-nts"}[kind]
        before = served(lab, daemon)[counter]
        client = chrony_client(lab, line, f"capture-{kind}", extra)
        wait_for("some replies", lambda: served(lab, daemon)[counter] >= before + 6, 40)
        client.terminate()
        client.wait(5)
        expect_packets(capture.packets(), kind)


@case
def ntpsec_from_our_server(lab):
    if not NTPSEC:
        return "ntpsec is not here"
    key_file, theirs = ntpsec_keys(lab)
    daemon = our_server(lab, f'[keys]\nfile = "{key_file}"\n')
    nts = f"b.test nts ca {lab.certificates}/ca.pem"
    before = served(lab, daemon)
    for tag, line in (("plain", lab.b.v4), ("nts", nts), ("nts-512", f"{nts} aead AES_SIV_CMAC_512"),
                      *((f"key-{kind}", f"{lab.b.v4} key {number}") for number, kind in enumerate(NTPSEC_KINDS, 1))):
        stats = lab.dir / f"stats-{tag}"
        stats.mkdir()
        config = lab.write(f"ntpsec-{tag}.conf", f"""
{theirs}
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
        counter = {"plain": "replies-plain", "nts": "replies-nts", "key": "replies-symmetric"}[tag.split("-")[0]]
        after = served(lab, daemon)
        expect(after[counter] > before[counter], f"our server counts ({tag})", before, after)
        before = after
    expect(given(lab) == [15, 17], "the algorithm that the client prefers", given(lab))


@case
def ntpd_rs_from_our_server(lab):
    if not NTPD_RS:
        return "ntpd-rs is not here"
    daemon = our_server(lab)
    nts = 'mode = "nts"\naddress = "b.test"'
    for tag, source, aeads in (
        ("plain", f'mode = "server"\naddress = "{lab.b.v4}"', [15]),
        ("nts-15", nts, [15]),
        ("nts-17", nts, [17]),
    ):
        list_aeads(lab, daemon, aeads)
        client = NtpdRsUser(lab.a, tag, source)
        before = report(lab.b, daemon, "serverstats")["ntp"]
        counter = "replies-plain" if tag == "plain" else "replies-nts"
        grown = lambda: report(lab.b, daemon, "serverstats")["ntp"][counter] >= before[counter] + 3
        try:
            wait_for(f"ntpd-rs to be answered ({tag})", grown, 60)
            status = lambda: lab.a.run(NTPD_RS_CTL, "-c", client.config, "status", check=False)
            wait_for(f"ntpd-rs to synchronize ({tag})", lambda: match(r"Stratum:\s+5", status()), 120)
        except AssertionError:
            print(lab.log(client.log)[-3000:])
            raise
        stop(client.process)
    expect(set(given(lab)) == {15, 17} and given(lab)[-1] == 17, "the algorithms that are listed", given(lab))


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
    # A umask that would keep everybody else away from the control socket's directory.
    daemon = lab.b.start("sh", "-c", 'umask 077; exec "$@"', "sh", OURS / "ntpd", "-x", "-c", config, log="ours-user.log", shim=False)
    daemon.socket = sockets / "control.sock"
    wait_for("our client to synchronize", lambda: synchronized(lab.b, daemon), 30)
    pids = lab.b.run("pgrep", "-f", f"ntpd -x -c {config}").split()
    status = next(s for s in (open(f"/proc/{pid}/status").read() for pid in pids) if s.startswith("Name:\tntpd"))
    expect("Uid:\t64123\t64123\t64123\t64123" in status, "it runs as its user", status)
    effective = int(match(r"^CapEff:\s+(\w+)", status).group(1), 16)
    expect(effective == 1 << 10, "CAP_NET_BIND_SERVICE alone is left with -x", hex(effective))
    for left in ("CapBnd", "CapInh", "CapAmb"):
        expect(int(match(rf"^{left}:\s+(\w+)", status).group(1), 16) == 0, f"{left} is empty", status)
    expect(match(r"^NoNewPrivs:\s+1$", status), "no program can give it more", status)
    folder = os.stat(sockets)
    expect((folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (64123, 64123, 0o755), "the socket's directory", folder)
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


@case
def a_full_disk_and_one_that_is_only_read_stop_nothing(lab):
    chrony_server(lab.a, "served")
    text = f'[[server]]\naddress = "{lab.a.v4}"\nnts = "off"\n{FAST}'
    for what, spoil, told in (
        ("full", "dd if=/dev/zero of=$0/fill bs=4k 2>/dev/null || true", "No space left on device"),
        ("read", "mount -o remount,ro $0", "Read-only file system"),
    ):
        state = lab.dir / what
        state.mkdir(mode=0o700)
        config = lab.write(f"{what}.toml", f"""{text}
[state]
directory = "{state}"
[control]
socket = "{lab.dir}/{what}.sock"
""")
        script = f'set -e; mount -t tmpfs -o size=16k,mode=700 tmpfs $0; {spoil}; exec "$@"'
        words = ["unshare", "-m", "sh", "-c", script, state, OURS / "ntpd", "-x", "-c", config]
        daemon = lab.b.start(*words, log=f"{what}.log", shim=False)
        daemon.socket = lab.dir / f"{what}.sock"
        synchronized = lambda: (report(lab.b, daemon, "tracking") or {}).get("synchronized")
        wait_for("a clock that is synchronized all the same", synchronized)
        daemon.terminate()
        expect(daemon.wait(10) == 0, "it ends as always", lab.log(f"{what}.log"))
        saved = [line for line in lab.log(f"{what}.log").splitlines() if "state not saved" in line]
        expect(len(saved) == 1 and told in saved[0], "it says once that nothing is kept", lab.log(f"{what}.log"))


if __name__ == "__main__":
    if not CHRONYD:
        sys.exit("chronyd is not here: run tests/run as root")
    main()
