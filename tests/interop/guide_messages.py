"""Has the daemon say what the guide's page on trouble quotes, where that is cheap. Whether the others occur in the source,
tests/tests/docs.rs looks.
"""

import os
import re

from cases import expect
from lab import OURS, match, sh, wait_for
from peers import chrony, ntpctl, ours, report, stop, trust

FAST = "min-poll = 1\nmax-poll = 2\n"


def quoted(page):
    """What the tables of a page quote; `...` stands for anything."""
    rows = re.findall(r"^\| (`` .*? ``|`[^`]+`) \|", page.read_text(), re.MULTILINE)
    return [row.strip("`").strip() for row in rows]


class Quotes:
    """What is quoted, and what of it was seen."""

    def __init__(self, page):
        self.all = quoted(page)
        self.seen = set()

    def expect(self, message, text):
        """This is quoted, and this text has it."""
        expect(message in self.all, "it is quoted", message)
        pattern = ".+".join(re.escape(part) for part in message.split("..."))
        expect(match(pattern, text), f"it is said: {message}", text)
        self.seen.add(message)

    def wait(self, message, ask):
        """The same, once it is so."""
        pattern = ".+".join(re.escape(part) for part in message.split("..."))
        try:
            wait_for(message, lambda: match(pattern, ask()), 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {ask()}") from error
        self.expect(message, ask())


def plain(address, more=""):
    return f'[[server]]\naddress = "{address}"\nnts = "off"\n{FAST}{more}'


def prove(lab, page):
    """Everything here is told at host a."""
    quotes = Quotes(page)
    what_a_check_says(lab, quotes)
    what_stands_in_the_way_of_a_start(lab, quotes)
    why_key_exchanges_fail(lab, quotes)
    why_sources_are_not_used(lab, quotes)
    what_servers_say(lab, quotes)
    what_is_wrong_here(lab, quotes)
    print(f"     {len(quotes.seen)} of {len(quotes.all)} messages were provoked")


def what_a_check_says(lab, quotes):
    tls = lab.certificates

    def check(text):
        return lab.a.run(OURS / "ntpd", "check", "-c", lab.write("check.toml", text), check=False)

    serve = f'[serve]\nallow = "all"\n[serve.nts]\ncertificate = "{tls}/a.pem"\nprivate-key = '
    quotes.expect("unknown key", check('pol = "time.example"\n'))
    quotes.expect("cannot read this file: ...", check(f'{serve}"{tls}/none.key"\n'))
    quotes.expect("not the key of the certificate: ...", check(f'{serve}"{tls}/b.key"\n'))


def what_stands_in_the_way_of_a_start(lab, quotes):
    def said(text, tag, control=""):
        process = ours(lab.a, text, tag, control)
        process.wait(20)
        return lab.log(f"ours-{tag}.log")

    other = chrony(lab.a, "local stratum 3\nallow all", "in-the-way")
    wait_for("chronyd to serve", lambda: "123" in lab.a.run("ss", "-Hlun", "sport = :123", check=False))
    serve = '[serve]\nallow = "all"\nlisten = "{}:123"\n'
    quotes.expect("cannot serve ... on ...: another program uses this port", said(serve.format("0.0.0.0"), "taken"))
    stop(other)
    quotes.expect("cannot serve ... on ...: not an address of this machine", said(serve.format("192.0.2.1"), "address"))
    quotes.expect("cannot serve ... on ...: a port below ... needs root or CAP_NET_BIND_SERVICE", as_nobody(lab, serve.format("0.0.0.0")))
    first = ours(lab.a, plain(lab.b.v4), "first")
    wait_for("a daemon", lambda: report(lab.a, first, "tracking"))
    # Another with its socket.
    again = lab.a.start(OURS / "ntpd", "-x", "-c", first.config, log="second.log", shim=False)
    again.wait(20)
    quotes.expect("another ntpd is running and answers there", lab.log("second.log"))
    stop(first)
    first.socket.write_text("no socket\n")
    again = lab.a.start(OURS / "ntpd", "-x", "-c", first.config, log="file.log", shim=False)
    again.wait(20)
    quotes.expect("there is a file that is not a socket, and it is left alone", lab.log("file.log"))
    first.socket.unlink()
    quotes.expect("ntpd is not running: nobody answers at ...", ntpctl(lab.a, first, "tracking"))
    quotes.expect("506 Cannot talk to daemon", lab.do("chronyc", "tracking", check=False).stdout)


def as_nobody(lab, text):
    state = lab.dir / "nobody"
    state.mkdir()
    os.chown(state, 65534, 65534)
    config = lab.write("nobody.toml", f'{text}[state]\ndirectory = "{state}"\n[control]\nsocket = "{state}/control.sock"\n', 0o644)
    return lab.a.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all", OURS / "ntpd", "-x",
                     "-c", config, check=False)


