#!/usr/bin/env python3
"""Our DNS server with validators, and other DNS servers with what it exports and publishes.

Runs as root; needs `tests/run` to have unpacked the peers, or NTPD_PEERS to say where they are.
    dns.py            all cases
    dns.py PATTERN    those whose name contains PATTERN
"""

import re
import signal
import threading
import time

from cases import case, expect, main
from lab import OURS, match, sh, wait_for
from names import SERVICE, ZONE, PoolDns, bare_zone, bind_primary, knot_primary, tool, tsig, unbound

HASH = "ab" * 32

MEMBERS = f"""
[[region]]
name = "lab"
prefixes = ["10.89.7.0/24"]

[[member]]
name = "ke1.{ZONE}"
addresses = ["192.0.2.1", "2001:db8::1"]
tlsa = ["3 1 1 {HASH}"]
[[member]]
name = "zoo.example"
port = 4446
weight = 30
[[member]]
name = "spare.example"
priority = 5
"""


class Server(PoolDns):
    """Our server at host a, asked from host b."""

    def __init__(self, lab, tag, members=MEMBERS, more="", zone_more="", run=True):
        observe = f'[observe]\nlisten = "{lab.a.v4}:9976"\n'
        super().__init__(lab.a, tag, members, ["192.0.2.80", "2001:db8::80"], more + "\n" + observe, zone_more)
        self.lab = lab
        if run:
            self.start()

    def dig(self, *words, check=True):
        return tool(self.lab.b, "dig", f"@{self.lab.a.v4}", "+tries=1", "+timeout=2", *words, check=check)

    def anchor(self):
        """The zone's key as what validators trust."""
        key = match(r"DNSKEY\t257 3 13 (\S+)", self.ours("ds")).group(1)
        return self.lab.write("anchor", f'trust-anchors {{ "{ZONE}." static-key 257 3 13 "{key}"; }};\n', 0o644)

    def delv(self, *words):
        return tool(self.lab.b, "delv", f"@{self.lab.a.v4}", "-a", self.anchor(), f"+root={ZONE}", *words, check=False)


def size(text):
    return int(match(r"MSG SIZE\s+rcvd: (\d+)", text).group(1))


@case
def delv_accepts_answers_and_proofs(lab):
    server = Server(lab, "delv")
    for name, kind, wanted in [
        (SERVICE, "SRV", "0 30 4446 zoo.example."),
        (ZONE, "A", "192.0.2.80"),
        (ZONE, "AAAA", "2001:db8::80"),
        (ZONE, "NS", f"ns1.{ZONE}."),
        (ZONE, "DNSKEY", "257 3 13"),
        (ZONE, "CDS", " 13 2 "),
        (f"ns1.{ZONE}", "A", lab.a.v4),
        (f"ke1.{ZONE}", "AAAA", "2001:db8::1"),
        (f"_4460._tcp.ke1.{ZONE}", "TLSA", "3 1 1 AB"),
    ]:
        text = server.delv(name, kind)
        expect("; fully validated" in text and wanted in text, f"delv validates {name} {kind}", text)
    for name, kind, outcome in [
        (ZONE, "TXT", "nxrrset"),
        (SERVICE, "A", "nxrrset"),
        (f"_tcp.{ZONE}", "DS", "nxrrset"),
        (f"_tcp.{ZONE}", "A", "nxrrset"),
        (f"ke1.{ZONE}", "TLSA", "nxrrset"),
        (f"_4460._tcp.ns1.{ZONE}", "TLSA", "nxdomain"),
        (f"nobody.{ZONE}", "A", "nxdomain"),
        (f"a.b.c.d.e.{ZONE}", "A", "nxdomain"),
        (f"zzz.{ZONE}", "AAAA", "nxdomain"),
        (f"*.{ZONE}", "A", "nxdomain"),
        (f"x.{SERVICE}", "SRV", "nxdomain"),
    ]:
        text = server.delv(name, kind)
        expect("; negative response, fully validated" in text and f"ncache {outcome}" in text, f"{name} {kind}", text)
    # A validator that trusts another key must not be content.
    other = Server(lab, "delv-other", run=False)
    expect("validated" not in other.delv(SERVICE, "SRV"), "another key is no proof")


