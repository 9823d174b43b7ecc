from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import stamina
from structlog.testing import capture_logs

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.http.retry import FIRST_WAIT_S, LONGEST_WAIT_S, retry_until_answered
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls


class Service:
    """Raises these errors, one after the other, and then responds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return "response"


@pytest.fixture(autouse=True)
def no_lines_from_stamina() -> Iterator[None]:
    """As in the running program."""
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    monkeypatch.setattr(stamina._core, "_smart_sleep", sleep)
    return slept


@pytest.fixture
def stalls() -> Stalls:
    return Stalls(Metrics())


def call(service: Service, stalls: Stalls) -> str:
    return asyncio.run(retry_until_answered(service, service="stargate", stalls=stalls))


def test_a_response_is_returned_at_once(stalls, waits):
    service = Service()
    assert call(service, stalls) == "response"
    assert (service.attempts, waits) == (1, [])


def test_a_transient_error_is_retried_without_an_end(stalls, waits):
    service = Service(*(TransientError("refused") for _ in range(1_200)))
    assert call(service, stalls) == "response"
    assert service.attempts == 1_201
    assert len(waits) == 1_200
    assert stalls._metrics.retries.labels("stargate")._value.get() == 1_200


def test_the_waits_grow_to_a_limit_and_have_jitter(stalls, waits):
    call(Service(*(TransientError("refused") for _ in range(40))), stalls)
    for number, wait in enumerate(waits):
        least = min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S)
        assert least <= wait <= min(least + FIRST_WAIT_S, LONGEST_WAIT_S)
    assert len(set(waits[:5])) == 5


def test_a_retry_after_is_honoured_but_a_zero_does_not_skip_the_wait(stalls, waits):
    call(Service(*[TransientError("busy", retry_after_s=s) for s in (17.0, 0.0)]), stalls)
    assert waits[0] == 17.0
    assert waits[1] >= FIRST_WAIT_S


def test_a_configuration_error_is_retried_and_its_remedy_is_reported(stalls, waits):
    class Repaired(Service):
        async def __call__(self) -> str:
            if self.attempts == 2:
                assert [s.remedy for s in stalls.current()] == ["make the table"]
            return await super().__call__()

    assert (
        call(
            Repaired(*(ConfigurationError("no table", remedy="make the table") for _ in range(2))),
            stalls,
        )
        == "response"
    )
    assert stalls.current() == []


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_rejected_page_is_not_retried_and_clears_the_stall(stalls, waits, before):
    errors = [ConfigurationError("away", remedy="wait") for _ in range(before)]
    service = Service(*errors, RejectedError("400"))
    with pytest.raises(RejectedError):
        call(service, stalls)
    assert service.attempts == before + 1
    assert stalls.current() == []


@pytest.mark.parametrize("before", [0, 1])
def test_a_programming_error_is_not_retried(stalls, waits, before):
    service = Service(*(TransientError("away") for _ in range(before)), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call(service, stalls)
    assert service.attempts == before + 1


def test_the_waits_of_stamina_itself_end():
    service = Service(*(TransientError("away") for _ in range(3)))
    retrying = retry_until_answered(
        service, service="stargate", stalls=Stalls(Metrics()), first_wait_s=0.01
    )
    with capture_logs() as lines:
        assert asyncio.run(retrying) == "response"
    assert lines == []  # too short for a log line
