"""The DNS of the lab: our server with the pool's zone, the root above it, a resolver that follows it down, and forwarders
as machines have them between that resolver and their programs.
"""

from lab import OURS, PEERS, match, wait_for

DNS = PEERS / "dns"
# The programs are unpacked with the libraries that they bring along.
ENV = {"LD_LIBRARY_PATH": ":".join(map(str, DNS.glob("usr/lib/*-linux-gnu*")))}
ZONE = "time.test"
SERVICE = f"_ntske._tcp.{ZONE}"


def unpacked(name):
    return next(DNS / place / name for place in ("usr/bin", "usr/sbin") if (DNS / place / name).exists())


def tool(host, *words, check=True):
    """Runs an unpacked program."""
    return host.run("env", *(f"{key}={value}" for key, value in ENV.items()), unpacked(words[0]), *words[1:], check=check)


def start(host, *words, log):
    return host.start(unpacked(words[0]), *words[1:], log=log, shim=False, env=ENV)


class PoolDns:
    """Our server with its files: the zone of a pool with these members, and with addresses of its own."""

    def __init__(self, host, tag, members, addresses, more="", zone_more=""):
        self.host = host
        self.dir = host.lab.dir / f"srv-{tag}"
        self.dir.mkdir()
        self.log = f"srv-{tag}.log"
        self.process = None
        self.members = self.dir / "members.toml"
        self.members.write_text(members)
        # There are tokens in it.
        self.members.chmod(0o600)
        self.config = self.dir / "srv.toml"
        self.key_text = self.ours("key", self.dir / "zone.key", "--zone", ZONE)
        quoted = ", ".join(f'"{address}"' for address in addresses)
        self.config.write_text(f"""
listen = ["{host.v4}:53", "[{host.v6}]:53"]
{more}
[[zone]]
name = "{ZONE}"
key = "zone.key"
members = "members.toml"
name-servers = [{{ name = "ns1.{ZONE}", addresses = ["{host.v4}", "{host.v6}"] }}]
addresses = [{quoted}]
{zone_more}
""")
        self.ours("check")

    def ours(self, *words, check=True):
        config = ["-c", self.config] if words[0] != "key" else []
        return self.host.run(OURS / "nts-pool-srv", *config, *words, check=check)

    def start(self):
        self.process = self.host.start(OURS / "nts-pool-srv", "-c", self.config, log=self.log, shim=False)
        ask = lambda: tool(self.host, "dig", f"@{self.host.v4}", "+tries=1", "+timeout=2", ZONE, "SOA", check=False)
        wait_for("our server to answer", lambda: " aa" in ask(), 20)

    def ds(self):
        """What its parent has to publish."""
        return match(rf"^({ZONE}\.\tIN\tDS\t.*)$", self.ours("ds")).group(1)


def root(host, pool):
    """A signed root with all hosts of the lab in it, which leads to the zone of a pool, at a Knot of its own.

    Returns its key, as a DNSKEY record."""
    lab = host.lab
    folder = lab.dir / "root"
    folder.mkdir()
    hosts = "".join(f"{name}. A {other.v4}\n{name}. AAAA {other.v6}\n" for other in lab.hosts for name in other.names)
    zone = lab.write("root.zone", f"""$TTL 300
. SOA {host.names[0]}. hostmaster.test. 1 3600 600 86400 60
. NS {host.names[0]}.
{ZONE}. NS ns1.{ZONE}.
{pool.ds()}
ns1.{ZONE}. A {pool.host.v4}
ns1.{ZONE}. AAAA {pool.host.v6}
{hosts}""", 0o644)
    config = lab.write("root.conf", f"""
server:
  listen: {host.v4}@53
  rundir: {folder}
database:
  storage: {folder}
log:
  - target: stderr
    any: info
policy:
  - id: root
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
  - domain: .
    file: {zone}
    dnssec-signing: on
    dnssec-policy: root
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
""", 0o644)
    start(host, "knotd", "-c", config, log="root.log")
    key = lambda: match(r"^(\.\s.*DNSKEY\s+257 3 13 .*)$", tool(host, "dig", f"@{host.v4}", "+nosplit", ".", "DNSKEY", check=False))
    return wait_for("the root", key, 20).group(1)


def unbound(host, key, *settings, more="", log="unbound.log"):
    """An unbound that believes this key, with these settings of its server and `more` sections."""
    lab = host.lab
    folder = lab.dir / "unbound"
    folder.mkdir()
    lines = "".join(f"  {line}\n" for line in settings)
    config = lab.write("unbound.conf", f"""
server:
  interface: {host.v4}
  access-control: 10.89.7.0/24 allow
  do-daemonize: no
  use-syslog: no
  verbosity: 2
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  trust-anchor: "{key}"
  local-zone: "test." nodefault
{lines}{more}remote-control:
  control-enable: no
""", 0o644)
    start(host, "unbound", "-d", "-c", config, log=log)


def resolver(host, above, key):
    """An unbound that begins at the root `above` and believes this key."""
    hints = f". 3600 IN NS {above.names[0]}.\n{above.names[0]}. 3600 IN A {above.v4}\n"
    hints = host.lab.write("root.hints", hints, 0o644)
    unbound(host, key, f'root-hints: "{hints}"', log="resolver.log")
    ask = lambda: tool(host, "dig", f"@{host.v4}", "+dnssec", "+tries=1", "+timeout=2", SERVICE, "SRV", check=False)
    wait_for("validated service records from the resolver", lambda: match(r"flags: [a-z ]*\bad\b", ask()), 20)


def dnsmasq(host, upstream, *options):
    """A dnsmasq that hands the questions of this host's programs on."""
    words = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root", "--listen-address=127.0.0.1",
             "--bind-interfaces", "--log-facility=-", "--log-queries", f"--server={upstream}", *options]
    process = start(host, "dnsmasq", *words, log="dnsmasq.log")
    forwards(host, "127.0.0.1")
    return process


def systemd_resolved(host, upstream):
    """A systemd-resolved that hands the questions of this host's programs on, set up as Debian and Ubuntu do.

    It looks for its user and for folders of its own."""
    lab = host.lab
    for name in ("passwd", "group"):
        host.write_etc(name, open(f"/etc/{name}").read() + "systemd-resolve:x:64124:" + ("64124::/:/bin/false\n" if name == "passwd" else "\n"))
    settings = lab.write("resolved.conf", f"[Resolve]\nDNS={upstream}\nDomains=~.\nLLMNR=no\nMulticastDNS=no\n", 0o644)
    prepare = ("mount -t tmpfs run /run && mkdir -p /run/systemd/resolved.conf.d && "
               f'cp {settings} /run/systemd/resolved.conf.d && exec "$@"')
    host.start("sh", "-c", prepare, "sh", DNS / "lib/systemd/systemd-resolved", log="resolved.log", shim=False,
               env={**ENV, "SYSTEMD_LOG_LEVEL": "debug"})
    forwards(host, "127.0.0.53")


def forwards(host, address):
    ask = lambda: tool(host, "dig", f"@{address}", "+tries=1", "+timeout=2", ZONE, "A", check=False)
    wait_for(f"answers from {address}", lambda: "status: NOERROR" in ask(), 20)
    host.write_etc("resolv.conf", f"nameserver {address}\n")
