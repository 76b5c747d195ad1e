# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where others have told drgn the types of a kernel, they are asked, and completed: answers
are what they are without them, on the samples in vmcores/.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Iterator

import pytest
from drgn import Program

from drgn_vmap import load_types, take_snapshot
from drgn_vmap.commands import run
from drgn_vmap.kernel.types.carried import carried_by
from drgn_vmap.kernel.types.debug_info import has_dwarf
from tests.fakes import finders
from tests.fakes.finders import FINDERS, broken, declared_only, register
from tests.samples import Sample, samples
from tests.samples.answers import Answer, answers


@pytest.fixture(scope="module", params=samples(), ids=lambda sample: sample.name)
def unpacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sample, Path, bytes]]:
    """Each sample, where it is, and the BTF in it."""
    path = request.param.unpack(tmp_path_factory.mktemp("sample") / "slice")
    carried = carried_by(opened(path))
    start, stop = (
        carried.kallsyms.find(opened(path), f"__{end}_BTF", None, True)[0].address
        for end in ("start", "stop")
    )
    prog = opened(path)
    yield request.param, path, prog.read(start, stop - start)
    path.unlink()


@pytest.fixture(scope="module")
def without(unpacked: tuple[Sample, Path, bytes]) -> dict[str, Answer]:
    """What every verb says of a sample where nobody else tells its types."""
    return answers(opened(unpacked[1]))


def opened(path: Path) -> Program:
    """Return what drgn makes of a vmcore, without any debug info."""
    prog = Program()
    prog.set_core_dump(path)
    return prog


def listed(prog: Program) -> str:
    """Return what `vmap ls` prints, as the kernel itself would."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run("ls", prog, ["--pointers", "auto"]) == 0
    return out.getvalue()


@pytest.mark.parametrize("like", FINDERS)
def test_listed(unpacked: tuple[Sample, Path, bytes], like: str) -> None:
    """Whoever tells the types, the list is the kernel's own, and it is said who does."""
    sample, path, btf = unpacked
    name, answer = FINDERS[like]
    prog = opened(path)
    register(prog, name, answer, btf)
    assert listed(prog) == sample.vmallocinfo.decode()
    assert take_snapshot(prog).kernel.symbols == load_types(prog) == name
    assert not has_dwarf(prog)


@pytest.mark.parametrize("answer", [declared_only, broken])
def test_no_answer(
    unpacked: tuple[Sample, Path, bytes], answer: finders.Answer
) -> None:
    """Who knows no members does not count, nor who fails; ours are asked before them."""
    sample, path, btf = unpacked
    prog = opened(path)
    register(prog, "ctf", answer, btf)
    assert load_types(prog) == "btf"
    assert listed(prog) == sample.vmallocinfo.decode()


def test_names_that_others_know_too(unpacked: tuple[Sample, Path, bytes]) -> None:
    """A symbol that two finders find at one address is one."""
    sample, path, _ = unpacked
    prog = opened(path)
    theirs = carried_by(opened(path)).kallsyms
    prog.register_symbol_finder("vmlinux_kallsyms", theirs.find, enable_index=0)
    assert listed(prog) == sample.vmallocinfo.decode()


def told(found: dict[str, Answer], symbols: str) -> dict[str, Answer]:
    """Return answers as if types were from the kernel's own BTF."""
    words = {f'"symbols": "{symbols}"': '"symbols": "btf"'}
    words[f"types from {symbols}"] = "types from btf"
    for question, (status, out, err) in found.items():
        for word, other in words.items():
            out = out.replace(word, other)
        found[question] = status, out, err
    return found


@pytest.mark.parametrize("like", FINDERS)
def test_all_answers(
    unpacked: tuple[Sample, Path, bytes], without: dict[str, Answer], like: str
) -> None:
    """Every verb says the same, whoever tells the types."""
    _, path, btf = unpacked
    name, answer = FINDERS[like]
    prog = opened(path)
    register(prog, name, answer, btf)
    found = answers(prog)
    assert f'"symbols": "{name}"' in found["blocks --json"][1]
    assert told(found, name) == without


def test_a_finder_that_goes_away(unpacked: tuple[Sample, Path, bytes]) -> None:
    """Who tells the types is asked anew each time."""
    sample, path, btf = unpacked
    prog = opened(path)
    register(prog, *FINDERS["ctf"], btf)
    assert load_types(prog) == "ctf"
    others = [name for name in prog.enabled_type_finders() if name != "ctf"]
    prog.set_enabled_type_finders(others)
    assert load_types(prog) == "btf"
    assert listed(prog) == sample.vmallocinfo.decode()
