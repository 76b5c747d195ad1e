# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a kernel of the lab is, wherever it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from .architecture import Architecture

__all__ = ("Kernel",)


@dataclass(frozen=True)
class Kernel(ABC):
    """A kernel that guests can boot."""

    name: str
    """What the lab calls it, such as ``6.1``."""

    architecture: Architecture
    """What machines it is for."""

    @property
    @abstractmethod
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""

    @property
    @abstractmethod
    def files(self) -> Path:
        """Where ``release``, ``vmlinuz``, ``vmlinux`` and ``modules`` are."""

    @property
    @abstractmethod
    def module_tree(self) -> Path:
        """A tree to chroot into, whose /lib/modules/RELEASE/build builds modules."""

    @property
    def release(self) -> str:
        """What ``uname -r`` prints."""
        return (self.files / "release").read_text()

    @property
    def vmlinuz(self) -> Path:
        """The kernel image QEMU boots."""
        return self.files / "vmlinuz"

    @property
    def vmlinux(self) -> Path:
        """The kernel with its debug information."""
        return self.files / "vmlinux"

    @property
    def modules(self) -> Path:
        """The directory that becomes ``/lib/modules/$(uname -r)``."""
        return self.files / "modules"

    @property
    def debian_architecture(self) -> str:
        """What machines it is for, as Debian calls them."""
        return self.architecture.debian

    @property
    def make_options(self) -> tuple[str, ...]:
        """How make is told for what to build modules."""
        return ()
