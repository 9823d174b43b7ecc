from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import stamina
from structlog.testing import capture_logs

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.http import retry
from connectors.http.retry import FIRST_WAIT_S, LONGEST_WAIT_S, until_answered
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls


class Service:
    """Raises what it is given, one after the other, and then answers."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.faults:
            raise self.faults.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def no_lines_from_stamina() -> Iterator[None]:
    """As when the program runs."""
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between tries, which take no time here."""
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    monkeypatch.setattr(stamina._core, "_smart_sleep", sleep)
    return slept


@pytest.fixture
def stalls() -> Stalls:
    return Stalls(Metrics())


def asked(service: Service, stalls: Stalls) -> str:
    return asyncio.run(until_answered(service, service="stargate", stalls=stalls))


def test_an_answer_is_returned_at_once(stalls, waits):
    service = Service()
    assert asked(service, stalls) == "answer"
    assert (service.tries, waits) == (1, [])


def test_a_fault_is_retried_for_as_long_as_it_takes(stalls, waits):
    service = Service(*(TransientError("refused") for _ in range(1_200)))
    assert asked(service, stalls) == "answer"
    assert service.tries == 1_201
    assert len(waits) == 1_200
    assert stalls._metrics.retries.labels("stargate")._value.get() == 1_200


def test_the_waits_grow_to_a_bound_and_are_not_all_the_same(stalls, waits):
    asked(Service(*(TransientError("refused") for _ in range(40))), stalls)
    for number, wait in enumerate(waits):
        least = min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S)
        assert least <= wait <= min(least + FIRST_WAIT_S, LONGEST_WAIT_S)
    assert len(set(waits[:5])) == 5


def test_a_retry_after_is_honoured_and_one_of_zero_is_no_reason_to_hammer(stalls, waits):
    asked(Service(*[TransientError("busy", retry_after_s=s) for s in (17.0, 0.0)]), stalls)
    assert waits[0] == 17.0
    assert waits[1] >= FIRST_WAIT_S


def test_a_set_up_fault_is_waited_for_with_its_remedy(stalls, waits):
    class Mended(Service):
        async def __call__(self) -> str:
            if self.tries == 2:
                assert [s.remedy for s in stalls.current()] == ["make the table"]
            return await super().__call__()

    assert (
        asked(
            Mended(*(ConfigurationError("no table", remedy="make the table") for _ in range(2))),
            stalls,
        )
        == "answer"
    )
    assert stalls.current() == []


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_refused_page_is_not_tried_again_and_the_service_counts_as_there(stalls, waits, before):
    faults = [ConfigurationError("away", remedy="wait") for _ in range(before)]
    service = Service(*faults, RejectedError("400"))
    with pytest.raises(RejectedError):
        asked(service, stalls)
    assert service.tries == before + 1
    assert stalls.current() == []


@pytest.mark.parametrize("before", [0, 1])
def test_an_error_of_ours_is_not_retried(stalls, waits, before):
    service = Service(*(TransientError("away") for _ in range(before)), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        asked(service, stalls)
    assert service.tries == before + 1


def test_the_waiting_really_takes_time_and_ends(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    with capture_logs() as lines:
        assert (
            asked(Service(*(TransientError("away") for _ in range(3))), Stalls(Metrics()))
            == "answer"
        )
    assert lines == []  # a hiccup
