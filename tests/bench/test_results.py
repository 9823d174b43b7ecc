"""What the bench makes of its values, and how it goes on where a step fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench import docs, rounds
from bench.reading import Around, Measurement, Step, Target
from bench.report import Results
from bench.rounds import Turn
from bench.service import Counts
from bench.slowest import Slow, graphql, rest
from bench.steady import Moment, Steady


def reading(value: float, stand_in_percent: float = 10) -> Measurement:
    around = Around("RAG", stand_in_percent, 50)
    return Measurement("speed", "pages/s", value, Target(100, at_least=True), around)


def watched(slow: Slow, seconds: float, requests: int, items: int, taken_s: float) -> Steady:
    moments = (Counts(0, 0, 0, 0, 0), Counts(seconds, requests, items, taken_s, 0))
    return Steady(*(Moment(0, 0, {slow.service: counts}) for counts in moments))


def test_a_service_whose_slots_are_always_taken_by_full_requests_is_used_to_its_capacity() -> None:
    slow = graphql(delay_s=0.05, row_s=0.015, at_once=4)
    assert slow.pages_per_s == pytest.approx(4 * 100 / 1.55)
    assert slow.percent(watched(slow, 15.5, 40, 4000, 62)) == pytest.approx(100)


def test_small_bulks_use_less_of_the_capacity_than_the_time_they_take() -> None:
    slow = graphql(delay_s=0.5, row_s=0, at_once=1)
    assert slow.percent(watched(slow, 10, 20, 1000, 10)) == pytest.approx(50)


def test_slots_that_are_empty_for_a_while_are_not_used() -> None:
    slow = rest(delay_s=0.04, at_once=10)
    assert slow.percent(watched(slow, 10, 2000, 2000, 80)) == pytest.approx(80)


def test_the_median_is_judged_and_the_spread_shown() -> None:
    results = Results({})
    for value in (90, 101, 140):
        results.add(reading(value))
    (figure,) = results.figures
    assert figure.cells()[:6] == ("speed (pages/s)", "101", "90", "140", "3", "≥ 100: met")


def test_a_stand_in_that_was_busy_itself_is_named_as_the_possible_limit() -> None:
    results = Results({})
    results.add(reading(100, stand_in_percent=20))
    results.add(reading(100, stand_in_percent=81))
    assert results.figures[0].fake == "RAG 81 % **its limit?**"


def test_a_step_that_fails_says_so_keeps_what_it_had_and_lets_the_others_go_on() -> None:
    def fails() -> Iterator[Measurement]:
        yield reading(1)
        raise RuntimeError("the program ended with 1")

    results = Results({})
    turns = [Turn(1, Step("x", "x", 1, fails)), Turn(1, Step("y", "y", 1, lambda: [reading(2)]))]
    assert not rounds.run(turns, results, Console(quiet=True))
    assert results.figures[0].values == [1, 2]
    assert results.notes == ["FAILED: round 1: x: RuntimeError: the program ended with 1"]


def test_rounds_go_through_all_figures_in_turn() -> None:
    often, once = (Step(name, name, 1, list) for name in ("often", "once"))
    order = [(turn.number, turn.step.measure) for turn in rounds.turns([often, once], {"often": 2})]
    assert order == [(1, "often"), (1, "once"), (2, "often")]


def test_past_its_time_a_run_measures_only_what_has_no_value_yet() -> None:
    results = Results({})
    step = Step("x", "x", 1, lambda: [reading(2)])
    assert rounds.run([Turn(1, step), Turn(2, step)], results, Console(quiet=True), limit_s=0)
    assert results.figures[0].values == [2]
    assert results.notes == ["Left out for want of time: round 2: x."]


def test_the_tables_come_into_the_document(tmp_path: Path) -> None:
    results = Results({"cores": "2"})
    results.add(reading(120))
    results.write(tmp_path / "core")
    text = docs.filled("a\n<!-- core -->\nold\n<!-- /core -->\nb\n", tmp_path)
    assert "| speed (pages/s) | 120 |" in text
    assert "old" not in text
    assert (text[:2], text[-3:]) == ("a\n", "\nb\n")
    assert json.loads((tmp_path / "core.json").read_text())["figures"][0]["values"] == [120]


def test_the_document_has_a_place_for_each_table(tmp_path: Path) -> None:
    for name in ("core", "long"):
        (tmp_path / f"{name}.md").write_text(f"the table {name}, just measured\n")
    assert docs.filled(docs.DOC.read_text(), tmp_path).count("just measured") == 2
