#!/usr/bin/env python3
"""One name, published by our DNS server below a signed root, that leads to members of every make by service records and to
our balancer by its addresses. No host has anything but the root's key and a resolver.

Runs as root; needs `tests/run` to have unpacked the peers, or NTPD_PEERS to say where they are.
    onename.py            all cases
    onename.py PATTERN    those whose name contains PATTERN
"""

import json

from cases import case, expect, main
from lab import OURS, Lab
from names import ZONE, PoolDns, dnsmasq, dnsmasq_validates, middlebox, resolver, root, systemd_resolved
from peers import (CHRONYD, NTPD_RS, NTPSEC, ChronyUser, NtpdRsUser, NtpsecUser, OurUser, authentic, our_plain_server, plain,
                   report, stop, trust)
from scene import Balancer, directory, start_members

MAKES = ("chrony", "ntpsec", "rs", "ours")
# Members that know Fixed Key Requests. The others have no token, so that they are reached by service records alone.
BEHIND_BALANCER = ("rs", "ours")


class World(Lab):
    """A host for each server of DNS, for the balancer, for each member, and one for all users."""

    def __init__(self):
        super().__init__("root", "names", "resolver", "balancer", *MAKES, "user")
        self.makes = [getattr(self, make) for make in MAKES]
        self.behind_balancer = [getattr(self, make) for make in BEHIND_BALANCER]

    def build(self):
        super().build()
        pool = PoolDns(self.names, "pool", directory(self, *MAKES), [self.balancer.v4, self.balancer.v6])
        pool.start()
        # A name with service records for plain NTP that lead elsewhere than its addresses.
        key = root(self.root, pool, f"_ntp._udp.plain.test. SRV 0 0 123 chrony.test.\nplain.test. A {self.balancer.v4}\n")
        resolver(self.resolver, self.root, key)
        self.anchor = self.write("root.key", key + "\n", 0o644)
        self.use_resolver(self.resolver.v4)

    def use_resolver(self, address):
        """Nothing but DNS leads to a host from now on."""
        for host in self.hosts:
            host.write_etc("hosts", "127.0.0.1 localhost\n")
            host.write_etc("resolv.conf", f"nameserver {address}\n")

    def look_up(self, name=ZONE, form="--json", **trusted):
        """What `ntpctl lookup` says at the host of the users."""
        config = self.write("lookup.toml", f'pool = "{name}"\n' + self.trust(**trusted))
        # One of them is an option of `ntpctl`, the other of `lookup`.
        words = [form, "lookup", name] if form == "--json" else ["lookup", name, form]
        return self.user.run(OURS / "ntpctl", *words, "-c", config, check=False)

    def trust(self, **trusted):
        anchor = {} if trusted.get("dnssec") == "trust-resolver" else {"dnssec_anchor": str(self.anchor)}
        return trust(self, **{**anchor, **trusted})

    def other_anchor(self):
        """A key that signs nothing here."""
        return self.write("other.key", ". 3600 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+"
                          "KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==\n", 0o644)


@case
def one_name_serves_those_who_know_service_records_and_those_who_do_not(lab):
    """At once, with one name: our daemon by service records, with its shortest configuration but for the authority and the
    root of the lab; chronyd, NTPsec and ntpd-rs by the balancer, which none of them knows to be one."""
    start_members(lab, *MAKES)
    balancer = Balancer(lab.balancer, ZONE, directory(lab, *MAKES))
    ours = OurUser(lab.user, "srv", f'pool = "{ZONE}"', dnssec_anchor=str(lab.anchor))
    authentic(ours, lab.makes, len(lab.makes))
    expect(balancer.served() == 0, "our daemon did not need the balancer", balancer.list())
    others = [
        ChronyUser(lab.user, "server", f"server {ZONE} nts iburst minpoll 1 maxpoll 1"),
        ChronyUser(lab.user, "pool", f"pool {ZONE} nts iburst minpoll 1 maxpoll 1"),
        NtpsecUser(lab.user, "user", f"server {ZONE} nts iburst minpoll 3 maxpoll 3"),
        NtpdRsUser(lab.user, "server", f'mode = "nts"\naddress = "{ZONE}"'),
        NtpdRsUser(lab.user, "pool", f'mode = "nts-pool"\naddress = "{ZONE}"\ncount = 2'),
    ]
    for user in others:
        authentic(user, lab.behind_balancer)
    expect(balancer.served() >= len(others), "the balancer served all others", balancer.list())
    for user in others:
        authentic(user, lab.behind_balancer)
    authentic(ours, lab.makes, len(lab.makes))
    pool, = report(lab.user, ours.process, "pools")["pools"]
    expect((pool["mode"], pool["settled"], pool["nts-remembered"]) == ("auto", "srv", True), "by service records", pool)


@case
def servers_of_every_make_are_members_by_service_records_as_they_are(lab):
    """chronyd, NTPsec, ntpd-rs and our daemon serve under their own names and certificates, without any setting for pools.
    Our daemon uses them in mode `srv`, and chronyd by the configuration that `ntpctl lookup --chrony` prints for it."""
    start_members(lab, *MAKES)
    ours = OurUser(lab.user, "srv", f'[[pool]]\nname = "{ZONE}"\nmode = "srv"\ncount = 4\n', dnssec_anchor=str(lab.anchor))
    lines = lab.look_up(form="--chrony")
    servers = sorted(line.split()[1] for line in lines.splitlines() if line.startswith("server "))
    expect(servers == sorted(f"{make}.test" for make in MAKES), "a line for each member", lines)
    chrony = ChronyUser(lab.user, "list", lines)
    authentic(chrony, lab.makes, len(MAKES))
    authentic(ours, lab.makes, len(MAKES))


