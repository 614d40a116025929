#!/usr/bin/env python3
"""Users and members of several makes, with our balancer between them: `pools.py`, as root, with the peers in NTPD_PEERS."""

from cases import case, expect, main
from lab import Lab, wait_for
from names import SERVICE, ZONE, PoolDns, bare_zone, bind_primary, knot_primary, tool, tsig
from peers import CHRONYD, NTPD_RS, NTPSEC, ChronyUser, NtpdRsUser, NtpsecUser, OurUser, authentic, stop
from scene import Balancer, directory, start_members

POOL = "pool.test"
MEMBERS = ("rs", "ours")


class World(Lab):
    """Hosts for two balancers and a name server, one for each member, and one for all users, who find them all in their hosts
    files."""

    def __init__(self):
        super().__init__("balancer", "second", "names", *MEMBERS, "user")

    def build(self):
        super().build()
        hosts = self.user.etc / "hosts"
        self.user.write_etc("hosts", hosts.read_text() + f"{self.balancer.v4} {POOL}\n")


@case
def users_of_every_make_get_time_from_members_of_either_make(lab):
    """ntpd-rs and our daemon as members make cookies for keys that a balancer hands them. Our daemon, chronyd, NTPsec and
    ntpd-rs exchange keys with the balancer as with any server, and get authenticated time from the member it names; or whose
    address it tells, to users who know no name but the balancer's."""
    start_members(lab, *MEMBERS)
    balancer = Balancer(lab.balancer, POOL, directory(lab, *MEMBERS, with_addresses=True))
    for make, other, hand_out in ((*MEMBERS, "name"), (*MEMBERS[::-1], "address")):
        if hand_out == "address":
            lab.user.write_etc("hosts", f"{lab.balancer.v4} {POOL}\n")
            balancer.start(hand_out)
        balancer.command("drain", f"{other}.test")
        before = balancer.served()
        users = [
            OurUser(lab.user, f"lb-{make}", f'[[pool]]\nname = "{POOL}"\nmode = "lb"\ncount = 1\n'),
            ChronyUser(lab.user, f"lb-{make}", f"server {POOL} nts iburst minpoll 1 maxpoll 1"),
            NtpsecUser(lab.user, f"lb-{make}", f"server {POOL} nts iburst minpoll 3 maxpoll 3"),
            NtpdRsUser(lab.user, f"lb-{make}", f'mode = "nts"\naddress = "{POOL}"'),
        ]
        for user in users:
            authentic(user, [getattr(lab, make)])
        stop(*(user.process for user in users))
        expect(balancer.served() - before >= len(users), "the balancer served them all", before, balancer.list())
        balancer.command("undrain", f"{other}.test")


def share_a_zone(lab, make):
    """Two balancers whose members are those of a zone at a BIND or Knot, where our program publishes them."""
    start_members(lab, *MEMBERS)
    update, lists = tsig(lab.names, "update", "update-key"), tsig(lab.names, "lists", "lists-key")
    # The zone is not the pool's alone, and comes in several messages.
    others = "".join(f"other{n}.{ZONE}. IN A 192.0.2.7\n" for n in range(5000))
    server = make(lab.names, bare_zone(lab.names, "shared", others), update, lists)
    asked = lambda: tool(lab.names, "dig", f"@{lab.names.v4}", "-p", "5300", SERVICE, "SRV", check=False)
    wait_for("the other server", lambda: "old.example" in asked(), 20)
    pool = PoolDns(lab.names, "shared", directory(lab, "rs"), [], zone_more=f"""list = true
ttl = "30s"
[zone.publish]
server = "{lab.names.v4}:5300"
tsig-key = "{update}"
state = "shared.published"
""")
    pool.ours("publish")

    def balancer(host):
        zone = f'''[zone]
name = "{ZONE}"
servers = ["{lab.names.v4}:5300"]
tsig-key = "{lists}"
list = "{host.name}.list"
'''
        return Balancer(host, POOL, directory(lab, *MEMBERS, with_addresses=True), zone, probed=1)

    def listed(balancer):
        return {line.split()[0] for line in balancer.list().splitlines()[1:] if ".test" in line.split()[0]}

    def users_get(member):
        for host in (lab.balancer, lab.second):
            hosts = "".join(f"{getattr(lab, make).v4} {make}.test {make}.test.\n" for make in MEMBERS)
            lab.user.write_etc("hosts", f"{hosts}{host.v4} {POOL}\n")
            users = [ChronyUser(lab.user, f"{host.name}-{member}-{n}", f"server {POOL} nts iburst minpoll 1 maxpoll 1")
                     for n in range(3)]
            for user in users:
                authentic(user, [getattr(lab, member)])
            stop(*(user.process for user in users))

    balancers = [balancer(lab.balancer), balancer(lab.second)]
    for one in balancers:
        text = one.command("check", "--zone") + one.list()
        expect(listed(one) == {"rs.test"} and f"zone {ZONE}: generation " in text, "the file knows two members", text)
        expect(f"name server {lab.names.v4}:5300: serial " in text and ", 1 members, " in text, "check --zone", text)
    users_get("rs")
    # Without a word to the balancers one member comes, and then the other goes.
    for members in (MEMBERS, ("ours",)):
        pool.members.write_text(directory(lab, *members))
        pool.ours("publish")
        for one in balancers:
            wait_for("the new list", lambda: listed(one) == {f"{member}.test" for member in members}, 60)
    users_get("ours")
    # Who must not transfer it is told so, and so is that nobody is there; the members stay, over a restart too.
    text = lists.read_text()
    lists.write_text(update.read_text())
    for problem in ("refuses: ", "cannot be reached: "):
        told = f"zone {ZONE}: name server {lab.names.v4}:5300 {problem}"
        for one in balancers:
            expect(told in one.command("reload", check=False), problem)
            expect(f"; last attempt: {told}" in one.list(), problem, one.list())
        lists.write_text(text)
        stop(server)
    expect([listed(one) for one in balancers] == [{"ours.test"}] * 2, "the last list stays", balancers[0].list())
    balancers[1].start("name")
    expect(listed(balancers[1]) == {"ours.test"}, "over a restart too", balancers[1].list())


@case
def balancers_share_members_by_a_zone_at_knot(lab):
    share_a_zone(lab, knot_primary)


@case
def balancers_share_members_by_a_zone_at_bind(lab):
    share_a_zone(lab, bind_primary)


if __name__ == "__main__":
    main(World, chronyd=CHRONYD, ntpsec=NTPSEC, ntpd_rs=NTPD_RS)
