"""The DNS of the lab: our server with the pool's zone, the root above it, a resolver that follows it down, and forwarders
as machines have them between that resolver and their programs.
"""

from pathlib import Path

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


def tsig(host, tag, name):
    """A key as tsig-keygen makes it."""
    return host.lab.write(f"tsig-{tag}", tool(host, "tsig-keygen", "-a", "hmac-sha256", name))


def bare_zone(host, tag, more=""):
    """A pool's zone as another server has it before anything is published there, with `more` records."""
    return host.lab.write(f"bare-{tag}.zone", f"""$TTL 60
{ZONE}. IN SOA ns1.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 60
{ZONE}. IN NS ns1.{ZONE}.
ns1.{ZONE}. IN A {host.v4}
{SERVICE}. IN SRV 0 0 1 old.example.
{more}""", 0o644)


def bind_primary(host, zone, update, transfer, *others):
    """A BIND at port 5300 with this zone: one key may update it, another transfer it, others are known and may nothing."""
    lab = host.lab
    folder = lab.dir / "named"
    folder.mkdir()
    name = lambda key: match(r'key "(.*?)"', key.read_text()).group(1)
    included = "".join(f'include "{key}";\n' for key in (update, transfer, *others))
    config = lab.write("named.conf", f"""
{included}
options {{
  directory "{folder}"; listen-on port 5300 {{ {host.v4}; }}; listen-on-v6 {{ none; }}; pid-file none;
  session-keyfile none; recursion no; dnssec-validation no;
}};
controls {{ }};
zone "{ZONE}" {{
  type primary; file "{zone}"; update-policy {{ grant {name(update)} zonesub ANY; }}; allow-transfer {{ key {name(transfer)}; }};
}};
""", 0o644)
    return start(host, "named", "-g", "-c", config, log="named.log")


def knot_primary(host, zone, update, transfer, *others):
    """The same with Knot."""
    lab = host.lab
    folder = lab.dir / "knot"
    folder.mkdir()
    of = lambda what, key: match(rf'{what} "(.*?)"', key.read_text()).group(1)
    keys = "".join(f"  - id: {of('key', key)}\n    algorithm: hmac-sha256\n    secret: {of('secret', key)}\n"
                   for key in (update, transfer, *others))
    config = lab.write("knot.conf", f"""
server:
  listen: {host.v4}@5300
  rundir: {folder}
database:
  storage: {folder}
log:
  - target: stderr
    any: info
key:
{keys}
acl:
  - id: update
    key: {of("key", update)}
    action: update
  - id: transfer
    key: {of("key", transfer)}
    action: transfer
zone:
  - domain: {ZONE}
    file: {zone}
    acl: [update, transfer]
    zonefile-sync: -1
    journal-content: all
""", 0o644)
    return start(host, "knotd", "-c", config, log="knot.log")


def root(host, pool, more=""):
    """A signed root with all hosts of the lab in it, and `more` records, which leads to the zone of a pool, at a Knot of its own.

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
{hosts}{more}""", 0o644)
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


def unbound(host, key, *settings, more="", tag="unbound", address=None):
    """An unbound that believes this key, with these settings of its server and `more` sections, at an address of the host."""
    lab = host.lab
    folder = lab.dir / tag
    folder.mkdir()
    lines = "".join(f"  {line}\n" for line in settings)
    config = lab.write(f"{tag}.conf", f"""
server:
  interface: {address or host.v4}
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
    start(host, "unbound", "-d", "-c", config, log=f"{tag}.log")


def hints(above):
    """A file that says where the root is."""
    text = f". 3600 IN NS {above.names[0]}.\n{above.names[0]}. 3600 IN A {above.v4}\n"
    return above.lab.write("root.hints", text, 0o644)


def resolver(host, above, key):
    """An unbound that begins at the root `above` and believes this key."""
    unbound(host, key, f'root-hints: "{hints(above)}"', tag="resolver")
    ask = lambda: tool(host, "dig", f"@{host.v4}", "+dnssec", "+tries=1", "+timeout=2", SERVICE, "SRV", check=False)
    wait_for("validated service records from the resolver", lambda: match(r"flags: [a-z ]*\bad\b", ask()), 20)


def bind(host, tag, address, above, key, *options):
    """A BIND as resolver that begins at the root `above`; whether it validates, by this key, the options say."""
    lab = host.lab
    folder = lab.dir / tag
    folder.mkdir()
    # It listens at addresses of interfaces alone.
    host.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    words = key.split()
    config = lab.write(f"{tag}.conf", f"""
options {{
  directory "{folder}"; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; pid-file none; session-keyfile none;
  managed-keys-directory "{folder}"; allow-query {{ any; }}; recursion yes; empty-zones-enable no;
  {" ".join(options)}
}};
controls {{ }};
zone "." {{ type hint; file "{hints(above)}"; }};
trust-anchors {{ "." static-key {" ".join(words[-4:-1])} "{words[-1]}"; }};
""", 0o644)
    return start(host, "named", "-g", "-c", config, log=f"{tag}.log")


def dnsmasq_at(host, address, upstream, *options):
    """A dnsmasq that hands on the questions that it gets at an address."""
    words = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root", f"--listen-address={address}",
             "--bind-interfaces", "--log-facility=-", "--log-queries", f"--server={upstream}", *options]
    return start(host, "dnsmasq", *words, log=f"dnsmasq-{address}.log")


def dnsmasq_validates(host, anchor):
    """The options of a dnsmasq that validates by the key in this file."""
    ds = tool(host, "dnssec-dsfromkey", "-2", "-f", anchor, ".").split()[3:]
    return "--dnssec", f"--trust-anchor=.,{','.join(ds)}"


def dnsmasq(host, upstream, *options):
    """A dnsmasq that hands the questions of this host's programs on."""
    process = dnsmasq_at(host, "127.0.0.1", upstream, *options)
    forwards(host, "127.0.0.1")
    return process


def middlebox(host, *boxes):
    """What networks do between programs of this host and whom they ask: for each of these an address, an upstream and a way.

    Returns the file of all questions."""
    log = host.lab.dir / "middlebox-questions"
    words = ["=".join(box) for box in boxes]
    host.start("python3", Path(__file__).with_name("middlebox.py"), log, *words, log="middlebox.log", shim=False)
    wait_for("the middle box", lambda: "ready" in host.lab.log("middlebox.log"), 20)
    return log


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
