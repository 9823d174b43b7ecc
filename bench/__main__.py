"""`make bench`: measure, print a table, and write `bench/results/latest.*`."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from rich.console import Console

from bench import machine, report
from bench.figures import CORE, LONG, Measuring


def main() -> None:
    """Measure each figure once a round, and report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--long", action="store_true", help="more runs, larger backlogs")
    parser.add_argument("--runs", type=int, help="rounds")
    parser.add_argument(
        "--only", nargs="+", choices=list(Measuring(CORE).rounds()), help="some figures"
    )
    given = parser.parse_args()
    size = LONG if given.long else CORE
    size = replace(size, runs=given.runs or size.runs)
    measuring = Measuring(size)
    rounds = measuring.rounds()
    chosen = given.only or list(rounds)
    console = Console(stderr=True)
    began, load = time.monotonic(), [machine.load()]
    for number in range(size.runs):
        for name in chosen:
            console.print(f"round {number + 1} of {size.runs}: {name}", style="dim")
            rounds[name]()
        load.append(machine.load())
    minutes = f"{(time.monotonic() - began) / 60:.1f}"
    facts = machine.facts() | {"load": ", ".join(load), "minutes": minutes}
    report.show(measuring.figures(), facts)
    if given.only is None:
        report.write(measuring.figures(), facts)
    measuring.draw(report.RESULTS / "scaling.svg")


if __name__ == "__main__":
    main()
