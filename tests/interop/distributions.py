#!/usr/bin/env python3
"""What other distributions make packages of: each made by its own tool as far as Debian has that, from programs that are there
already, and compared with the packages of Debian.

Needs `tests/run` to have installed the tools and built the programs. Nothing of a package is installed or run.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from cases import case, expect, main
from lab import OURS, ROOT, have, sh
from machine import build

PROGRAMS = ("ntpd", "ntpctl", "nts-pool-lb", "nts-pool-srv")
# What Fedora's rpmbuild knows that Debian's does not: units, a package of debug information, and one of its sources.
FEDORA = r"""
%_unitdir /usr/lib/systemd/system
%_enable_debug_packages 1
%_debugsource_packages 1
%install %{?_enable_debug_packages:%{?buildsubdir:%{debug_package}}}\
%%install\
%{nil}
%systemd_requires Requires(post): systemd
%systemd_post() /usr/lib/systemd/systemd-update-helper install-system-units %{?*} || : \
%{nil}
%systemd_preun() /usr/lib/systemd/systemd-update-helper remove-system-units %{?*} || : \
%{nil}
%systemd_postun_with_restart() /usr/lib/systemd/systemd-update-helper mark-restart-system-units %{?*} || : \
%{nil}
"""
# What abuild gives an APKBUILD: files are taken from the package into one that is split off.
ABUILD = """
set -eu
amove() { (cd "$pkgdir" && for it in $*; do mkdir -p "$subpkgdir/${it%/*}" && mv "$it" "$subpkgdir/$it"; done); }
split() { subpkgdir=$1; shift; "$@"; }
. "$startdir/APKBUILD"
cd "$builddir"
package
split "$out/ntpd-nts-doc" amove "usr/share/man usr/share/doc"
split "$out/ntpd-nts-openrc" amove etc/init.d
for kind in bash-completion zsh fish; do split "$out/ntpd-nts-$kind" amove "usr/share/$kind"; done
split "$out/nts-pool" pool
"""
# What nixpkgs gives an installPhase.
NIXPKGS = """
set -eu
runHook() { :; }
patchShebangs() { :; }
substituteInPlace() {
    files=()
    while [ "${1#--}" = "$1" ]; do files+=("$1"); shift; done
    while [ $# -gt 0 ]; do
        for file in "${files[@]}"; do
            grep -qF -e "$2" "$file" || [ "$1" = --replace-warn ] || { echo "$2 is not in $file"; exit 1; }
            text=$(cat "$file")
            printf '%s\\n' "${text//"$2"/"$3"}" >"$file"
        done
        shift 3
    done
}
"""
EXPRESSION = """
import %s {
  pkgs = {
    lib = {
      cleanSource = src: src;
      cleanSourceWith = { src, filter }: builtins.filterSource filter src;
      makeBinPath = builtins.concatStringsSep ":";
      licenses = { asl20 = "Apache-2.0"; mit = "MIT"; };
      platforms.linux = [ "x86_64-linux" ];
    };
    rustPlatform.buildRustPackage = each: builtins.removeAttrs each [ "cargoLock" ];
    cmake = "/cmake";
    coreutils = "/coreutils";
    diffutils = "/diffutils";
  };
}
"""


class Folder:
    """A folder for what a tool makes, and the packages of Debian."""

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="ntpd-packages-"))
        os.chmod(self.dir, 0o755)
        self.packages = build()
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def sources(self, into):
        """What is packed of the sources, and programs as if they had been built there. Returns its folder."""
        tree = into / "ntpd-0.1.0"
        shutil.copytree(ROOT / "packaging", tree / "packaging")
        for name in ("LICENSE-APACHE", "LICENSE-MIT", "README.md"):
            shutil.copy(ROOT / name, tree)
        (tree / "target/release").mkdir(parents=True)
        for name in PROGRAMS:
            sh("objcopy", "--strip-debug", OURS / name, tree / "target/release" / name)
        return tree

    def compare(self, names_of):
        """Every package has the programs and pages that Debian's has; NAMES_OF says what is in one."""
        for name, package in self.packages.items():
            theirs = listed(names_of(name))
            ours = listed(line.split()[5] for line in sh("dpkg-deb", "-c", package).splitlines())
            expect(theirs == ours and ours, name, theirs ^ ours)


def listed(names):
    """Programs and manual pages among these files, whichever way they are packed."""
    return {Path(name).name.removesuffix(".gz") for name in names if re.search(r"/s?bin/.|/man\d/.", f"/{name}")}


def below(folder):
    """Files and links below a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()]


@case
def fedora(lab):
    (lab.dir / "SOURCES").mkdir()
    tree = lab.sources(lab.dir)
    built = lab.dir / "built"
    (tree / "target").rename(built)
    sh("tar", "-C", lab.dir, "-czf", lab.dir / "SOURCES/ntpd-0.1.0.tar.gz", tree.name)
    macros = lab.dir / "macros"
    macros.write_text(FEDORA)
    # It finds the programs built.
    cargo = lab.dir / "bin/cargo"
    cargo.parent.mkdir()
    cargo.write_text(f"#!/bin/sh\nln -sfn {built} target\n")
    cargo.chmod(0o755)
    path = f"{cargo.parent}:{os.environ['PATH']}"
    # As Fedora has one folder of programs since 42.
    sh("rpmbuild", "-bb", "--nodeps", "--load", macros, "-D", f"_topdir {lab.dir}", "-D", "_sbindir /usr/bin", "-D",
       "_binary_payload w0.gzdio", ROOT / "packaging/rpm/ntpd.spec", env=dict(os.environ, PATH=path))
    found = lambda name: next((lab.dir / "RPMS").rglob(f"{name}-0*.rpm"))
    lab.compare(lambda name: sh("rpm", "-qlp", found(name)).splitlines())
    files = sh("rpm", "-qlvp", found("ntpd"))
    expect(re.search(r" /usr/bin/ntpd$", files, re.M), "the folder of programs", files)
    expect(re.search(r"^-rw-r-----.* root +ntpd .* /etc/ntpd/ntpd.toml$", files, re.M), "the daemon may read it", files)
    expect(re.search(r"^drwx------.* ntpd +ntpd .* /var/lib/ntpd$", files, re.M), "the folder of its state", files)
    scripts = sh("rpm", "-qp", "--scripts", found("ntpd"))
    expect("u ntpd -" in scripts and "install-system-units ntpd.service" in scripts, "scripts", scripts)


@case
def arch(lab):
    shutil.copy(ROOT / "packaging/arch/PKGBUILD", lab.dir)
    (lab.dir / "ntpd-0.1.0.tar.gz").touch()
    lab.sources(lab.dir / "src")
    sh("chown", "-R", "nobody", lab.dir)
    # It is never root, and asks its database, which is not here, for what is installed.
    as_nobody = ["setpriv", "--reuid", "nobody", "--clear-groups", "env", f"HOME={lab.dir}", "PACMAN=true", "PKGEXT=.pkg.tar"]
    told = sh(*as_nobody, "makepkg", "--printsrcinfo", cwd=lab.dir)
    expect("pkgname = ntpd-nts" in told and "pkgname = nts-pool" in told, "what makepkg reads", told)
    told = sh(*as_nobody, "makepkg", "--repackage", "--nodeps", cwd=lab.dir)
    complaints = [line for line in told.splitlines() if "WARNING" in line and "dependency checks" not in line]
    expect(not complaints, "makepkg has nothing to say", told)
    found = {"ntpd": "ntpd-nts", "nts-pool": "nts-pool"}
    names_of = lambda name: sh("tar", "-tf", next(lab.dir.glob(f"{found[name]}-0*.pkg.tar"))).splitlines()
    lab.compare(names_of)
    names = names_of("ntpd") + names_of("nts-pool")
    expect(not [name for name in names if "/sbin/" in name], "there is one folder of programs", names)
    unit = sh("tar", "-xOf", next(lab.dir.glob("ntpd-nts-*.pkg.tar")), "usr/lib/systemd/system/ntpd.service")
    expect("ExecStart=/usr/bin/ntpd\n" in unit, "units know it", unit)


@case
def alpine(lab):
    for file in (ROOT / "packaging/alpine").iterdir():
        shutil.copy(file, lab.dir)
    (lab.dir / "src").mkdir()
    lab.sources(lab.dir / "src")
    shutil.copy(lab.dir / "ntpd-nts.initd", lab.dir / "src")
    out = lab.dir / "pkg"
    sh("dash", "-c", ABUILD, env=dict(os.environ, startdir=lab.dir, srcdir=lab.dir / "src", out=out, pkgdir=out / "ntpd-nts"))
    pages = below(out / "ntpd-nts-doc")
    pool = lambda name: "nts-pool" in name
    lab.compare(lambda name: [page for page in pages if pool(page) == pool(name)] +
                below(out / ("nts-pool" if pool(name) else "ntpd-nts")))
    # busybox has a service of the name ntpd.
    expect(below(out / "ntpd-nts-openrc") == ["etc/init.d/ntpd-nts"], "its service", below(out / "ntpd-nts-openrc"))
    left = [name for name in below(out / "ntpd-nts") if "systemd" in name or pool(name)]
    expect(not left, "nothing that is not used there", left)
    for script in ("ntpd-nts.initd", "ntpd-nts.pre-install"):
        sh("shellcheck", "-s", "sh", "-e", "SC2034,SC2154", lab.dir / script)
    told = sh("dash", "-c", f". {lab.dir}/ntpd-nts.initd; type depend start_pre $extra_started_commands")
    expect(told.count("function") == 3, "what OpenRC calls", told)


@case
def nix(lab):
    expression = lab.dir / "it.nix"
    expression.write_text(EXPRESSION % (ROOT / "packaging/nix/default.nix"))
    # Nothing is written into a store.
    told = sh("nix-instantiate", "--eval", "--strict", "--json", expression, env=dict(os.environ, NIX_STATE_DIR=f"{lab.dir}/var",
              NIX_CONFIG="build-users-group ="))
    package = json.loads(told)
    tree = lab.sources(lab.dir)
    out = lab.dir / "out"
    sh("bash", "-c", NIXPKGS + package["installPhase"], cwd=tree, env=dict(os.environ, out=str(out)))
    pool = lambda name: "nts-pool" in name
    lab.compare(lambda name: [file for file in below(out) if pool(file) == pool(name)])
    for unit in (out / "lib/systemd/system").glob("*.service"):
        commands = re.findall(r"^Exec\w+=(\S+)", unit.read_text(), re.M)
        expect(commands and all(word.startswith((f"{out}/bin/", "/coreutils/bin/")) for word in commands), unit.name, commands)


if __name__ == "__main__":
    main(Folder, dh=have("dh"), rpmbuild=have("rpmbuild"), debugedit=have("debugedit"), makepkg=have("makepkg"),
         shellcheck=have("shellcheck"), nix=have("nix-instantiate"))
