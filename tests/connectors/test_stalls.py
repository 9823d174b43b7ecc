"""When a fault is a stall, and when it is a hiccup."""

from __future__ import annotations

from connectors.failures import SetupFault, Transient
from connectors.metrics import Metrics
from connectors.stalls import Stalls


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_that_passes_within_a_second_is_no_stall() -> None:
    clock = Clock()
    stalls = Stalls(Metrics(), clock)
    stalls.failed("stargate", Transient("refused"))
    assert stalls.current() == []
    clock.now += 1.0
    stalls.failed("stargate", Transient("refused"))
    (stall,) = stalls.current()
    assert (stall.since, stall.faults) == (1000.0, 2)
    stalls.cleared("stargate")
    assert stalls.current() == []


def test_a_service_that_was_silent_until_its_time_limit_is_named_at_once() -> None:
    stalls = Stalls(Metrics(), Clock())
    stalls.failed("embedder", Transient("did not answer within 60 s", lasted_s=60.0))
    (stall,) = stalls.current()
    assert stall.since == 940.0


def test_a_fault_of_the_set_up_is_named_at_once() -> None:
    stalls = Stalls(Metrics(), Clock())
    stalls.failed("embedder", SetupFault("no model", remedy="pull it"))
    assert [stall.remedy for stall in stalls.current()] == ["pull it"]
