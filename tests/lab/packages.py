# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Debian packages of any suite, found and fetched by apt's own tools.

apt runs with a sources list and state directories of its own below the lab's
cache, so the machine's configuration stays as it is. The mirrors are the ones that
configuration names, and apt checks signatures and sums as it always does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from .cache import cache_dir, locked

__all__ = ("Archive", "PackageError", "mirror", "unpack")

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
HOST = "amd64"
MERGED_DIRECTORIES = ("bin", "sbin", "lib", "lib64")


class PackageError(Exception):
    """Packages could not be found or fetched."""


class Archive:
    """
    The packages of some suites that belong together.

    :param suites: names below ``dists/`` of a mirror, such as ``bookworm`` and
        ``bookworm-security``; the first one names the state directory.
    :param architecture: Debian's name of what machines the packages are for.
    """

    def __init__(self, *suites: str, architecture: str = HOST) -> None:
        self.suites = suites
        self._architecture = architecture
        other = "" if architecture == HOST else f"-{architecture}"
        self._directory = cache_dir() / "apt" / f"{suites[0]}{other}"

    def newest(self, pattern: str) -> str:
        """
        Return the newest package whose whole name matches a POSIX expression.

        :raises PackageError: if there is none.
        """
        names = self.names(pattern)
        if not names:
            raise PackageError(f"no package {pattern} in {', '.join(self.suites)}")
        return names[-1]

    def names(self, pattern: str) -> list[str]:
        """Return the packages with matching names, oldest version number first."""
        found = self._apt("apt-cache", "search", "--names-only", f"^{pattern}$")
        return sorted(
            (line.split(" ", 1)[0] for line in found.splitlines()), key=_natural_order
        )

    def direct_dependencies(self, name: str) -> list[str]:
        """Return the packages that a package names in its Depends field."""
        output = self._apt("apt-cache", "depends", "--important", name)
        return re.findall(r"^ *\|?Depends: ([^<\s]+)$", output, re.MULTILINE)

    def closure(self, names: Sequence[str]) -> list[str]:
        """Return the packages with all they depend on, on an empty machine."""
        simulated = self._apt(
            "apt-get", "install", "--simulate", "--no-install-recommends", *names
        )
        return re.findall(r"^Inst (\S+)", simulated, re.MULTILINE)

    @contextmanager
    def downloaded(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """
        Fetch packages and lend their files, in the order of ``names``.

        The files are deleted when the borrower is done, but stay if it fails or is
        interrupted: a second try goes on with the package that was not yet complete.
        """
        directory = self._directory / "debs"
        with locked(directory):
            directory.mkdir(exist_ok=True)
            listed = self._apt("apt-get", "download", "--print-uris", *names)
            self._apt("apt-get", "download", *names, cwd=directory)
            file_names = re.findall(r"^'\S+' (\S+)", listed, re.MULTILINE)
            by_package = {name.split("_", 1)[0]: name for name in file_names}
            debs = [directory / by_package[name] for name in names]
            yield debs
            for deb in debs:
                deb.unlink()

    def unpack_tree(self, names: Sequence[str], root: Path) -> None:
        """
        Unpack packages and all they depend on into a directory tree.

        No maintainer script runs. The tree is merged-/usr, as all suites are that
        the lab uses, and serves as a guest's or a chroot's root.
        """
        for directory in MERGED_DIRECTORIES:
            (root / "usr" / directory).mkdir(parents=True, exist_ok=True)
            (root / directory).symlink_to(f"usr/{directory}")
        with self.downloaded(self.closure(names)) as debs:
            for deb in debs:
                unpack(deb, root)

    def _apt(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        return _run([tool, *self._options(), "-q", *arguments], cwd=cwd)

    def _options(self) -> tuple[str, ...]:
        return _apt_options(self._directory, self.suites, self._architecture)


def unpack(deb: Path, directory: Path, members: Iterable[str] = ()) -> None:
    """
    Unpack a package, or only the members that match shell patterns.

    :param members: such as ``./boot/vmlinuz-*``; one that matches nothing is an
        error.
    :raises PackageError: if dpkg-deb or tar fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    extract = ["tar", "-x", "--keep-directory-symlink", "-C", str(directory)]
    if os.geteuid():
        extract.append("--no-same-owner")
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
    ) as contents:
        result = subprocess.run(
            [*extract, "--wildcards", *members],
            stdin=contents.stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    if contents.returncode or result.returncode:
        raise PackageError(f"cannot unpack {deb.name}: {result.stderr.strip()}")


@lru_cache(maxsize=None)
def _apt_options(
    directory: Path, suites: tuple[str, ...], architecture: str
) -> tuple[str, ...]:
    """Return the options that keep apt in a directory, after fetching its indexes."""
    with locked(directory):
        for needed in ("lists/partial", "archives/partial"):
            (directory / needed).mkdir(parents=True, exist_ok=True)
        status = directory / "status"
        status.touch()
        sources = directory / "sources.list"
        sources.write_text(_sources_list(suites))
        settings = {
            "Dir::State": directory,
            "Dir::State::status": status,
            "Dir::Cache": directory,
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "" if os.geteuid() else "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = tuple(f"-o{key}={value}" for key, value in settings.items())
        _run(["apt-get", *options, "-q", "update", "--error-on=any"])
    return options


def _sources_list(suites: Iterable[str]) -> str:
    signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return "".join(
        f"deb {signed_by}{mirror(suite.endswith('-security'))} {suite} main\n"
        for suite in suites
    )


def mirror(security: bool) -> str:
    """Return the URI of the mirror this machine's own apt configuration names."""
    targets = _run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ]
    )
    for line in targets.splitlines():
        uri, release, component = line.split()
        is_debian = re.search(r"/debian(-security)?/?$", uri)
        if is_debian and component == "main":
            if release.rstrip("/").endswith("security") == security:
                return uri
    kind = "Debian security" if security else "Debian"
    raise PackageError(f"apt's configuration on this machine names no {kind} mirror")


def _natural_order(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise PackageError(f"{command[0]} is not installed")
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise PackageError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