@case
def dig_sees_times_sizes_and_limits(lab):
    server = Server(lab, "dig", more="[limit]\nresponses-per-second = 40\nslip = 1")
    text = server.dig(SERVICE, "SRV", "+dnssec")
    ttl, = re.findall(rf"^{SERVICE}\.\t+(\d+)\tIN\tRRSIG", text, re.MULTILINE)
    expect(int(ttl) == 300 and size(text) <= 1232, "signed answer", text)
    signed = match(r"RRSIG\tSRV 13 4 300 (\d{8})\d+ (\d{8})\d+ ", text)
    day = lambda text: time.mktime(time.strptime(text, "%Y%m%d")) / 86400
    today = time.time() / 86400
    expect(day(signed.group(2)) < today - 1 and day(signed.group(1)) > today + 10, "window of signatures", text)
    expect(size(server.dig(SERVICE, "SRV", "+noedns")) <= 512, "without EDNS")
    expect("REFUSED" in server.dig("example.org", "A"), "not ours")
    expect("Transfer failed" in server.dig(ZONE, "AXFR", check=False), "no transfers")
    expect("status: BADVERS" in server.dig(ZONE, "SOA", "+edns=1", "+noednsnegotiation"), "EDNS 1")
    expect("status: NOTIMP" in server.dig(ZONE, "SOA", "+opcode=4"), "NOTIFY")
    text = server.dig(SERVICE, "SRV", "+subnet=10.89.7.0/24")
    expect("CLIENT-SUBNET: 10.89.7.0/24/24" in text, "client subnet", text)
    expect("CLIENT-SUBNET: 0.0.0.0/0/0" in server.dig(SERVICE, "SRV", "+subnet=0"), "no subnet")
    expect("(good)" in server.dig(SERVICE, "SRV", "+cookie"), "cookies")
    expect(size(server.dig(ZONE, "ANY", "+notcp", "+dnssec")) <= 1232, "ANY is short")
    # dig goes over to TCP when it is told that answers were cut.
    batch = lab.write("batch", f"@{lab.a.v4} {SERVICE} SRV +nocookie +tries=1\n" * 300, 0o644)
    text = tool(lab.b, "dig", "-f", batch)
    expect(text.count("(TCP)") > 10 and text.count("status: NOERROR") == 300, "beyond the limit, clients come by TCP",
           text.count("(TCP)"), text[-2000:])
    metrics = lab.b.run("python3", "-c", "import urllib.request as u; "
                        f"print(u.urlopen('http://{lab.a.v4}:9976/metrics').read().decode())")
    expect(re.search(r'limited_total\{outcome="short"\} [1-9]', metrics), "counted", metrics)
    expect(f'nts_pool_srv_members{{zone="{ZONE}"}} 3' in metrics, "members", metrics)


@case
def an_answer_leaves_from_the_address_that_was_asked(lab):
    sh("ip", "-n", lab.a.space, "addr", "add", "10.89.7.31/24", "dev", "eth0", check=False)
    server = Server(lab, "any-address", run=False)
    server.config.write_text(server.config.read_text().replace(f'"{lab.a.v4}:53", "[{lab.a.v6}]:53"', '"0.0.0.0:53", "[::]:53"'))
    server.process = lab.a.start(OURS / "nts-pool-srv", "-c", server.config, log="srv-any.log", shim=False)
    wait_for("our server to answer", lambda: " aa" in server.dig(ZONE, "SOA", check=False), 20)
    for address in [lab.a.v4, "10.89.7.31", lab.a.v6]:
        text = tool(lab.b, "dig", f"@{address}", "+tries=1", "+timeout=2", SERVICE, "SRV", check=False)
        expect("status: NOERROR" in text and f"SERVER: {address}#53" in text, address, text)


