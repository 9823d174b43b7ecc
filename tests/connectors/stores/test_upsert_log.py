from __future__ import annotations

from collections.abc import Callable
from typing import cast

from connectors.observability.logs import Logger
from connectors.stores.upsert_log import UpsertLog


class Desk:
    """A log to read, and a clock to set."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.log = UpsertLog(cast("Logger", self), lambda: self.now, self._later)

    def info(self, event, count, pages):
        assert event == "Upsert OK"
        self.lines.append((count, pages))

    def _later(self, delay_s, function):
        self.timers.append((self.now + delay_s, function))

    def pass_seconds(self, seconds):
        self.now += seconds
        due = [f for at, f in self.timers if at <= self.now]
        self.timers = [(at, f) for at, f in self.timers if at > self.now]
        for function in due:
            function()


def test_a_single_row_is_logged_at_once():
    desk = Desk()
    desk.log.add(["a"])
    assert desk.lines == [(1, "a")]


def test_a_bulk_is_one_line_with_a_few_ids():
    desk = Desk()
    desk.log.add([f"p{n}" for n in range(100)])
    assert desk.lines == [(100, "p0, p1, p2, +97")]


def test_rows_of_the_same_second_are_one_line():
    desk = Desk()
    for n in range(500):
        desk.log.add([f"p{n}"])
        desk.pass_seconds(0.001)
    assert desk.lines == [(1, "p0")]
    desk.pass_seconds(0.6)
    assert desk.lines == [(1, "p0"), (499, "p1, p2, p3, +496")]


def test_the_rest_is_logged_after_a_second():
    desk = Desk()
    desk.log.add(["a"])
    desk.log.add(["b"])
    desk.pass_seconds(1)
    assert desk.lines == [(1, "a"), (1, "b")]
    desk.pass_seconds(60)
    assert len(desk.lines) == 2


def test_the_rest_is_logged_at_the_end():
    desk = Desk()
    desk.log.add(["a"])
    desk.log.add(["b"])
    desk.log.flush()
    desk.log.flush()
    desk.pass_seconds(1)
    assert desk.lines == [(1, "a"), (1, "b")]


def test_at_most_one_line_a_second_under_load():
    desk = Desk()
    for _ in range(10_000):
        desk.log.add(["p"] * 7)
        desk.pass_seconds(0.001)
    desk.pass_seconds(1)
    assert sum(count for count, _ in desk.lines) == 70_000
    assert len(desk.lines) <= 12


def test_a_long_id_is_cut():
    desk = Desk()
    desk.log.add(["x" * 10_000])
    assert len(desk.lines[0][1]) == 60
