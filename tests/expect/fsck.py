# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `fsck` has to say of a kernel in which nothing is wrong, and nothing happens."""

from __future__ import annotations

from typing import Any, Collection

__all__ = ("expect_all_ok",)

#: What a kernel does not keep cannot be checked.
SKIPPED = {
    "5.10": {
        "area-flags",
        "area-node-ids",
        "area-nodes",
        "pools",
        "block-sum",
        "block-bump-pointer",
        "block-list-cpu",
        "area-block",
    },
    "6.12": {"block-dirty-count"},
}
SKIPPED.update(
    {name: SKIPPED["5.10"] for name in ("6.1", "6.1-up", "6.1-kasan", "6.1-lto")}
)
SKIPPED.update({name: SKIPPED["6.12"] for name in ("6.12-rt", "7.3")})
SKIPPED["5.10-rhel8"] = SKIPPED["5.10"] | {"free-tree", "area-gaps"}
SKIPPED["6.1-gki66"] = {"area-node-ids", "area-nodes", "pools", "block-dirty-count"}
for _name in ("6.1-v6.5", "6.1-rhel9"):
    SKIPPED[_name] = SKIPPED["6.1-gki66"] | {"block-list-cpu"}


def expect_all_ok(checks: Any, version: str, impossible: Collection[str] = ()) -> None:
    """
    Each check is ok and looked at something, or is known to make no sense.

    :param impossible: Those that this machine's memory does not allow.
    """
    verdicts = {check["id"]: check["verdict"] for check in checks}
    skipped = {id_ for id_, verdict in verdicts.items() if verdict == "skipped"}
    assert skipped == SKIPPED[version] | {*impossible}
    assert {v for id_, v in verdicts.items() if id_ not in skipped} == {"ok"}, checks
    assert all(check["reason"] for check in checks if check["id"] in skipped)
    nothing = {check["id"] for check in checks if not check["checked"]} - skipped
    assert nothing <= {"lazy-pages"}
