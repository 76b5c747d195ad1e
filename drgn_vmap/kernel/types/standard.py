# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Standard types
--------------

What stands in for types that are lost with the pages of BTF that told them. Small structs
that all others are made of, and the C types of members, that are the same in each kernel
that has them. No offset of a member stands here: these are the kernel's own, or unknown.
"""

from typing import Dict, Optional, Tuple

__all__ = (
    "FEWEST_NAMES",
    "LOST_NAME",
    "MEMBERS",
    "ORDERS",
    "PERHAPS",
    "STRUCTS",
    "UNIONS",
    "may_be",
    "names_of_lost",
)

LOST_NAME = "?"
"""With what the names begin that stand for lost ones."""

FEWEST_NAMES = 2
"""Members by which a struct is known of which other names are lost."""

_WORD = "unsigned long"
_POINTER = "void *"

STRUCTS: Dict[str, Tuple[Tuple[str, str], ...]] = {
    # include/linux/types.h.
    "list_head": (("next", "struct list_head *"), ("prev", "struct list_head *")),
    "llist_head": (("first", "struct llist_node *"),),
    "llist_node": (("next", "struct llist_node *"),),
    # include/linux/rbtree_types.h.
    "rb_node": (
        ("__rb_parent_color", _WORD),
        ("rb_right", "struct rb_node *"),
        ("rb_left", "struct rb_node *"),
    ),
    "rb_root": (("rb_node", "struct rb_node *"),),
    # mm/vmalloc.c; there is a lock behind these.
    "rb_list": (("root", "struct rb_root"), ("head", "struct list_head")),
}
"""The name and the C type of each member; they follow one another without gaps."""

MEMBERS: Dict[str, Dict[str, str]] = {
    "vmap_area": {
        "va_start": _WORD,
        "va_end": _WORD,
        "rb_node": "struct rb_node",
        "list": "struct list_head",
        "flags": _WORD,
    },
    "vm_struct": {
        "addr": _POINTER,
        "size": _WORD,
        "flags": _WORD,
        "pages": _POINTER,
        "phys_addr": "unsigned long",
        "caller": _POINTER,
        "requested_size": _WORD,
    },
    "list_head": {"next": _POINTER, "prev": _POINTER},
    "rb_node": {"__rb_parent_color": _WORD, "rb_right": _POINTER, "rb_left": _POINTER},
    "rb_root": {"rb_node": _POINTER},
    "vmap_node": {
        "busy": "struct rb_list",
        "lazy": "struct rb_list",
        "purge_list": "struct list_head",
        "nr_purged": _WORD,
    },
    "rb_list": {"root": "struct rb_root", "head": "struct list_head"},
}
"""C types of members, by the struct's tag, of kernels of 64 bits."""

ORDERS: Dict[str, Tuple[Tuple[str, ...], ...]] = {
    "vmap_area": (
        # Since Linux kernel commit 688fcbfc06e4 ("mm/vmalloc: modify struct vmap_area to
        # reduce its size") (in v5.4).
        ("va_start", "va_end", "rb_node", "list", ""),
        # Since Linux kernel commit 869176a09606 ("mm/vmalloc.c: add flags to mark
        # vm_map_ram area") (in v6.3).
        ("va_start", "va_end", "rb_node", "list", "", "flags"),
    ),
    "vm_struct": (
        ("next", "addr", "size", "flags", "pages", "nr_pages", "phys_addr", "caller"),
        # Since Linux kernel commit 121e6f3258fe ("mm/vmalloc: hugepage vmalloc
        # mappings") (in v5.13).
        (
            *("next", "addr", "size", "flags", "pages", "page_order", "nr_pages"),
            *("phys_addr", "caller"),
        ),
    ),
    "vmap_node": (
        (
            *("pool", "pool_lock", "skip_populate", "busy", "lazy", "purge_list"),
            *("purge_work", "nr_purged"),
        ),
    ),
    "list_head": (("next", "prev"),),
    "rb_node": (("__rb_parent_color", "rb_right", "rb_left"),),
    "rb_root": (("rb_node",),),
    "rb_list": (("root", "head", "lock"),),
}
"""The names of members in each order that there has been."""


UNIONS: Dict[str, Dict[str, str]] = {
    "vmap_area": {"subtree_max_size": _WORD, "vm": _POINTER}
}
"""
Members of the only union without a name in a struct, by its tag: those that it has in each
kernel.
"""

PERHAPS: Dict[str, str] = {"vmap_area": "purge_list"}
"""And the one that only some have."""


def may_be(name: Optional[str], wanted: str) -> bool:
    """Return whether what stands for a name that is lost may stand for this one."""
    if not name or not name.startswith(LOST_NAME):
        return False
    return name[len(LOST_NAME) :] in (wanted, "") or name[len(LOST_NAME) :].isdigit()


def names_of_lost(
    tag: str, names: Tuple[Optional[str], ...]
) -> Tuple[Optional[str], ...]:
    """
    Return the names of a struct's members, with those that are lost.

    :param tag: Of the struct.
    :param names: Those that are known, None for others.
    :return: The same, if they do not tell which order it is.
    """
    # Structs that STRUCTS has were never different; of others, some of it has to agree.
    if tag not in STRUCTS and sum(map(bool, names)) < FEWEST_NAMES:
        return names
    fitting = [
        order
        for order in ORDERS.get(tag, ())
        if len(order) == len(names)
        and all(name in (None, one) for name, one in zip(names, order))
    ]
    return fitting[0] if len(fitting) == 1 else names
