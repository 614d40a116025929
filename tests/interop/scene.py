"""A pool: its members, each of a make of its own, and its balancer. For tests of its users."""

from lab import OURS, wait_for
from peers import chrony_nts_server, ntpd_rs_nts_server, ntpsec_nts_server, our_nts_server, takes_key_exchanges

# Those of the pool's members that know Fixed Key Requests have it.
TOKEN = "0123456789abcdef0123456789abcdef"


def start_members(lab, *makes):
    """Starts the members at the hosts that are named as their makes."""
    for make in makes:
        host = getattr(lab, make)
        if make == "chrony":
            chrony_nts_server(host, "member")
        elif make == "ntpsec":
            ntpsec_nts_server(host, "member")
        elif make == "rs":
            ntpd_rs_nts_server(host, "member", "local-stratum = 1", f'accepted-pool-authentication-tokens = ["{TOKEN}"]')
        else:
            tokens = lab.write("pool-tokens", f"{TOKEN}\n")
            our_nts_server(host, "member", f'pool-tokens = "{tokens}"')
    for make in makes:
        takes_key_exchanges(getattr(lab, make), make)


def directory(lab, *makes, with_addresses=False):
    """The file of members that both routes of a pool read."""
    token = {"rs": f'token = "{TOKEN}"\n', "ours": f'token = "{TOKEN}"\n'}

    def member(make):
        host = getattr(lab, make)
        addresses = f'addresses = ["{host.v4}"]\n' if with_addresses else ""
        return f'[[member]]\nname = "{host.names[0]}"\n{addresses}{token.get(make, "")}'

    return "".join(member(make) for make in makes)


class Balancer:
    """`nts-pool-lb` under a name."""

    def __init__(self, host, name, members, more="", probed=None):
        """With `more` settings; `probed` of the members belong to the pool, all that have a token unless that is said."""
        self.host = host
        lab = host.lab
        self.tag = f"lb-{host.name}"
        lab.certify(self.tag, name)
        self.members = lab.write(f"{self.tag}-members.toml", members)
        self.more, self.probed = more, members.count("token") if probed is None else probed
        self.process = None
        self.start("name")

    def start(self, hand_out):
        """Starts it, in place of one that runs; `hand_out` says how users are told of members."""
        if self.process:
            self.process.terminate()
            self.process.wait(10)
        host, lab, tls = self.host, self.host.lab, self.host.lab.certificates
        self.config = lab.write(f"{self.tag}.toml", f"""
listen = ["0.0.0.0:4460", "[::]:4460"]
certificate = "{tls}/{self.tag}.pem"
private-key = "{tls}/{self.tag}.key"
members = "{self.members}"
trust = "file"
trust-file = "{tls}/ca.pem"
allow-private = true
hand-out = "{hand_out}"
control-socket = "{lab.dir}/{self.tag}.sock"
metrics = "{host.v4}:9460"
[probe]
interval = 2
max-offset = 1.0
{self.more}
""")
        self.process = host.start(OURS / "nts-pool-lb", "-c", self.config, log=f"{self.tag}.log", env={"RUST_LOG": "debug"})
        # Offsets are shown with their sign once they are measured.
        wait_for("probes of all members", lambda: sum(" +0." in line or " -0." in line for line in self.list().splitlines())
                 >= self.probed, 40)

    def command(self, *words, **options):
        return self.host.run(OURS / "nts-pool-lb", "-c", self.config, *words, **options)

    def list(self):
        return self.command("list", check=False)

    def served(self):
        """How many users got cookies so far."""
        get = f"import urllib.request as u; print(u.urlopen('http://{self.host.v4}:9460/metrics').read().decode())"
        line = next(line for line in self.host.run("python3", "-c", get).splitlines() if 'result="served"' in line)
        return int(line.split()[-1])
