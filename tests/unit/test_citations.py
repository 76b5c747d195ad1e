# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Citations
---------

Who reads that a kernel does something since some version can look up why: a comment
names the commit, its subject and the version it came in. Docstrings and messages may
name the version alone, of a commit that a comment of the package names.
"""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import drgn
import pytest

from tests.sources import ROOT, python_files, tree_of

#: What CONTRIBUTING.md asks for, and in which stable kernels the commit is as well.
CITATION = re.compile(
    r'[Cc]ommit ([0-9a-f]{12}) \("((?:(?!"\)).)+)"\) '
    r"\(in v(\d+\.\d+)((?:, also in [^)]+)?)\)"
)
COMMIT = re.compile(r"commits? [0-9a-f]{7,40}\b", re.I)
VERSION = re.compile(r"(?<!Python )(?<!QEMU )(?<!drgn )\bv?([3-9]\.\d{1,2})\b(?!\.\d)")
#: A version from which on, or up to which, a kernel does something.
BOUNDARY = re.compile(
    r"\b(since|before|after|until|up to|from|to|in) (?:Linux )?v?([3-9]\.\d{1,2})\b"
    r"|\bv([3-9]\.\d{1,2})\b",
    re.I,
)
#: Of a version behind these it is not clear whether it has the change.
UNCLEAR = {"after", "until", "up to", "from", "to"}
HASH = re.compile(r"[0-9a-f]{12}")


class Citation(NamedTuple):
    """What a comment says about a commit."""

    commit: str
    subject: str
    version: str
    """The one of Linus's tree, without "v"."""


def comments(text: str) -> Iterator[Tuple[int, str]]:
    """Yield each comment, those on lines that follow each other as one."""
    lines: List[str] = []
    first, last, column = 0, 0, 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        row, at = token.start
        if lines and (row, at) != (last + 1, column):
            yield first, " ".join(lines)
            lines = []
        if not lines:
            first = row
        last, column = row, at
        lines.append(token.string.lstrip("#:").strip())
    if lines:
        yield first, " ".join(lines)


def citations(text: str) -> List[Citation]:
    """Return what is cited as it should be."""
    return [Citation(*found[:3]) for found in CITATION.findall(text)]


def wrong_in_comment(text: str) -> List[str]:
    """Return what a comment cites wrongly, and versions that it gives no reason for."""
    rest = CITATION.sub("", text)
    reasons = " ".join(
        f"{version} {also}" for _, _, version, also in CITATION.findall(text)
    )
    known = set(VERSION.findall(reasons))
    wrong = COMMIT.findall(rest)
    return wrong + [
        version for version in VERSION.findall(rest) if version not in known
    ]


def wrong_in_string(text: str, known: Set[str]) -> List[str]:
    """Return versions that no commit is known for, or that may be meant in two ways."""
    text = " ".join(text.split())
    return [
        found[0]
        for found in BOUNDARY.finditer(text)
        if (found[2] or found[3]) not in known or (found[1] or "").lower() in UNCLEAR
    ]


def strings(tree: ast.Module) -> Iterator[Tuple[int, str]]:
    """Yield each string, docstrings too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def named_in_code(tree: ast.Module) -> Iterator[Tuple[str, str]]:
    """Yield each pair of a commit's hash and its subject that the code itself uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple):
            values = [str(getattr(element, "value", "")) for element in node.elts]
            if len(values) == 2 and HASH.fullmatch(values[0]):
                yield values[0], values[1]


def cited_in(paths: List[Path]) -> Set[Citation]:
    """Return all that the comments of some files cite."""
    return {
        citation
        for path in paths
        for _, comment in comments(path.read_text(encoding="utf-8"))
        for citation in citations(comment)
    }


def _package() -> List[Path]:
    return python_files("drgn_vmap", "scripts")


def _everywhere() -> List[Path]:
    return python_files("drgn_vmap", "scripts", "contrib", "tests")


