# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel's source from Debian's package, to be configured, patched and built."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from .chroot import WORK, ChrootError, run_in_tree

__all__ = ("PATCHES", "KernelTree")

PATCHES = Path(__file__).parents[2] / "contrib" / "linux"

NOT_BUILT = (
    "Documentation/[a-z]*",
    "drivers/gpu/*.[ch]",
    "drivers/net/*.[ch]",
    "sound/*.c",
)
"""Half of the source, of which only Kconfig files and Makefiles are read."""

OPTION = re.compile(r"(?:# )?(CONFIG_\w+)(?:=.*| is not set)")
"""A line of a .config that is no mere comment."""


@dataclass(frozen=True)
class KernelTree:
    """Where a kernel is built."""

    tools: Path
    """The tree of Debian packages that builds it."""

    source: Path
    """Of the kernel, and the objects made of it."""

    target: tuple[str, ...] = ()
    """Variables of make that say for which machine and with which compiler."""

    def unpack(self, package: str) -> None:
        """Unpack the source that a package brought into the tree of tools."""
        archive = f"usr/src/{package}.tar.xz"
        exclude = [f"--exclude={package}/{pattern}" for pattern in NOT_BUILT]
        tar = ("tar", "-xf", f"/{archive}", "-C", WORK, "--strip-components=1")
        run_in_tree(self.tools, self.source, *tar, "--no-same-owner", *exclude)
        (self.tools / archive).unlink()

    def configure(self, options: Sequence[str]) -> None:
        """
        Write .config.

        :param options: Lines of a .config and comments; of what is said twice, the last
            counts, and all else is left out.
        :raises ChrootError: if an option is not there, has unmet needs or is needed.
        """
        wanted = _by_option(options)
        (self.source / "lab.config").write_text("\n".join((*wanted.values(), "")))
        self.make(f"KCONFIG_ALLCONFIG={WORK}/lab.config", "allnoconfig")
        chosen = _by_option((self.source / ".config").read_text().splitlines())
        missing = [
            line
            for option, line in wanted.items()
            # What nobody can choose without another option is not mentioned.
            if chosen.get(option, f"# {option} is not set") != line
        ]
        if missing:
            raise ChrootError(f"kernel options without effect: {', '.join(missing)}")

    def patch(self, patch: Path) -> None:
        """Apply a patch."""
        shutil.copy(patch, self.source)
        run = ("patch", "-p1", f"--input={WORK}/{patch.name}", f"--directory={WORK}")
        run_in_tree(self.tools, self.source, *run)

    @property
    def release(self) -> str:
        """What ``uname -r`` will print."""
        return (self.source / "include/config/kernel.release").read_text().strip()

    def make(self, *arguments: str) -> None:
        """Run make on all processors."""
        make = ("make", "-C", WORK, "-s", f"-j{os.cpu_count() or 1}")
        builder = ("KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab")
        arguments = (*make, *self.target, *builder, *arguments)
        run_in_tree(self.tools, self.source, *arguments)


def _by_option(lines: Iterable[str]) -> dict[str, str]:
    """Return the line of each option; the last one counts."""
    matches = filter(None, map(OPTION.fullmatch, lines))
    return {match[1]: match[0] for match in matches}
