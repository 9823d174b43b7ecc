from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from connectors.core.errors import ConfigurationError, TransientError
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import MIN_STALL_S, REPEAT_S, Stall, Stalls


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def stalls(metrics, clock) -> Stalls:
    return Stalls(metrics, clock)


def gauge(metrics: Metrics, service: str = "stargate") -> float:
    return metrics.stalled.labels(service)._value.get()


def test_a_short_failure_is_not_logged(stalls, metrics, clock):
    with capture_logs() as lines:
        stalls.waiting("stargate", "refused")
        clock.now += MIN_STALL_S / 2
        stalls.waiting("stargate", "refused")
        assert stalls.current() == []
        stalls.cleared("stargate")
    assert lines == []
    assert gauge(metrics) == 0


def test_a_stall_is_logged_at_once_each_minute_and_at_its_end(stalls, metrics, clock):
    with capture_logs() as lines:
        for _ in range(200):
            stalls.waiting("stargate", "refused")
            clock.now += 1.0
        assert gauge(metrics) == 1
        stalls.cleared("stargate")
    events = [line["event"] for line in lines]
    assert events == ["waiting"] * 4 + ["answers again"]
    assert [line["since_s"] for line in lines[:-1]] == [1, 61, 121, 181]
    assert lines[-1]["after_s"] == 200.0
    assert REPEAT_S == 60.0
    assert gauge(metrics) == 0
    assert stalls.current() == []


def test_a_configuration_error_is_logged_at_once_with_its_remedy(stalls, metrics):
    with capture_logs() as lines:
        stalls.failed("embedder", ConfigurationError("no model", remedy="pull it"))
    assert (lines[0]["reason"], lines[0]["remedy"]) == ("no model", "pull it")
    assert gauge(metrics, "embedder") == 1
    assert [stall.remedy for stall in stalls.current()] == ["pull it"]


def test_a_changed_reason_is_logged_soon_but_not_each_time(stalls, clock):
    with capture_logs() as lines:
        for second in range(30):
            stalls.waiting("rag", "refused" if second % 2 else "timed out")
            clock.now += 1.0
    assert 5 <= len(lines) <= 7


def test_the_current_stalls_are_sorted_by_age_and_count_their_failures(stalls, clock):
    stalls.waiting("rag", "refused")
    clock.now += 5
    stalls.waiting("stargate", "500")
    clock.now += 5
    stalls.waiting("rag", "timed out")
    stalls.waiting("embedder", "just now")
    assert stalls.current() == [
        Stall("rag", "timed out", "", 1_000.0, 2),
        Stall("stargate", "500", "", 1_005.0, 1),
    ]


def test_each_failed_attempt_is_counted(stalls, metrics):
    for _ in range(3):
        stalls.failed("rag", TransientError("refused"))
    assert metrics.retries.labels("rag")._value.get() == 3


def test_clearing_a_service_without_a_stall_logs_nothing(stalls):
    with capture_logs() as lines:
        stalls.cleared("rag")
    assert lines == []


def test_a_service_can_stall_again_after_it_answered(stalls, clock):
    stalls.waiting("rag", "refused")
    clock.now += 10
    stalls.cleared("rag")
    stalls.waiting("rag", "refused")
    assert stalls.current() == []
    clock.now += MIN_STALL_S
    assert stalls.current()[0].since == 1_010.0
