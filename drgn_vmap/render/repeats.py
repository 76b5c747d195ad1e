# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Repeats
-------

Of a hundred thousand areas most look like many others but for their addresses, so what
stands beside these is made once for all that are alike.
"""

from typing import Callable, Iterable, List, Sequence

from .._numpy import Array, np

__all__ = ("texts_of_rows",)


def texts_of_rows(
    columns: Sequence[Array], make: Callable[[Array], Iterable[str]]
) -> List[str]:
    """
    Return a text for each row.

    :param columns: Numbers that a row's text depends on.
    :param make: Makes the texts of some rows, no two of which are equal.
    """
    values = np.stack([column.astype(np.uint64) for column in columns], axis=1)
    # Most are like the one before.
    differs = (values[1:] != values[:-1]).any(axis=1)
    heads = np.append(0, np.flatnonzero(differs) + 1)[: len(values)]
    lengths = np.diff(np.append(heads, len(values)))
    # Bytes of a row are hashed quicker than a tuple of its numbers.
    record = f"V{values.itemsize * values.shape[1]}"
    keys = values[heads].view(record).reshape(-1).tolist()
    rows = dict(zip(keys, heads.tolist()))
    made = dict(zip(rows, make(np.array(list(rows.values()), np.intp))))
    texts = np.array([made[key] for key in keys], object)
    found: List[str] = np.repeat(texts, lengths).tolist()
    return found
