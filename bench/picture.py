"""The figures of scaling as a picture: pages a second against embedders."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygal
from pygal.style import CleanStyle


def draw(
    path: Path, embedders: Sequence[int], ideal: Sequence[float], speeds: Mapping[str, list[float]]
) -> None:
    """Write an SVG.

    Args:
        path: Where to.
        embedders: The numbers of embedders, for the x axis.
        ideal: What each of these manages (pages a second).
        speeds: What was measured, in the same order, by how the stream was started.
    """
    chart = pygal.Line(
        style=CleanStyle,
        title="Pages a second with several embedders",
        x_title="embedders (5 ms + 3 ms a page each)",
        y_title="pages a second",
        width=800,
        height=450,
        range=(0, max(ideal)),
        js=[],
    )
    chart.x_labels = [str(number) for number in embedders]
    chart.add("the embedders' limit", list(ideal), stroke_style={"dasharray": "6, 4"})
    for launch, values in speeds.items():
        chart.add(launch, values)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(chart.render())


def medians(values: Mapping[str, list[float]], names: Sequence[str]) -> list[float]:
    """The medians of some figures, in order."""
    return [statistics.median(values[name]) for name in names]
