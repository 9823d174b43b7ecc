"""The figures of scaling as a picture: pages a second against embedders."""

from __future__ import annotations

from pathlib import Path

import pygal
from pygal.style import CleanStyle

from bench import scaling
from bench.launch import LAUNCHES
from bench.report import Results


def draw(path: Path, results: Results) -> None:
    """Write an SVG, if all of it was measured."""
    names = {launch: [scaling.name(n, launch) for n in scaling.EMBEDDERS] for launch in LAUNCHES}
    if not all(name in results.readings for row in names.values() for name in row):
        return
    limits = [scaling.limit(number) for number in scaling.EMBEDDERS]
    chart = pygal.Line(
        style=CleanStyle,
        title="Pages a second with several embedders",
        x_title="embedders (5 ms + 3 ms a page each)",
        y_title="pages a second",
        width=800,
        height=450,
        range=(0, max(limits)),
        js=[],
    )
    chart.x_labels = [str(number) for number in scaling.EMBEDDERS]
    chart.add("the embedders' limit", limits, stroke_style={"dasharray": "6, 4"})
    for launch, row in names.items():
        chart.add(launch, results.medians(row))
    path.write_bytes(chart.render())
