#!/usr/bin/env python3
"""How resolvers, and networks between them and a client, handle a pool's records: what our client and the C library see of
the same zone through each, which is the table of docs/pools/resolvers.md.

Runs as root; needs `tests/run` to have unpacked the peers, or NTPD_PEERS to say where they are.
    resolvers.py    compares with the page; with NTPD_WRITE_TABLE=1 it writes the tables there
"""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from cases import case, expect, main
from lab import OURS, ROOT, Lab, wait_for
from names import (DNS, SERVICE, ZONE, PoolDns, bind, dnsmasq_at, dnsmasq_validates, hints, middlebox, resolver, root,
                   systemd_resolved, tool, unbound)
from peers import OurUser, our_plain_server, plain, report, stop, trust

PAGE = ROOT / "docs/pools/resolvers.md"
MEMBERS = 4
# A set of records that no answer by UDP holds.
LARGE = 100
# Who is asked, each at 127.0.1.N of the users' host, and what the page calls it.
RESOLVERS = {
    "unbound": "unbound, validating",
    "unbound-bare": "unbound, not validating",
    "bind": "BIND, validating",
    "bind-bare": "BIND, not validating",
    "dnsmasq": "dnsmasq",
    "dnsmasq-ad": "dnsmasq, `proxy-dnssec`",
    "dnsmasq-dnssec": "dnsmasq, `dnssec`",
    "resolved": "systemd-resolved",
    "beyond": "dnsmasq, the network beyond it",
}
# What the network does, as tests/interop/middlebox.py knows it, and what the page calls it.
NETWORKS = {
    "open": "nothing in the way",
    "no-tcp": "no TCP",
    "no-udp": "no UDP",
    "short-udp": "UDP answers over 512 octets dropped",
    "formerr-udp": "FORMERR to EDNS by UDP",
    "bare-udp": "EDNS stripped by UDP",
    "formerr": "FORMERR to EDNS",
    "bare": "EDNS stripped",
}


class World(Lab):
    """A host for the root, one for the pool's name server, a resolver for forwarders, and one for everything else."""

    def __init__(self):
        super().__init__("root", "names", "resolver", "user")

    def build(self):
        super().build()
        members = "".join(f'[[member]]\nname = "time{n}.names.test"\n' for n in range(1, 4)) + '[[member]]\nname = "names.test"\n'
        pool = PoolDns(self.names, "pool", members, [self.resolver.v4, self.resolver.v6])
        pool.start()
        large = "".join(f"_ntske._tcp.large.test. SRV 1 1 4460 time{n}.large.test.\n" for n in range(LARGE))
        self.key = root(self.root, pool, large + f"large.test. A {self.resolver.v4}\n")
        resolver(self.resolver, self.root, self.key)
        self.anchor = self.write("root.key", self.key + "\n", 0o644)
        for host in self.hosts:
            host.write_etc("hosts", "127.0.0.1 localhost\n")
        self.boxes = {(who, network): f"127.0.{10 + row}.{1 + column}" for row, who in enumerate(RESOLVERS)
                      for column, network in enumerate(NETWORKS)}
        self.resolvers()

    def resolvers(self):
        """Starts all of them, and the networks before or behind them."""
        user, above = self.user, self.resolver.v4
        at = {who: f"127.0.1.{number}" for number, who in enumerate(RESOLVERS, 1)}
        at["resolved"] = "127.0.0.53"
        settings = [f'root-hints: "{hints(self.root)}"', "access-control: 127.0.0.0/8 allow", "incoming-num-tcp: 100"]
        unbound(user, self.key, *settings, tag="unbound", address=at["unbound"])
        unbound(user, self.key, *settings, 'module-config: "iterator"', tag="unbound-bare", address=at["unbound-bare"])
        bind(user, "bind", at["bind"], self.root, self.key, "dnssec-validation yes;")
        bind(user, "bind-bare", at["bind-bare"], self.root, self.key, "dnssec-validation no;")
        dnsmasq_at(user, at["dnsmasq"], above)
        dnsmasq_at(user, at["dnsmasq-ad"], above, "--proxy-dnssec")
        dnsmasq_at(user, at["dnsmasq-dnssec"], above, *dnsmasq_validates(user, self.anchor))
        systemd_resolved(user, above)
        boxes = []
        for (who, network), address in self.boxes.items():
            if who == "beyond":
                # The network's upstream is the resolver, and the forwarder's is the network.
                between = address.replace("127.0", "127.1")
                boxes.append((between, above, network))
                dnsmasq_at(user, address, between)
            else:
                boxes.append((address, at[who], network))
        middlebox(user, *boxes)
        for who in RESOLVERS:
            address = self.boxes[who, "open"]
            ask = lambda: tool(user, "dig", f"@{address}", "+tries=1", "+timeout=2", SERVICE, "SRV", check=False)
            wait_for(f"answers of {who}", lambda: "status: NOERROR" in ask(), 30)

    def behind(self, address, *words):
        """Runs a program to whom a resolver is all that it knows of the network."""
        file = self.write(f"resolv-{address}", f"nameserver {address}\noptions timeout:2 attempts:1\n", 0o644)
        script = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
        return self.user.command("unshare", "-m", "sh", "-c", script, "sh", *words)

    def look_up(self, address, name=ZONE, **trusted):
        """What `ntpctl lookup` finds, and whether it says that it can be used."""
        config = self.write(f"lookup-{address}-{len(trusted)}.toml", f'pool = "{name}"\n{trust(self, **trusted)}', 0o644)
        text, code = tool_output(self.behind(address, OURS / "ntpctl", "--json", "lookup", name, "-c", config))
        return json.loads(text), code == 0

    def validated(self, address, name=ZONE):
        return self.look_up(address, name, dnssec_anchor=str(self.anchor))

    def believed(self, address, name=ZONE):
        return self.look_up(address, name, dnssec="trust-resolver")

    def addresses(self, address):
        """What the C library finds, as one word."""
        text, _ = tool_output(self.behind(address, "getent", "ahosts", ZONE))
        found = {line.split()[0] for line in text.splitlines()}
        return {frozenset(): "none", frozenset([self.resolver.v4, self.resolver.v6]): "both"}.get(frozenset(found), str(found))