@case
def unbound_validates(lab):
    server = Server(lab, "unbound")
    unbound(lab.b, server.ds(), "port: 5353", 'module-config: "validator iterator"', "qname-minimisation: yes",
            "harden-below-nxdomain: yes", "aggressive-nsec: yes",
            more=f'stub-zone:\n  name: "{ZONE}"\n  stub-addr: {lab.a.v4}\n')
    ask = lambda *words: tool(lab.b, "dig", f"@{lab.b.v4}", "-p", "5353", "+dnssec", "+tries=1", *words, check=False)
    wait_for("unbound", lambda: "NOERROR" in ask(ZONE, "SOA"), 20)
    for name, kind, status in [
        (SERVICE, "SRV", "NOERROR"),
        (ZONE, "A", "NOERROR"),
        (f"_4460._tcp.ke1.{ZONE}", "TLSA", "NOERROR"),
        (f"_4460._tcp.ns1.{ZONE}", "TLSA", "NXDOMAIN"),
        (f"_tcp.{ZONE}", "DS", "NOERROR"),
        (SERVICE, "A", "NOERROR"),
        (f"nobody.{ZONE}", "A", "NXDOMAIN"),
        (f"nobody2.{ZONE}", "TXT", "NXDOMAIN"),
    ]:
        text = ask(name, kind)
        flags = match(r"flags: ([a-z ]+);", text)
        expect(f"status: {status}" in text and flags and " ad" in flags.group(1), f"{name} {kind}", text)


@case
def thousands_of_members_fit(lab):
    member = '[[member]]\nname = "ntp{0}.members.{1}"\naddresses = ["192.0.2.7"]\ntlsa = ["3 1 1 {2}"]\nweight = {3}\n'
    server = Server(lab, "many", "".join(member.format(n, ZONE, HASH, n % 9 + 1) for n in range(5000)),
                    zone_more="targets = 8")
    for number in [0, 77, 4999]:
        text = server.delv(f"_4460._tcp.ntp{number}.members.{ZONE}", "TLSA")
        expect("; fully validated" in text, number, text)
    seen = set()
    for net in range(20):
        text = server.dig(SERVICE, "SRV", "+dnssec", "+ignore", f"+subnet=198.51.{net}.0/24")
        targets = re.findall(r"SRV\t\d+ \d+ 4460 (\S+)", text)
        expect(len(targets) == 8 and size(text) <= 1232 and not re.search(r";; flags:[^;]* tc", text), "a bounded draw", text)
        seen.update(targets)
    expect(len(seen) > 40, "draws change from client to client", len(seen))


@case
def a_zone_goes_whole_to_who_has_its_key(lab):
    """dig verifies each message, and that the zone ends as it began."""
    key, other = tsig(lab.b, "lists", "lists"), tsig(lab.b, "other", "lists")
    member = '[[member]]\nname = "ntp{0}.example"\n'
    server = Server(lab, "transfer", MEMBERS + "".join(map(member.format, range(3000))), zone_more=f'transfer-keys = ["{key}"]')
    text = server.dig(ZONE, "AXFR", "-k", key)
    listed = re.findall(rf"^(\S+)\._members\.{ZONE}\.\s+300\s+IN\s+SRV\s+(.*)$", text, re.MULTILINE)
    expect(len(listed) == 3003 and (f"ke1.{ZONE}", f"0 10 4460 ke1.{ZONE}.") in listed, "all members", len(listed), listed[:9])
    messages = int(match(r"messages (\d+)", text).group(1))
    expect(messages > 3 and "TSIG" in text and "Couldn't verify" not in text, "in several messages, all signed", text[-900:])
    expect(f"_4460._tcp.ke1.{ZONE}." in text and SERVICE + ".\t" not in text, "what belongs to members, and no draw")
    expect("status: NOERROR" in server.dig(ZONE, "SOA", "+tcp", "-k", key), "the serial number alone")
    mark = server.dig(f"_members.{ZONE}", "TXT", "+tcp", "-k", key)
    expect(re.search(r'TXT\s+"generation=\d{10} members=3003 sha256=[0-9a-f]{64}"', mark), "the mark alone", mark)
    for words, wanted in [((), "Transfer failed"), (("-k", other), "BADSIG")]:
        text = server.dig(ZONE, "AXFR", *words, check=False)
        expect(wanted in text and "_members" not in text, wanted, text)


