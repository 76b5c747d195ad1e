# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""BTF of which many parts are lost, made so that numbers are as hard to tell as can be."""

from __future__ import annotations

import random
import struct
import time

import numpy as np

from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind
from drgn_vmap.kernel.types.torn_btf import UNNUMBERED, find_types
from tests.fakes.btf import Maker

TYPE = 12
"""Bytes of each type here, which is no more than a head."""
LOST = 39_000
"""Types before the first that is there."""
RUNS, RUN = 600, 100
SECONDS = 5


def in_many_runs() -> tuple[BtfData, int]:
    """
    Return BTF without the first types, of which there are many, and without one behind
    each run of those that follow. These are as alike as prototypes are in real BTF, so
    which is which cannot be told, only ruled out by what comes last: functions of them
    all, and before them some types that are not alike; and the first number of these.
    """
    protos = LOST + RUNS * (RUN + 1)
    draw = random.Random(0)
    mixed = [draw.choice((BtfKind.PTR, BtfKind.FUNC_PROTO)) for _ in range(100)]
    kinds = np.array([BtfKind.FUNC_PROTO] * protos + mixed, np.uint32)
    alike = np.flatnonzero(kinds == BtfKind.FUNC_PROTO) + 1
    heads = np.zeros((len(kinds) + len(alike), TYPE // 4), np.uint32)
    heads[: len(kinds), 1] = kinds << 24
    heads[len(kinds) :, 0] = 1
    heads[len(kinds) :, 1] = BtfKind.FUNC << 24
    heads[len(kinds) :, 2] = alike
    gaps = [(0, LOST)]
    gaps += [(at, at + 1) for at in range(LOST + RUN, protos, RUN + 1)]
    for begin, end in gaps:
        heads[begin:end] = 0
    maker = Maker()
    maker.types = heads.astype("<u4").tobytes()
    maker.strings = b"\0f\0"
    header = len(maker.data()) - len(maker.types) - len(maker.strings)
    lost = [(header + TYPE * begin, header + TYPE * end) for begin, end in gaps]
    return BtfData(maker.data(), lost=lost, find_types=find_types), protos + 1


def test_many_runs_take_little_time() -> None:
    """However many are lost, and the types behind them have their numbers."""
    begun = time.process_time()
    found, first = in_many_runs()
    assert time.process_time() - begun < SECONDS
    numbered = found.ids < UNNUMBERED
    assert (~numbered).sum() == RUNS * RUN
    assert found.ids[numbered].tolist() == [*range(first, found.ids[numbered][-1] + 1)]
    assert (found.starts[numbered] == (found.ids[numbered] - 1) * TYPE // 4).all()
    assert numbered.sum() > LOST


def test_members_that_look_like_types() -> None:
    """
    Where a struct is lost up to the type of a member, that and the member's place, a bit
    field's, can be the head of a struct, behind which a type begins. It is none.
    """
    maker = Maker()
    for _ in range(40):
        maker.integer()
    member = maker.next - 1
    maker.strings = maker.strings.ljust(member, b"f")[: member - 1] + b"\0f\0"
    offsets = [BtfKind.STRUCT << 24 | 4 * at for at in range(10)]
    words = [word for offset in offsets for word in (0, member, offset)]
    maker.types += struct.pack(
        "<33I", 0, 1 << 31 | BtfKind.STRUCT << 24 | 10, 8, *words
    )
    maker.next += 1
    maker.integer()
    draw, protos = random.Random(0), []
    for _ in range(300):
        kind = draw.choice((BtfKind.PTR, BtfKind.FUNC_PROTO))
        protos += [maker.next] * (kind == BtfKind.FUNC_PROTO)
        maker.add(kind)
    for proto in protos:
        maker.types += struct.pack("<III", member, BtfKind.FUNC << 24, proto)
        maker.next += 1
    header, struct_at = 24, 16 * 40
    lost = [(header, header + struct_at + 4 * (3 + 3 * 3 + 1))]
    known = BtfData(maker.data())
    found = BtfData(maker.data(), lost=lost, find_types=find_types)
    numbered = found.ids < UNNUMBERED
    assert numbered.sum() > 400
    starts = dict(zip(known.ids.tolist(), known.starts.tolist()))
    for number, start in zip(found.ids[numbered], found.starts[numbered]):
        assert starts[int(number)] == start
