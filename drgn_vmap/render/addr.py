# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Addresses
---------

What is at an address, for people and as JSON.
"""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from ..model.areas import Area, State
from ..model.kcore import Returned
from ..model.owners import Owner
from ..model.places import Place
from .escape import printable
from .records import area_json, owner_text, owners_json
from .sizes import counted, size_text

__all__ = ("place_json", "place_text")

_KCORE_TEXTS = {
    Returned.DATA: "returns what memory holds",
    Returned.ZEROS: "returns zeros",
    Returned.OTHER_PAGE: "returns the bytes of another page",
    Returned.UNDEFINED: "returns no certain bytes",
}


def place_text(place: Place, live: bool = False) -> str:
    """
    Return what is at an address in a few lines.

    :param live: Whether drgn would read it through /proc/kcore.
    """
    if place.address is None:
        return f"{printable(place.asked)}: {_unmapped(place)}\n"
    lines = [_headline(place)]
    lines += [f"  {name:10}{text}" for name, text in _facts(place)]
    if live and _is_lost(place):
        lines.append(f"  {'cure':10}%vmap direct has drgn read it right")
    return "\n".join(lines) + "\n"


def place_json(place: Place) -> Dict[str, Any]:
    """Return a place as JSON has it: what does not apply is absent."""
    kcore = place.kcore
    values: Dict[str, Any] = {
        "asked": place.asked,
        "address": None if place.address is None else f"{place.address:#x}",
        "area": place.area and _as_listed(place.area),
        **owners_json(place.area.owners if place.area else ()),
        "page": place.page,
        "guard": _is_bare_guard(place) if place.area else None,
        "vb": None if place.vb is None else f"{place.vb:#x}",
        "block_page": _block_page(place),
        "phys": None if place.phys is None else f"{place.phys:#x}",
        "phys_by": "vm_struct" if place.by_vm_struct else None,
        "missing": _missing(place),
        "kcore": kcore
        and {
            key: value
            for key, value in (
                ("returns", kcore.returns.value),
                ("page", kcore.page),
                ("why", kcore.why),
            )
            if value is not None
        },
        "region": place.region
        and {
            "name": place.region.name,
            "start": f"{place.region.start:#x}",
            "end": f"{place.region.end:#x}",
        },
        "below": place.below and _as_listed(place.below),
        "above": place.above and _as_listed(place.above),
    }
    return {key: value for key, value in values.items() if value is not None}


def _is_lost(place: Place) -> bool:
    """Whether there is memory that /proc/kcore does not return, and no device's."""
    answer, area = place.kcore, place.area
    lost = answer is not None and answer.returns != Returned.DATA
    is_memory = place.phys is not None and area is not None
    return lost and is_memory and not (area and "ioremap" in area.kinds)


def _is_bare_guard(place: Place) -> bool:
    return place.is_guard and place.phys is None


def _missing(place: Place) -> Optional[Dict[str, str]]:
    """Return why there is no address, no physical one, or no page."""
    missing = {}
    if place.address is None:
        missing["address"] = f"no area in use maps {place.phys:#x}"
    elif place.phys is None:
        missing["phys"] = "not mapped" if place.phys_known else "unreadable"
    if place.no_page:
        missing["page"] = place.no_page
    return missing or None


def _unmapped(place: Place) -> str:
    more = f"; {printable(place.no_page)}" if place.no_page else ""
    return f"no area in use maps {place.phys:#x}{more}"


def _headline(place: Place) -> str:
    area, address = place.area, f"{place.address:#x}"
    if place.asked != address:
        address = f"{printable(place.asked)} at {address}"
    if place.region:
        return f"{address}: {printable(place.region.name)}, outside vmalloc space"
    if area is None:
        return f"{address}: no area"
    if area.state == State.BUSY:
        what = f"{' '.join(area.kinds) or 'area of no kind'}, in use"
    else:
        what = f"{area.state.label} range"
    return f"{address}: {what}, {size_text(area.size)}"


def _facts(place: Place) -> List[Tuple[str, str]]:
    area = place.area
    facts = []
    if place.region:
        facts.append(("region", f"{place.region.start:#x}-{place.region.end:#x}"))
    elif area:
        facts.append(("area", f"{area.start:#x}-{area.end:#x}"))
    if area and place.page is not None:
        guard = ", which only guards its end" if _is_bare_guard(place) else ""
        facts.append(("page", f"{place.page}{guard}{_pages(area)}"))
    if area and area.caller:
        facts.append(("caller", printable(area.caller)))
    facts += [("owner", _owner_line(owner)) for owner in (area.owners if area else ())]
    if place.block_page is not None:
        facts.append(
            ("block", f"{_block_page(place)} page of vmap_block {place.vb:#x}")
        )
    facts.append(("physical", _phys_text(place)))
    if place.kcore:
        returns = _KCORE_TEXTS[place.kcore.returns]
        if place.kcore.page is not None:
            returns = f"returns the bytes of page {place.kcore.page}"
        facts.append(("kcore", f"{returns}: {place.kcore.why}"))
    facts.append(("below", _neighbour(place, place.below)))
    facts.append(("above", _neighbour(place, place.above)))
    return facts


def _as_listed(area: Area) -> Dict[str, Any]:
    """Return an area as ``ls`` has it, which does not look for owners by itself."""
    return area_json(replace(area, owners=()))


def _owner_line(owner: Owner) -> str:
    detail = f", {printable(owner.detail)}" if owner.detail else ""
    proof = f" (by {printable(owner.proof)})" if owner.proof else ""
    return f"{owner_text(owner)}{detail}{proof}"


def _pages(area: Area) -> str:
    """Return how many pages of memory an area has, and where."""
    if not area.pages:
        return ""
    numa = "".join(f" N{node}={count}" for node, count in (area.numa or {}).items())
    return f"; the area has {counted(area.pages, 'page')}{numa}"


def _block_page(place: Place) -> Optional[str]:
    return None if place.block_page is None else place.block_page.name.lower()


def _phys_text(place: Place) -> str:
    if place.phys is not None:
        source = ", by the area's vm_struct" if place.by_vm_struct else ""
        source += f"; {printable(place.no_page)}" if place.no_page else ""
        return f"{place.phys:#x}{source}"
    return "nothing is mapped" if place.phys_known else "the page table is unreadable"


def _neighbour(place: Place, area: Optional[Area]) -> str:
    if area is None or place.address is None:
        return "no area in use"
    own = None if place.region else place.area
    start, end = (own.start, own.end) if own else (place.address, place.address)
    gap = start - area.end if area.end <= start else area.start - end
    where = f"after {size_text(gap)}" if gap else "next to it"
    name = printable(area.caller or " ".join(area.kinds) or "(no caller)")
    return f"{area.start:#x}-{area.end:#x} {where}, {size_text(area.size)} {name}"