@case
def exports_load_elsewhere(lab):
    server = Server(lab, "export", run=False)
    zone = lab.write("export.zone", server.ours("export"), 0o644)
    expect("OK" in tool(lab.b, "named-checkzone", ZONE, zone), "BIND")
    tool(lab.b, "kzonecheck", "-o", ZONE, zone)
    expect("zone time.test is ok" in tool(lab.b, "nsd-checkzone", ZONE, zone), "NSD")


def publishes(lab, tag, key, refused):
    """Publishes into what runs at host b, and looks at what it then says."""
    more = f'[zone.publish]\nserver = "{lab.b.v4}:5300"\ntsig-key = "{key}"\nstate = "{tag}.published"'
    server = Server(lab, tag, zone_more=more, run=False)
    ask = lambda name, kind: tool(lab.a, "dig", f"@{lab.b.v4}", "-p", "5300", "+short", "+tries=1", "+timeout=2", name,
                                  kind, check=False)
    wait_for("the other server", lambda: "old.example" in ask(SERVICE, "SRV"), 20)
    text = server.ours("publish")
    expect("3 service records are published" in text, "told", text)
    found = sorted(ask(SERVICE, "SRV").split("\n")[:-1])
    expect(found == [f"0 10 4460 ke1.{ZONE}.", "0 30 4446 zoo.example.", "5 10 4460 spare.example."], "replaced", found)
    expect(ask(f"_4460._tcp.ke1.{ZONE}", "TLSA").startswith("3 1 1 AB"), "TLSA")
    expect(ask(f"ke1.{ZONE}", "AAAA") == "2001:db8::1\n", "addresses")
    # Going on: a member that leaves takes its records along.
    process = lab.a.start(OURS / "nts-pool-srv", "-c", server.config, "publish", "--every", "10s", log=f"{tag}-every.log",
                          shim=False)
    wait_for("the first time", lambda: "are published" in lab.log(f"{tag}-every.log"), 20)
    server.members.write_text('[[member]]\nname = "zoo.example"\n')
    wait_for("the second time", lambda: ask(SERVICE, "SRV") == "0 10 4460 zoo.example.\n", 30)
    expect(ask(f"_4460._tcp.ke1.{ZONE}", "TLSA") == "" and ask(f"ke1.{ZONE}", "A") == "", "taken away")
    process.terminate()
    # So it does if it leaves between two runs, and what others put into the zone stays.
    server.members.write_text(MEMBERS)
    server.ours("publish")
    expect(ask(f"ke1.{ZONE}", "A") == "192.0.2.1\n" and "ke1" in ask(SERVICE, "SRV"), "it is back")
    server.members.write_text('[[member]]\nname = "spare.example"\n')
    server.ours("publish")
    expect(ask(SERVICE, "SRV") == "0 10 4460 spare.example.\n", "one is left", ask(SERVICE, "SRV"))
    for name, kind in [(f"_4460._tcp.ke1.{ZONE}", "TLSA"), (f"ke1.{ZONE}", "A"), (f"ke1.{ZONE}", "AAAA")]:
        expect(ask(name, kind) == "", f"{name} {kind} is taken away", ask(name, kind))
    expect(ask(f"ns1.{ZONE}", "A") == f"{lab.b.v4}\n", "not the pool's")
    # Refusals say why.
    for other, name, wanted in [("secret", "update-key", "BADSIG"), ("name", "nobody", "BADKEY"), ("right", "reader", refused)]:
        wrong = tsig(lab.b, f"{tag}-{other}", name) if other != "right" else lab.dir / "tsig-reader"
        server.config.write_text(re.sub(r'tsig-key = ".*"', f'tsig-key = "{wrong}"', server.config.read_text()))
        text = server.ours("publish", check=False)
        expect(wanted in text and "the server refuses" in text, wanted, text)