def why_key_exchanges_fail(lab, quotes):
    tls = lab.certificates
    (tls / "ca.conf").write_text(f"[ca]\ndefault_ca=lab\n[lab]\ndatabase={tls}/index\nnew_certs_dir={tls}\nrand_serial=yes\n"
                                 "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n")
    (tls / "index").touch()
    sh("openssl", "ca", "-batch", "-notext", "-config", tls / "ca.conf", "-cert", tls / "ca.pem", "-keyfile", tls / "ca.key",
       "-in", tls / "csr", "-extfile", tls / "ext", "-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-out", tls / "old.pem")
    chrony(lab.b, f"port 1124\nntsport 4461\nlocal stratum 3\nallow all\nntsserverkey {tls}/guide.key\nntsservercert {tls}/old.pem", "old")
    # Somebody at a port for key exchange who speaks, but no TLS.
    speak = ("import socket\nlistener = socket.create_server(('', 4462))\n"
             "while True:\n    there, _ = listener.accept()\n    there.sendall(b'220 hello\\r\\n' * 9)\n    there.close()\n")
    lab.b.start("python3", "-c", speak, log="speak.log", shim=False)
    lab.a.write_etc("hosts", f"127.0.0.1 localhost\n{lab.b.v4} time.example ntp1.example ntp2.example b.test silent.example\n")
    server = lambda name, more="": f'[[server]]\naddress = "{name}"\nnts = "require"\n{FAST}{more}'
    strangers = ours(lab.a, server("time.example"), "strangers")
    told = lambda daemon: lambda: ntpctl(lab.a, daemon, "sources")
    quotes.wait("certificate signed by an unknown issuer", told(strangers))
    quotes.expect("the time is not verified; ...", ntpctl(lab.a, strangers, "makestep"))
    stop(strangers)
    daemon = ours(lab.a, server("time.example", "ke-port = 4461\n") + server("b.test") + server("ntp1.example", "ke-port = 4999\n")
                  + server("ntp2.example", "ke-port = 4462\n") + trust(lab), "exchange")
    for message in ("certificate expired on ..., and it is ... at least", "certificate is not for ... but for ...",
                    "nobody listens at TCP port ... (is it an NTS server?)", "peer does not speak TLS"):
        quotes.wait(message, told(daemon))
    stop(daemon)


def why_sources_are_not_used(lab, quotes):
    ours_file = lab.write("trouble.toml", '[[key]]\nid = 7\ntype = "AES128"\nsecret = "hex:@"\n'.replace("@", "ab" * 16))
    chrony(lab.b, "port 1125\nallow all", "unsynchronized")
    theirs = lab.write("trouble.keys", "7 AES128 HEX:@\n".replace("@", "cd" * 16))
    chrony(lab.b, f"port 1126\nlocal stratum 3\nallow all\nkeyfile {theirs}", "keyed")
    at = lambda port: f"{lab.b.v4}:{port}"
    liar = plain("10.89.7.21", 'offset = "500ms"\n')
    wrong_key = plain(at(1126)).replace('nts = "off"', "key = 7")
    daemon = ours(lab.a, plain(at(123)) + plain("10.89.7.20") + plain("10.89.7.22") + liar + plain(at(1125))
                  + plain("no-such-host.example"), "sources")
    told = lambda: ntpctl(lab.a, daemon, "sources")
    for message in ("disagrees with the majority", "says it is not synchronized"):
        quotes.wait(message, told)
    quotes.wait("cannot be resolved: ... (is there a network?)", lambda: lab.log("ours-sources.log"))
    stop(daemon)
    keyed = ours(lab.a, f'{plain(at(123))}{wrong_key}[keys]\nfile = "{ours_file}"\n', "keyed")
    for message in ("does not answer", "not authenticated and not confirmed by authenticated sources"):
        quotes.wait(message, lambda: ntpctl(lab.a, keyed, "sources"))
    stop(keyed)
    two = ours(lab.a, plain(at(123)) + liar, "two")
    quotes.wait("no majority agrees on a time", lambda: ntpctl(lab.a, two, "sources"))
    stop(two)
    few = ours(lab.a, f"{plain(at(123))}[clock]\nmin-sources = 2\n", "few")
    quotes.wait("agrees; more sources are needed", lambda: ntpctl(lab.a, few, "sources"))
    quotes.wait("not asked (offline)", lambda: ntpctl(lab.a, few, "offline") + ntpctl(lab.a, few, "sources"))
    stop(few)


def bare(lab, tag, state_mode, control=""):
    """Our daemon whose state directory is there before it."""
    state = lab.dir / f"ours-{tag}/state"
    state.parent.mkdir(mode=0o700)
    state.mkdir()
    state.chmod(state_mode)
    (state / "pools").write_text("no record of anything\n")
    config = lab.write(f"ours-{tag}.toml", f"""{plain(lab.b.v4)}
[state]
directory = "{state}"
[control]
socket = "{state.parent}/control.sock"
{control}
""")
    daemon = lab.a.start(OURS / "ntpd", "-x", "-c", config, log=f"ours-{tag}.log", shim=False)
    daemon.socket, daemon.config = state.parent / "control.sock", config
    wait_for("a daemon", lambda: report(lab.a, daemon, "tracking"))
    return daemon


def what_servers_say(lab, quotes):
    server = ours(lab.b, """
[serve]
listen = "10.89.7.2:1127"
allow = "all"
local = true
""", "local")
    quotes.wait("serving the local clock: no source tells the time", lambda: lab.log("ours-local.log"))
    stop(server)


def what_is_wrong_here(lab, quotes):
    chrony(lab.a, "port 0\ncmdport 323\nbindcmdaddress 127.0.0.1", "command")
    wait_for("chronyd at port 323", lambda: "323" in lab.a.run("ss", "-Hlun", "sport = :323", check=False))
    daemon = bare(lab, "here", 0o777, 'chronyc-listen = ["127.0.0.1:323"]')
    log = lab.log("ours-here.log")
    quotes.expect("nothing will be kept over a restart: ...", log)
    quotes.expect("others than its owner may write this directory, so it is not used", log)
    quotes.expect("chronyc is not answered at ... (UDP): ...; is chronyd running? ...", log)
    daemon.config.write_text(daemon.config.read_text().replace("min-poll", "min-pol"))
    quotes.expect("configuration not changed: ...", ntpctl(lab.a, daemon, "reload"))
    stop(daemon)
    stop(bare(lab, "damaged", 0o700))
    quotes.expect("damaged, starting without it", lab.log("ours-damaged.log"))
