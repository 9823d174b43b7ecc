"""The results of the benchmark, and the failure of a step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench import docs, rounds
from bench.measurement import Measurement, Step, Target, Utilisation
from bench.report import Results
from bench.rounds import RoundStep
from bench.service import Counts
from bench.slowest import Slow, graphql, rest
from bench.steady import Moment, Steady


def measurement(value: float, fake_percent: float = 10) -> Measurement:
    utilisation = Utilisation("RAG", fake_percent, 50)
    return Measurement("speed", "pages/s", value, Target(100, at_least=True), utilisation)


def watched(slow: Slow, seconds: float, requests: int, items: int, taken_s: float) -> Steady:
    moments = (Counts(0, 0, 0, 0, 0), Counts(seconds, requests, items, taken_s, 0))
    return Steady(*(Moment(0, 0, {slow.service: counts}) for counts in moments))


def test_full_requests_in_all_slots_use_the_whole_capacity() -> None:
    slow = graphql(delay_s=0.05, row_s=0.015, at_once=4)
    assert slow.pages_per_s == pytest.approx(4 * 100 / 1.55)
    assert slow.percent(watched(slow, 15.5, 40, 4000, 62)) == pytest.approx(100)


def test_small_bulks_use_a_smaller_share_of_the_capacity_than_of_the_time() -> None:
    slow = graphql(delay_s=0.5, row_s=0, at_once=1)
    assert slow.percent(watched(slow, 10, 20, 1000, 10)) == pytest.approx(50)


def test_empty_slots_reduce_the_used_share() -> None:
    slow = rest(delay_s=0.04, at_once=10)
    assert slow.percent(watched(slow, 10, 2000, 2000, 80)) == pytest.approx(80)


def test_the_median_must_meet_the_target_and_the_spread_is_shown() -> None:
    results = Results({})
    for value in (90, 101, 140):
        results.add(measurement(value))
    (figure,) = results.figures
    assert figure.cells()[:6] == ("speed (pages/s)", "101", "90", "140", "3", "≥ 100: met")


def test_a_busy_fake_is_reported_as_the_possible_limit() -> None:
    results = Results({})
    results.add(measurement(100, fake_percent=20))
    results.add(measurement(100, fake_percent=81))
    assert results.figures[0].fake == "RAG 81 % **its limit?**"


def test_a_step_that_fails_is_reported_and_the_others_still_run() -> None:
    def fails() -> Iterator[Measurement]:
        yield measurement(1)
        raise RuntimeError("the program ended with 1")

    results = Results({})
    round_steps = [
        RoundStep(1, Step("x", "x", 1, fails)),
        RoundStep(1, Step("y", "y", 1, lambda: [measurement(2)])),
    ]
    assert not rounds.run(round_steps, results, Console(quiet=True))
    assert results.figures[0].values == [1, 2]
    assert results.notes == ["FAILED: round 1: x: RuntimeError: the program ended with 1"]


def test_each_round_measures_all_figures() -> None:
    often, once = (Step(name, name, 1, list) for name in ("often", "once"))
    order = [
        (entry.number, entry.step.measure)
        for entry in rounds.round_steps([often, once], {"often": 2})
    ]
    assert order == [(1, "often"), (1, "once"), (2, "often")]


def test_after_the_time_limit_only_figures_without_a_value_are_measured() -> None:
    results = Results({})
    step = Step("x", "x", 1, lambda: [measurement(2)])
    assert rounds.run(
        [RoundStep(1, step), RoundStep(2, step)], results, Console(quiet=True), limit_s=0
    )
    assert results.figures[0].values == [2]
    assert results.notes == ["Omitted because the time was up: round 2: x."]


def test_the_tables_are_copied_to_the_document(tmp_path: Path) -> None:
    results = Results({"cores": "2"})
    results.add(measurement(120))
    results.write(tmp_path / "core")
    text = docs.filled("a\n<!-- core -->\nold\n<!-- /core -->\nb\n", tmp_path)
    assert "| speed (pages/s) | 120 |" in text
    assert "old" not in text
    assert (text[:2], text[-3:]) == ("a\n", "\nb\n")
    assert json.loads((tmp_path / "core.json").read_text())["figures"][0]["values"] == [120]


def test_the_document_has_markers_for_each_table(tmp_path: Path) -> None:
    for name in ("core", "long"):
        (tmp_path / f"{name}.md").write_text(f"the table {name}, just measured\n")
    assert docs.filled(docs.DOC.read_text(), tmp_path).count("just measured") == 2