@case
def bind_takes_updates(lab):
    key, reader = tsig(lab.b, "bind", "update-key"), tsig(lab.b, "reader", "reader")
    bind_primary(lab.b, bare_zone(lab.b, "bind"), key, reader)
    publishes(lab, "bind", key, "REFUSED")


@case
def knot_takes_updates(lab):
    key, reader = tsig(lab.b, "knot", "update-key"), tsig(lab.b, "reader", "reader")
    knot_primary(lab.b, bare_zone(lab.b, "knot"), key, reader)
    publishes(lab, "knot", key, "must not update time.test")


@case
def a_reload_loses_nothing_and_mistakes_change_nothing(lab):
    server = Server(lab, "reload", more="[limit]\nresponses-per-second = 0")
    script = lab.write("ask.py", f"""
import socket, struct, sys, time
name = b"".join(bytes([len(l)]) + l for l in b"{SERVICE}".split(b".")) + b"\\0"
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(1)
end, asked, lost = time.monotonic() + 8, 0, 0
while time.monotonic() < end:
    asked += 1
    sock.sendto(struct.pack(">HHHHHH", asked & 0xffff, 0, 1, 0, 0, 1) + name + struct.pack(">HH", 33, 1)
                + b"\\0\\0\\x29\\x04\\xd0\\0\\0\\x80\\0\\0\\0", ("{lab.a.v4}", 53))
    try:
        answer = sock.recv(2000)
        lost += answer[:2] != struct.pack(">H", asked & 0xffff) or answer[3] & 15 != 0 or answer[6:8] == b"\\0\\0"
    except TimeoutError:
        lost += 1
print(asked, lost)
""")
    result = []
    asking = threading.Thread(target=lambda: result.append(lab.b.run("python3", script)))
    asking.start()
    for turn in range(6):
        time.sleep(1)
        extra = "".join(f'[[member]]\nname = "more{n}.example"\n' for n in range(turn * 100))
        server.members.write_text(MEMBERS + extra if turn % 3 else MEMBERS + "[[member]]\nname = 7\n")
        if turn % 2:
            server.process.send_signal(signal.SIGHUP)
    asking.join()
    asked, lost = map(int, result[0].split())
    expect(asked > 1000 and lost == 0, "queries while files change", asked, lost)
    text = lab.log(server.log)
    expect(re.search(r"members.toml:\d+:8: invalid type: integer `7`, expected a string.*stays in force", text), "told", text)
    expect(server.process.poll() is None, "still there")


@case
def mistakes_end_with_1_and_wrong_use_with_2(lab):
    server = Server(lab, "mistakes", run=False)

    def code(*words):
        return lab.a.run("sh", "-c", f"{OURS}/nts-pool-srv {' '.join(map(str, words))}; echo code $?", check=False)

    for text, wanted in [
        ('[[member]]\nname = "a..b"\n', "members.toml:2:8: name: not a host name"),
        (MEMBERS + f'[[member]]\nname = "ke1.{ZONE}"\n', "is there already, in line 7"),
        ('[[member]]\nname = "a.example"\nregions = ["x"]\n', 'members.toml:3:12: unknown region "x"'),
        ("", "no members; accepted: one [[member]] table at least"),
    ]:
        server.members.write_text(text)
        for command in ["check", "export", ""]:
            told = code("-c", server.config, command)
            expect("code 1" in told and wanted in told, command, told)
    server.members.write_text(MEMBERS)
    (server.dir / "zone.key").write_text("rubbish")
    told = code("-c", server.config)
    expect("code 1" in told and "zone.key: unusable key" in told, "no key, no server", told)
    expect("code 2" in code("nonsense") and "code 2" in code("publish", "--every", "soon"), "usage")
    expect("code 0" in code("--version") and "code 0" in code("--help"), "help")


if __name__ == "__main__":
    main()
