"""`make bench`: measure, print a table, and write it to `bench/results/`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import machine, picture, rounds
from bench.report import RESULTS, Results
from bench.scope import CORE, LONG, TINY


def main() -> int:
    """Measure each figure, round by round, and report; returns 1 if something failed."""
    given = _arguments()
    scope = LONG if given.long else TINY if given.tiny else CORE
    kafka = given.kafka or (os.environ.get("TEST_KAFKA_BROKER") if given.long else None)
    scope = replace(scope, kafka=kafka or None)
    steps = rounds.all_steps(scope)
    if given.only:
        steps = [step for step in steps if step.measure in given.only]
    runs = {step.measure: given.runs or scope.runs.get(step.measure, 1) for step in steps}
    results = Results(machine.facts() | {"kafka": "a real one" if scope.kafka else "mock"})
    began = time.monotonic()
    turns = rounds.turns(steps, runs)
    limit_s = math.inf if given.runs else scope.limit_s
    good = rounds.run(turns, results, Console(stderr=True), limit_s)
    results.facts["load at the end"] = machine.load()
    results.facts["minutes"] = f"{(time.monotonic() - began) / 60:.1f}"
    results.notes += [f"Left out: {what}." for what in scope.left_out]
    results.show()
    if (directory := given.results or (None if given.only or given.tiny else RESULTS)) is not None:
        results.write(directory / scope.name)
        picture.draw(directory, scope.name, results)
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--long", action="store_true", help="more runs, larger backlogs")
    parser.add_argument("--tiny", action="store_true", help="only see that every measure runs")
    parser.add_argument("--runs", type=int, help="rounds")
    parser.add_argument("--kafka", help="a real broker; with --long also TEST_KAFKA_BROKER")
    parser.add_argument("--results", type=Path, help="directory; with --only nothing by default")
    names = list(dict.fromkeys(step.measure for step in rounds.all_steps(LONG)))
    parser.add_argument("--only", nargs="+", choices=names, help="some figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