def believed(lab, **trusted):
    """What of the pool's service records is believed: what is said of DNSSEC, and how many there are."""
    services = json.loads(lab.look_up(**trusted))["nts-services"]
    return services["state"], services["count"]


def answers_pass(lab):
    """Signed answers and proofs come through to our own programs, which believe the root's key alone."""
    found = json.loads(lab.look_up())
    expect(believed(lab) == ("secure", len(MAKES)), "signed service records", found)
    expect({target["tlsa"]["state"] for target in found["targets"]} == {"absent"}, "proofs of absence", found["targets"])
    # A name in the signed root, that has an address and nothing else.
    alone = json.loads(lab.look_up("chrony.test"))
    expect((alone["nts-services"]["state"], alone["offer"]) == ("none", "nts-server"), "no service records, proven", alone)
    expect(believed(lab, dnssec_anchor=str(lab.other_anchor())) == ("bogus", 0), "another root's key proves nothing")
    ours = OurUser(lab.user, "forwarded", f'pool = "{ZONE}"', dnssec_anchor=str(lab.anchor))
    authentic(ours, [lab.chrony])
    stop(ours.process)


@case
def plain_clients_of_the_name_find_what_they_found_before(lab):
    """The host that the name's addresses lead to serves NTP beside the balancer. Plain clients of the name have time from
    there, and ask DNS what they ask of a name without service records, while our daemon has its members by such records."""
    start_members(lab, "chrony")
    our_plain_server(lab.balancer, "beside")
    Balancer(lab.balancer, ZONE, directory(lab, "chrony"))
    bare = lab.balancer.names[0]
    log = middlebox(lab.user, ("127.0.0.53", lab.resolver.v4, "open"))
    lab.user.write_etc("resolv.conf", "nameserver 127.0.0.53\n")
    users = [NtpsecUser(lab.user, "plain", f"server {ZONE} iburst minpoll 3 maxpoll 3")]
    for name in (ZONE, bare):
        users += [
            ChronyUser(lab.user, f"server-{name}", f"server {name} iburst minpoll 1 maxpoll 1"),
            ChronyUser(lab.user, f"pool-{name}", f"pool {name} iburst minpoll 1 maxpoll 1"),
            NtpdRsUser(lab.user, f"server-{name}", f'mode = "server"\naddress = "{name}"'),
        ]
    for user in users:
        plain(user, [lab.balancer])
    asked = {}
    for line in log.read_text().splitlines():
        _, _, name, kind = line.split()
        asked.setdefault(name, set()).add(int(kind))
    expect(set(asked) == {ZONE, bare} and asked[ZONE] == asked[bare], "no other questions", asked)
    stop(*(user.process for user in users))
    ours = OurUser(lab.user, "srv", f'pool = "{ZONE}"', dnssec_anchor=str(lab.anchor))
    authentic(ours, [lab.chrony])
    # With service records for plain NTP those who know them go where they lead, and all others where they went before.
    name = "plain.test"
    ours = OurUser(lab.user, "plain", f'[[pool]]\nname = "{name}"\nmode = "classic"\ncount = 1\n', dnssec_anchor=str(lab.anchor))
    chrony = ChronyUser(lab.user, "plain", f"server {name} iburst minpoll 1 maxpoll 1")
    plain(chrony, [lab.balancer])
    plain(ours, [lab.chrony])


@case
def dnsmasq_passes_what_our_client_asks(lab):
    """As a forwarder, as one that passes the AD bit on, and as one that validates by itself."""
    start_members(lab, "chrony")
    elsewhere = {"dnssec": "trust-resolver"}
    forwarder = dnsmasq(lab.user, lab.resolver.v4)
    answers_pass(lab)
    expect(believed(lab, **elsewhere) == ("insecure", 0), "it says nothing of DNSSEC, and nothing is believed")
    stop(forwarder)
    forwarder = dnsmasq(lab.user, lab.resolver.v4, "--proxy-dnssec")
    expect(believed(lab, **elsewhere) == ("secure", len(MAKES)), "the resolver's word comes through")
    stop(forwarder)
    forwarder = dnsmasq(lab.user, lab.resolver.v4, *dnsmasq_validates(lab.user, lab.anchor))
    expect(believed(lab, **elsewhere) == ("secure", len(MAKES)), "its own word is believed")
    expect(believed(lab) == ("secure", len(MAKES)), "and needs not be")
    stop(forwarder)


@case
def systemd_resolved_passes_what_our_client_asks(lab):
    """Without a message bus, so that it knows nothing of interfaces: by its settings alone."""
    start_members(lab, "chrony")
    systemd_resolved(lab.user, lab.resolver.v4)
    answers_pass(lab)


if __name__ == "__main__":
    main(World, chronyd=CHRONYD, ntpsec=NTPSEC, ntpd_rs=NTPD_RS)