def test_every_version_in_a_comment_has_its_commit() -> None:
    """A comment that says since when names commit, subject and version."""
    found = {
        f"{path.relative_to(ROOT)}:{line}": wrong_in_comment(comment)
        for path in _package()
        for line, comment in comments(path.read_text(encoding="utf-8"))
    }
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def test_every_version_in_a_text_is_that_of_a_commit() -> None:
    """What docstrings and messages say, a comment somewhere gives the reason for."""
    known = {citation.version for citation in cited_in(_package())}
    found = {
        f"{path.relative_to(ROOT)}:{line}": wrong_in_string(text, known)
        for path in _package()
        for line, text in strings(tree_of(path))
    }
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def test_a_commit_has_one_subject_and_one_version() -> None:
    """Wherever it is cited, and a subject belongs to one commit."""
    by_commit: Dict[str, Set[Tuple[str, str]]] = {}
    by_subject: Dict[str, Set[str]] = {}
    for citation in cited_in(_everywhere()):
        by_commit.setdefault(citation.commit, set()).add(citation[1:])
        by_subject.setdefault(citation.subject, set()).add(citation.commit)
    assert {key: said for key, said in by_commit.items() if len(said) > 1} == {}
    assert {key: said for key, said in by_subject.items() if len(said) > 1} == {}


def test_the_code_names_commits_as_the_comments_do() -> None:
    """What is printed about a commit is what comments say."""
    said = {citation.commit: citation.subject for citation in cited_in(_everywhere())}
    named = {pair for path in _package() for pair in named_in_code(tree_of(path))}
    assert named
    assert {pair for pair in named if said.get(pair[0], pair[1]) != pair[1]} == set()


def test_drgn_says_the_same() -> None:
    """drgn's own sources cite some of the commits."""
    theirs = {
        citation.commit: citation
        for citation in cited_in(sorted(Path(drgn.__file__).parent.rglob("*.py")))
    }
    ours = {citation for citation in cited_in(_everywhere())}
    both = {citation for citation in ours if citation.commit in theirs}
    assert "d093602919ad" in {citation.commit for citation in both}
    assert both == {theirs[citation.commit] for citation in both}


@pytest.mark.parametrize(
    "comment",
    [
        "Since v6.5 a flush empties them.",
        "Newer kernels (v6.10) pass it down.",
        "The list that 5.11 removed.",
        "It was another flag (5.13 to 5.17).",
        "Since Linux kernel commit 0123456789ab (in v6.5), it is there.",
        'Since commit 0123456789ab ("mm: a subject"), it is there.',
        'Since commit 01234567 ("mm: a subject") (in v6.5), it is there.',
        'Commit 0123456789ab ("mm: a"), and commit ba9876543210 ("mm: b") (in v6.5).',
        'Since commit 0123456789ab ("mm: a subject") (in v6.5); gone since 6.9.',
    ],
)
def test_a_bare_version_is_seen(comment: str) -> None:
    """Each way to leave out what has to be named is found."""
    assert wrong_in_comment(comment)


@pytest.mark.parametrize(
    "comment",
    [
        'Since Linux kernel commit 0123456789ab ("mm: it\'s f()") (in v6.5), it is.',
        'Since commit 0123456789ab ("a: say "big"") (in v6.1), that is of 6.1.',
        'In commit 0123456789ab ("mm: x") (in v6.10, also in v6.6.y), so 6.6 has it.',
        "Needs Python 3.8, and takes 2.5 seconds.",
    ],
)
def test_a_whole_citation_is_left_alone(comment: str) -> None:
    """What names all of it, or says nothing about a change, is fine."""
    assert wrong_in_comment(comment) == []


def test_a_text_needs_a_version_that_is_cited() -> None:
    """Only the first version that has a change is named, and it has to be known."""
    assert wrong_in_string("nodes, since\n    Linux 6.9", {"6.9"}) == []
    assert wrong_in_string("nodes, since Linux 6.8", {"6.9"})
    assert wrong_in_string("the series (v6.8)", {"6.9"})
    assert wrong_in_string("one list, until 6.9", {"6.9"})


def test_comments_that_follow_each_other_are_one() -> None:
    """A citation goes over several lines; code ends it, and so does another column."""
    text = "# a\n# b\nx = 1  # c\n#: d\n\n# e\nif x:\n    # f\n    pass\n"
    assert list(comments(text)) == [(1, "a b"), (3, "c"), (4, "d"), (6, "e"), (8, "f")]
