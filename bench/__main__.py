"""`make bench`: measures, prints a table, and writes it to `bench/results/`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import against, machine, picture, rounds
from bench.checkout import RevisionError, open_checkout
from bench.report import RESULTS, Results
from bench.rounds import RoundStep
from bench.scope import AGAINST, CORE, LONG, TINY, Scope


def main() -> int:
    """Measure all figures in rounds and print them; return 1 if a measurement failed."""
    given = _arguments()
    scope = LONG if given.long else TINY if given.tiny else AGAINST if given.against else CORE
    kafka = given.kafka or (os.environ.get("TEST_KAFKA_BROKER") if given.long else None)
    scope = replace(scope, kafka=kafka or None)
    good = _compare(given, scope) if given.against else _bench(given, scope)
    return 0 if good else 1


def _bench(given: argparse.Namespace, scope: Scope) -> bool:
    """Measure this revision."""
    steps = rounds.all_steps(scope)
    if given.only:
        steps = [step for step in steps if step.measure in given.only]
    runs = {step.measure: given.runs or scope.runs.get(step.measure, 1) for step in steps}
    results = Results(_facts(scope))
    limit_s = math.inf if given.runs else scope.limit_s
    good = _run(rounds.round_steps(steps, runs), results, limit_s)
    results.notes += [f"Left out: {what}." for what in scope.left_out]
    results.show()
    if (directory := given.results or (None if given.only or given.tiny else RESULTS)) is not None:
        results.write(directory / scope.name)
        picture.draw(directory, scope.name, results)
    return good


def _compare(given: argparse.Namespace, scope: Scope) -> bool:
    """Measure another revision and this one alternately; return whether all ratios are met."""
    try:
        other = open_checkout(given.against)
    except RevisionError as error:
        sys.exit(str(error))
    results = Results(_facts(scope) | {"other": other.name}, against.Comparison)
    rows = against.chosen(given.only or ())
    entries = against.round_steps(rows, scope, other, given.runs or against.RUNS, given.at_least)
    good = _run(entries, results)
    results.show()
    if given.results is not None:
        results.write(given.results / AGAINST.name)
    return good and all(figure.met for figure in results.figures)


def _facts(scope: Scope) -> dict[str, str]:
    return machine.facts() | {"kafka": "a real one" if scope.kafka else "mock"}


def _run(round_steps: Sequence[RoundStep], results: Results, limit_s: float = math.inf) -> bool:
    """Measure; return whether no measurement failed."""
    began = time.monotonic()
    good = rounds.run(round_steps, results, Console(stderr=True), limit_s)
    results.facts["load at the end"] = machine.load()
    results.facts["minutes"] = f"{(time.monotonic() - began) / 60:.1f}"
    return good


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--long", action="store_true", help="more rounds and larger backlogs")
    size.add_argument("--tiny", action="store_true", help="only check that every measure runs")
    parser.add_argument("--runs", type=int, help="number of rounds")
    parser.add_argument("--kafka", help="a real broker; default with --long: TEST_KAFKA_BROKER")
    parser.add_argument(
        "--results", type=Path, help="directory of the results; default with --only: none"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="figures; an unknown name lists all"
    )
    parser.add_argument(
        "--against", metavar="REVISION", help="compare with a commit, tag, branch or checkout"
    )
    parser.add_argument(
        "--at-least", type=float, default=against.MIN_RATIO, help="minimum ratio with --against"
    )
    given = parser.parse_args()
    if given.against and given.long:
        parser.error("--long measures only this revision; remove --long or --against")
    names = against.names() if given.against else _measures()
    if unknown := set(given.only or ()) - set(names):
        parser.error(f"--only has no {', '.join(unknown)}; use one of {', '.join(names)}")
    return given


def _measures() -> list[str]:
    return list(dict.fromkeys(step.measure for step in rounds.all_steps(LONG)))


if __name__ == "__main__":
    sys.exit(main())
