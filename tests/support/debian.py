"""Debian packages of any release, unpacked in build/ instead of being installed.

build/debian/<release>/lists/, archives/     apt's own, in place of /var/lib/apt/lists and /var/cache/apt
build/debian/<release>/<package>/            a package's files
"""

from __future__ import annotations

import fcntl
import platform
import re
import shutil
from pathlib import Path

from pylab_container.host import programs

_BUILD = Path(__file__).resolve().parent.parent.parent / "build/debian"


def sources(release: str) -> list[str]:
    """Return this machine's apt sources of Debian itself, rewritten for a release; empty if it has none."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "-")
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"]
    found = []
    for line in programs.run(targets).output.splitlines():
        uri, suite, component = line.split()
        if component == "main" and suite.startswith(codename):
            found.append(f"deb {uri} {suite.replace(codename, release)} main")
    return list(dict.fromkeys(found))


def unpacked(package: str, release: str) -> Path:
    """Return the directory with a package's files. Single flight: one process fetches them, others wait for it.

    Raises RuntimeFailed with apt's message.
    """
    place = _BUILD / release
    place.mkdir(parents=True, exist_ok=True)
    target = place / package
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(package, release, place)
            (archive,) = place.glob(f"{package}_*.deb")
            unfinished = place / f"{package}.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            programs.run(["dpkg-deb", "-x", str(archive), str(unfinished)])
            archive.unlink()
            unfinished.rename(target)
    return target


def _fetch(package: str, release: str, place: Path) -> None:
    """Download a package's file into place.

    It uses its own package lists: those of the machine contain only the machine's release.
    """
    for directory in ("lists/partial", "archives/partial"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    (place / "sources.list").write_text("".join(f"{line}\n" for line in sources(release)))
    own = {
        "Dir::Etc::SourceList": f"{place}/sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": f"{place}/lists",
        "Dir::State::status": "/dev/null",  # an installed version would be preferred
        "Dir::Cache": f"{place}/archives",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # _apt may not write into a directory of root's
    }
    apt = ["apt-get", *(word for name, value in own.items() for word in ("-o", f"{name}={value}"))]
    if not [path for path in (place / "lists").iterdir() if re.search(r"_Packages", path.name)]:
        programs.run([*apt, "update"])
    programs.run(["env", f"--chdir={place}", *apt, "download", package])


def servers_tar() -> Path:
    """Return the tar of a small Debian 12 with nginx and Apache, made by mmdebstrap the first time; half a minute.

    Tests have a network of their own, without a way to a mirror, so nothing is installed while they run.
    """
    place = _BUILD / "bookworm"
    place.mkdir(parents=True, exist_ok=True)
    target = place / "servers.tar"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = place / "servers.new.tar"
            options = ["--variant=minbase", "--include=nginx,apache2", "--dpkgopt=path-exclude=/usr/share/doc/*"]
            programs.run(["mmdebstrap", *options, "bookworm", str(unfinished), *sources("bookworm")])
            unfinished.rename(target)
    return target