def tool_output(command):
    """What a program says, and how it ends."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, done.returncode


def state(found):
    """What our client makes of the pool's service records."""
    records = found["nts-services"]
    return f"{records['state']}, {records['count']}" if records["count"] else records["state"]


def table(corner, columns, rows):
    lines = [[corner, *columns], ["---"] * (len(columns) + 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def matrix(cells):
    """A table of resolvers and networks."""
    rows = [[shown, *(cells[who, network] for network in NETWORKS)] for who, shown in RESOLVERS.items()]
    return table("resolver", NETWORKS.values(), rows)


def everywhere(lab, ask):
    """Asks in all networks of all resolvers, each of which has one user at a time: a forwarder takes few connections."""
    def row(who):
        return {(who, network): ask(lab.boxes[who, network]) for network in NETWORKS}

    with ThreadPoolExecutor(len(RESOLVERS)) as threads:
        return {place: cell for cells in threads.map(row, RESOLVERS) for place, cell in cells.items()}


def honest(place, found, usable):
    """No network may make our client take a pool with NTS for one without."""
    expect(state(found) != "none", f"{place}: records that exist are not absent", found)
    expect(not usable or found["offer"] != "plain", f"{place}: plain NTP is not what this name offers", found)


def compare(tables):
    """The page has these tables, each after the heading of its name."""
    text = PAGE.read_text()
    for name, shown in tables.items():
        begin, marker, rest = text.partition(f"<!-- {name} -->\n")
        old, end, after = rest.partition("<!-- end -->\n")
        expect(marker and end, f"{PAGE} has a place for {name}")
        if os.environ.get("NTPD_WRITE_TABLE"):
            text = begin + marker + shown + end + after
        else:
            expect(old == shown, f"{PAGE}: {name}", "\n" + shown)
    PAGE.write_text(text)


@case
def resolvers_and_networks_show_what_the_page_says(lab):
    # First, before forwarders keep what our client asks for by TCP.
    addresses = everywhere(lab, lab.addresses)
    validated, believed = everywhere(lab, lab.validated), everywhere(lab, lab.believed)
    for place in lab.boxes:
        for found, usable in (validated[place], believed[place]):
            honest(place, found, usable)
    kinds = {}
    for who in RESOLVERS:
        address = lab.boxes[who, "open"]
        found = [state(lab.validated(address, name)[0]) for name in ("large.test", "resolver.test", "nobody.test")]
        tlsa = {target["tlsa"]["state"] for target in validated[who, "open"][0]["targets"]}
        kinds[who] = [*found, ", ".join(sorted(tlsa))]
    columns = [f"{LARGE} records", "a name without records", "a name that does not exist", "TLSA of the targets"]
    compare({
        "validated": matrix({place: state(found) for place, (found, _) in validated.items()}),
        "believed": matrix({place: state(found) for place, (found, _) in believed.items()}),
        "addresses": matrix(addresses),
        "kinds": table("resolver", columns, [[shown, *kinds[who]] for who, shown in RESOLVERS.items()]),
    })


@case
def a_network_that_keeps_signatures_back_brings_no_plain_time(lab):
    """The addresses of the name serve plain NTP, and our daemon has nothing but its shortest configuration: as long as it
    cannot know that there is no NTS, it takes none of it."""
    our_plain_server(lab.resolver, "plain")
    pools = {network: ZONE for network in ("bare", "formerr", "no-udp")}
    # So that there is something to be had: a name without service records, which is proven.
    pools["open"] = "resolver.test"
    for network, name in pools.items():
        lab.user.write_etc("resolv.conf", f"nameserver {lab.boxes['unbound', network]}\n")
        ours = OurUser(lab.user, network, f'pool = "{name}"', dnssec_anchor=str(lab.anchor))
        if network == "open":
            plain(ours, [lab.resolver])
        else:
            pool = lambda: (report(lab.user, ours.process, "pools") or {"pools": [{}]})["pools"][0]
            wait_for("word of it", lambda: pool().get("note"), 40)
            expect(pool()["members"] == [] and not ours.plain(), "no source", pool(), ours.state())
        stop(ours.process)


if __name__ == "__main__":
    main(World, dns=DNS.exists())
