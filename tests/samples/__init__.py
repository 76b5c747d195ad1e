# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The samples in vmcores/: what the manifest says of them, and how to unpack them."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ("MANIFEST", "SAMPLES_DIR", "Sample", "samples", "write_manifest")

SAMPLES_DIR = Path(__file__).resolve().parents[2] / "vmcores"
MANIFEST = SAMPLES_DIR / "manifest.json"


@dataclass(frozen=True)
class Sample:
    """One slice, and what was true when its guest was dumped."""

    name: str
    release: str
    """``uname -r``."""
    made: str
    """How, in a sentence."""
    sha256: str
    """Of the file as it is stored."""
    unpacked_sha256: str
    unpacked_bytes: int
    sha256_of: dict[str, str]
    """Of the guest's own files that are stored beside it."""
    vmalloc_used_kib: int
    """VmallocUsed of the guest's /proc/meminfo."""

    @property
    def packed(self) -> Path:
        """The slice, compressed by xz."""
        return SAMPLES_DIR / f"{self.name}.xz"

    @property
    def vmallocinfo(self) -> bytes:
        """What /proc/vmallocinfo held, to a root reader."""
        return (SAMPLES_DIR / f"{self.name}.vmallocinfo").read_bytes()

    @property
    def truth(self) -> str:
        """What the fixture module's /proc/vmap_lab held."""
        return (SAMPLES_DIR / f"{self.name}.vmap_lab").read_text()

    def unpack(self, path: Path) -> Path:
        """
        Write the vmcore that drgn opens.

        :raises ValueError: if it is not what the manifest says.
        """
        packed = self.packed.read_bytes()
        if hashlib.sha256(packed).hexdigest() != self.sha256:
            raise ValueError(f"{self.packed} is damaged: check it out again")
        path.write_bytes(lzma.decompress(packed))
        return path


def samples() -> list[Sample]:
    """Return what the manifest lists, oldest kernel first."""
    text = MANIFEST.read_text(encoding="utf-8")
    return [Sample(**sample) for sample in json.loads(text)["samples"]]


def write_manifest(listed: list[Sample]) -> None:
    """Write the manifest anew."""
    document = {"samples": [asdict(sample) for sample in listed]}
    MANIFEST.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
