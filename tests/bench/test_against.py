"""The comparison with another revision: its checkout, the order of a round, and the ratio."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import against, checkout
from bench.against import Comparison, Row
from bench.checkout import ROOT, Checkout, RevisionError, open_checkout, resolved
from bench.measurement import Measurement, Pair
from bench.report import Results
from bench.scope import AGAINST, TINY, Scope

SETUP = """#!/bin/sh
echo made >> ../made
mkdir -p .venv/bin && ln -s "$PYTHON" .venv/bin/python
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, whose environment is made at once."""
    setup = tmp_path / "scripts" / "setup-env"
    setup.parent.mkdir()
    setup.write_text(SETUP)
    setup.chmod(0o755)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(repository: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    command = ["git", *author, *arguments]
    return subprocess.check_output(command, cwd=repository, text=True).strip()


def commit(repository: Path) -> str:
    git(repository, "add", "scripts")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "one more")
    return git(repository, "rev-parse", "HEAD")


def scopes(other: Checkout) -> against.Scopes:
    return {"other": replace(TINY, checkout=other), "this": TINY}


def row(measure: Callable[[Scope], float], unit: str) -> Row:
    return Row("row", 1, lambda scope: [Measurement("row", unit, measure(scope))])


def test_a_clone_without_tags_knows_the_commit_of_a_release(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkout.RELEASES["v0.2.0"].startswith("1753530")
    released = git(repository, "rev-parse", "HEAD")
    monkeypatch.setitem(checkout.RELEASES, "v0.2.0", released)
    tagged = commit(repository)
    assert resolved("v0.2.0", repository) == released
    git(repository, "tag", "v0.2.0")
    assert resolved("v0.2.0", repository) == tagged


def test_a_revision_that_does_not_exist_is_reported(repository: Path) -> None:
    with pytest.raises(RevisionError, match="no revision nonsense"):
        resolved("nonsense", repository)


def test_a_checkout_is_created_by_its_own_script_and_reused(repository: Path) -> None:
    first = open_checkout("HEAD", repository)
    assert (first.directory / "scripts" / "setup-env").read_text() == SETUP
    assert first.python.exists()
    assert open_checkout("HEAD", repository) == first
    assert (repository / ".bench" / "made").read_text() == "made\n"


def test_a_checkout_with_an_incomplete_environment_is_created_again(repository: Path) -> None:
    first = open_checkout("HEAD", repository)
    (first.directory / checkout.READY).unlink()
    assert open_checkout("HEAD", repository) == first
    assert (repository / ".bench" / "made").read_text() == "made\nmade\n"


@pytest.mark.parametrize(("unit", "ratio"), [("pages/s", 0.8), ("ms", 1.25), ("MB", 1.25)])
def test_a_ratio_above_one_means_that_this_revision_is_better(unit: str, ratio: float) -> None:
    assert against.ratio(unit, Pair(other=100, this=80)) == pytest.approx(ratio)


def test_the_order_of_the_revisions_alternates() -> None:
    order: list[str] = []

    def measure(scope: Scope) -> float:
        order.append(scope.checkout.name)
        return 1.0

    other = Checkout("other", ROOT, Path(sys.executable))
    for number in (1, 2, 3):
        list(against.pairs(row(measure, "ms"), scopes(other), number, 0.95))
    assert order == ["other", "this", "this", "other", "other", "this"]


def test_the_median_of_the_paired_ratios_must_meet_the_target() -> None:
    results = Results({}, Comparison)
    other = Checkout("other", ROOT, Path(sys.executable))
    for number, (old, new) in enumerate([(100, 94), (200, 188), (100, 120)], 1):
        values = {"other": old, "this": new}
        measured = row(lambda scope, values=values: values[scope.checkout.name], "pages/s")
        for measurement in against.pairs(measured, scopes(other), number, 0.95):
            results.add(measurement)
    (figure,) = results.figures
    shown = ("row (pages/s)", "100", "120", "0.940", "0.940", "1.200", "3", "≥ 0.95: MISSED")
    assert figure.cells()[:8] == shown
    assert figure.met is False


def test_rows_are_selected_by_name_or_by_kind() -> None:
    rows = against.chosen(["rest", "edits-w4"])
    assert [row.name for row in rows] == ["rest-w1", "rest-w4", "edits-w4"]
    assert against.chosen([]) == list(against.ROWS)


def test_rounds_follow_a_warm_up_that_does_not_count() -> None:
    round_steps = against.round_steps(
        against.chosen(["idle", "start"]), AGAINST, checkout.THIS, 2, 0.95
    )
    order = [(entry.number, entry.step.measure) for entry in round_steps]
    assert order == [(1, "warm-up"), (1, "idle"), (1, "start"), (2, "idle"), (2, "start")]


def test_a_row_of_two_checkouts_is_measured(tmp_path: Path) -> None:
    link = tmp_path / "checkout"
    link.symlink_to(ROOT)
    (idle,) = against.chosen(["idle"])
    (measurement,) = against.pairs(
        idle, scopes(Checkout("link", link, Path(sys.executable))), 1, 0.95
    )
    assert measurement.pair is not None
    assert min(measurement.value, measurement.pair.other, measurement.pair.this) > 0


def test_the_other_revision_runs_from_its_own_checkout_and_is_compiled_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "dataflow").mkdir()
    (tmp_path / "dataflow" / "__init__.py").touch()
    (tmp_path / "dataflow" / "main.py").write_text("raise SystemExit('the other one')\n")
    (idle,) = against.chosen(["idle"])
    other = Checkout("broken", tmp_path, Path(sys.executable))
    with pytest.raises(RuntimeError, match="the other one"):
        list(against.pairs(idle, scopes(other), 1, 0.95))
    assert list(tmp_path.glob("dataflow/__pycache__/main.*.pyc"))
