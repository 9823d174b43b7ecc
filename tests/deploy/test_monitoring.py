"""The files for Prometheus, Alertmanager and Grafana match the program and the runbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector

from gibsey_embedder.status import health
from tests.gibsey_embedder.status.streams import Stream

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/gibsey-embedder.json"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()


def exported() -> set[str]:
    """The names of all series that /metrics can export."""
    stream = Stream()
    registry = stream.metrics.registry
    ProcessCollector(registry=registry)
    health.register_metrics(stream.view())
    names = set()
    for family in registry.collect():
        suffixes = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
        }.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


@pytest.mark.parametrize("file", [PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml", DASHBOARD])
def test_rules_and_dashboard_query_only_existing_metrics(file: Path):
    queried = set(re.findall(r"\b(?:gibsey|process)_\w+\b", file.read_text()))
    assert queried
    assert queried <= exported()


def test_alerts_and_dashboard_query_only_existing_rules():
    recorded = set(re.findall(r"record: (\S+)", (PROMETHEUS / "rules.yml").read_text()))
    queried = set(re.findall(r"\bgibsey:[\w:]+", ALERTS + DASHBOARD.read_text()))
    assert queried <= recorded


def test_every_alert_has_a_runbook_section_and_an_action():
    names = re.findall(r"^      - alert: (\w+)", ALERTS, re.M)
    assert len(names) == len(set(names)) >= 8
    headings = re.findall(r"^### (\w+)", (ROOT / "docs/runbook.md").read_text(), re.M)
    assert set(names) <= set(headings)
    assert [f"docs/runbook.md#{name.lower()}" for name in names] == re.findall(
        r"^          runbook: (\S+)", ALERTS, re.M
    )
    for part in ("summary", "description", "action"):
        assert len(re.findall(rf"^          {part}: ", ALERTS, re.M)) == len(names)


def test_the_rule_tests_cover_every_alert_firing_and_silent():
    tests = (PROMETHEUS / "tests.yml").read_text()
    for name in re.findall(r"^      - alert: (\w+)", ALERTS, re.M):
        cases = re.findall(rf"alertname: {name}\n +exp_alerts:( \[\])?", tests)
        assert set(cases) == {"", " []"}, name


def test_every_link_inside_the_runbook_has_a_target():
    text = (ROOT / "docs/runbook.md").read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
