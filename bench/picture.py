"""Draws charts of some figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pygal
from pygal.graph.graph import Graph
from pygal.style import CleanStyle

from bench import scaling, slowest
from bench.report import Results
from bench.starts import STARTS


def draw(directory: Path, scope: str, results: Results) -> None:
    """Write `SCOPE-slowest.svg` and `SCOPE-scaling.svg`, if their figures were measured."""
    to = partial(_write, results=results)
    to(directory / f"{scope}-slowest.svg", _slowest(), slowest.MEDIUM, slowest.name)
    to(directory / f"{scope}-scaling.svg", _scaling(), scaling.EMBEDDERS, scaling.name)


def _slowest() -> Graph:
    services = [slow.name for slow in slowest.MEDIUM]
    chart = _chart(pygal.Bar, "Utilisation of the slowest service", services)
    chart.x_title, chart.y_title, chart.range = "the slowest service", "% of its capacity", (0, 100)
    return chart


def _scaling() -> Graph:
    limits = [scaling.limit(number) for number in scaling.EMBEDDERS]
    numbers = [str(number) for number in scaling.EMBEDDERS]
    chart = _chart(pygal.Line, "Pages a second with several embedders", numbers)
    chart.x_title, chart.y_title = "embedders (5 ms + 3 ms a page each)", "pages a second"
    chart.range = (0, max(limits))
    chart.add("the embedders' limit", limits, stroke_style={"dasharray": "6, 4"})
    return chart


def _chart(kind: Callable[..., Graph], title: str, labels: list[str]) -> Graph:
    chart = kind(style=CleanStyle, title=title, width=800, height=450, js=[])
    chart.x_labels = labels
    return chart


def _write(
    path: Path,
    chart: Graph,
    columns: Sequence[object],
    name: Callable[..., str],
    *,
    results: Results,
) -> None:
    rows = {start_name: [name(column, start_name) for column in columns] for start_name in STARTS}
    if all(one in results.measurements for row in rows.values() for one in row):
        for start_name, row in rows.items():
            chart.add(start_name, results.medians(row))
        path.write_bytes(chart.render())
