# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What areas are summed up by, by their owners
--------------------------------------------
"""

from collections import Counter
from typing import Tuple

from ..model.owners import Owner, OwnerKind

__all__ = ("owner_key",)

_NO_OWNER = "(no owner known)"
_ALL_ALIKE = (OwnerKind.PERCPU, OwnerKind.CACHED_STACK, OwnerKind.PAGE_ARRAY)
_BY_ID = (OwnerKind.BPF_PROGRAM, OwnerKind.BPF_MAP)
_MOST_OWNERS = 4
"""An area of more, such as one that many programs' code shares, is summed by kinds."""


def owner_key(owners: Tuple[Owner, ...]) -> str:
    """Return what areas of these owners are summed up by: who is the first, or several."""
    words = dict.fromkeys(map(_owner_words, owners))
    if len(words) > _MOST_OWNERS:
        kinds = Counter(str(one.kind) for one in owners)
        return ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items())
    return ", ".join(words) or _NO_OWNER


def _owner_words(owner: Owner) -> str:
    if owner.kind in _ALL_ALIKE:
        return str(owner.kind)
    id_ = f" {owner.id}" if owner.id is not None and owner.kind in _BY_ID else ""
    return f"{owner.kind}{id_} {owner.name}"
