#!/usr/bin/env python3
"""Users and members of several makes, with our balancer between them: `pools.py`, as root, with the peers in NTPD_PEERS."""

from cases import case, expect, main
from lab import Lab
from peers import CHRONYD, NTPD_RS, NTPSEC, ChronyUser, NtpdRsUser, NtpsecUser, OurUser, authentic, stop
from scene import Balancer, directory, start_members

POOL = "pool.test"
MEMBERS = ("rs", "ours")


class World(Lab):
    """A host for the balancer, one for each member, and one for all users, who find them all in their hosts files."""

    def __init__(self):
        super().__init__("balancer", *MEMBERS, "user")

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


if __name__ == "__main__":
    main(World, chronyd=CHRONYD, ntpsec=NTPSEC, ntpd_rs=NTPD_RS)
