# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Try inputs for a while, or one again, and say what went wrong."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from random import SystemRandom
from typing import Iterator, Optional

from tabulate import tabulate

from .inputs import Input, load, save
from .source import KINDS, Source, open_samples, targets
from .trial import Outcome, Trials
from .verdict import Failure

ROOT = Path(__file__).parents[2]
_KEPT = ROOT / "build" / "fuzz"
_SECONDS = 60
_VERB_HEADS = (
    *("verb", "runs", "mean ms", "most ms", "exit 0", "exit 1", "exit 2", "failures"),
)


@dataclass
class Tally:
    """What became of all inputs."""

    begun: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=lambda: _cpu_seconds())
    inputs: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unopened: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[tuple[str, Optional[int]]] = field(default_factory=Counter)
    by_verb: Counter[str] = field(default_factory=Counter)
    alike: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """How often each verb failed in the same way at the same place."""
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    """The name of the first input that failed so."""

    def add(self, input_: Input, outcome: Outcome) -> Iterator[Failure]:
        """Count one, and yield what failed so for the first time; that is kept."""
        kind = input_.kind
        self.inputs[kind] += 1
        self.unopened[kind] += outcome.unopened
        for verb, seconds in outcome.seconds.items():
            self.runs[kind] += len(seconds)
            self.seconds[verb] += seconds
        self.statuses.update(outcome.statuses)
        self.failed[kind] += bool(outcome.failures)
        for failure in outcome.failures:
            self.by_verb[failure.verb] += 1
            kind_of_failure = failure.what, failure.where
            self.alike[kind_of_failure][failure.verb] += 1
            if kind_of_failure not in self.kept:
                self.kept[kind_of_failure] = input_.name
                path = _KEPT / f"{input_.name}.json"
                save(input_, path, failure=failure.detail.splitlines())
                yield failure

    def summary(self) -> str:
        """Return it all as tables."""
        runs, inputs = sum(self.runs.values()), sum(self.inputs.values())
        elapsed, busy = time.monotonic() - self.begun, _cpu_seconds() - self.busy
        parts = [
            f"{inputs} inputs, {runs} runs, {runs / elapsed:.0f} runs a second, "
            f"{runs / busy:.0f} a second of CPU"
        ]
        rows = [
            (kind, n, self.runs[kind], self.unopened[kind], self.failed[kind])
            for kind, n in self.inputs.items()
        ]
        heads = ("damage", "inputs", "runs", "not opened", "failed")
        parts.append(tabulate(rows, heads))
        verbs = [
            (
                verb,
                len(taken),
                f"{1000 * sum(taken) / len(taken):.0f}",
                f"{1000 * max(taken):.0f}",
                *(self.statuses[verb, status] for status in (0, 1, 2)),
                self.by_verb[verb],
            )
            for verb, taken in self.seconds.items()
        ]
        parts.append(tabulate(verbs, _VERB_HEADS))
        often = sorted(self.alike.items(), key=lambda item: -item[1].total())
        failures = [
            (verbs.total(), *kind, " ".join(sorted(verbs)), self.kept[kind])
            for kind, verbs in often
        ]
        if failures:
            heads = ("times", "failure", "where", "verbs", "again: make fuzz REPLAY=")
            parts.append(tabulate(failures, heads, disable_numparse=True))
        else:
            parts.append("nothing failed")
        return "\n\n".join(parts)


def main() -> None:
    """Try inputs; exit with 1 if any failed."""
    args = _arguments()
    sampled = open_samples()
    trials = Trials(targets(sampled))
    seed = args.seed or str(SystemRandom().randrange(1_000_000))
    source = Source(sampled, seed, args.runs, args.kind or [*KINDS])
    if args.replay:
        sys.exit(_replay(trials, _input_again(source, args.replay)))
    print(f"seed {seed}", flush=True)
    tally = Tally()
    _KEPT.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(source, args.count, args.seconds)
    try:
        for input_, outcome in trials.outcomes(inputs, args.jobs):
            for failure in tally.add(input_, outcome):
                print(f"{input_.name}: {failure.verb}: {failure.what} {failure.where}")
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted")
    print(f"\n{tally.summary()}")
    sys.exit(bool(tally.alike))


def _inputs(source: Source, count: Optional[int], seconds: float) -> Iterator[Input]:
    """Yield inputs; first those with which nothing is wrong."""
    yield from source.undamaged()
    until = time.monotonic() + seconds
    for number in range(count) if count is not None else itertools.count():
        if count is None and time.monotonic() > until:
            return
        yield source.input(number)


def _cpu_seconds() -> float:
    """Return what this process and those that have ended took, in both modes."""
    return sum(os.times()[:4])


def _input_again(source: Source, name: str) -> Input:
    """Return the input that is kept under a name, or draw it again."""
    kept = _KEPT / f"{name}.json"
    return load(kept) if kept.exists() else source.named(name)


def _replay(trials: Trials, input_: Input) -> bool:
    """Try an input again, and show it as a test would write it."""
    outcome = trials.outcome(input_)
    text = pformat(input_, width=88)
    print(text if len(text) < 20_000 else f"{text[:20_000]} …")
    for failure in outcome.failures:
        print(f"\n{failure.what}: {failure.where}\n{failure.detail}")
    print(f"\n{len(outcome.failures)} failures")
    return bool(outcome.failures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz FUZZ=", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="how long (default: %(default)s)",
    )
    parser.add_argument(
        "--count", type=int, help="how many inputs, however long that takes"
    )
    parser.add_argument("--seed", help="of the inputs (default: any)")
    parser.add_argument(
        "--runs", type=int, default=6, help="verbs an input (default: 6)"
    )
    parser.add_argument(
        "--kind", action="append", choices=[*KINDS], help="only damage of this kind"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="inputs at a time (default: 1)"
    )
    parser.add_argument(
        "--replay",
        metavar="NAME",
        help="the input to try again; one that is not in build/fuzz is drawn again, with "
        "the same --kind and --runs",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
