from __future__ import annotations

import asyncio
import time

from connectors.http.circuit_breaker import CircuitBreaker


class SetClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_circuit_opens_after_consecutive_failures_only():
    clock = SetClock()
    circuit = CircuitBreaker(failures=3, grace_s=0.0, clock=clock)
    for _ in range(10):
        circuit.failed(clock.now)
        circuit.failed(clock.now)
        circuit.succeeded()
    assert not circuit.is_open
    for _ in range(3):
        circuit.failed(clock.now)
    assert circuit.is_open


def test_requests_sent_before_the_latest_success_open_no_circuit():
    clock = SetClock()
    circuit = CircuitBreaker(failures=3, grace_s=1.0, clock=clock)
    sent_at = clock.now
    clock.now += 4
    circuit.succeeded()  # one of two replicas; the other one hangs
    clock.now += 1
    for _ in range(10):
        circuit.failed(sent_at)
    assert not circuit.is_open
    for _ in range(3):
        circuit.failed(clock.now - 1)
    assert circuit.is_open


def test_failures_within_the_grace_time_open_no_circuit():
    clock = SetClock()
    circuit = CircuitBreaker(failures=3, grace_s=1.0, clock=clock)
    for _ in range(100):
        circuit.failed(clock.now)
    assert not circuit.is_open
    clock.now += 1.0
    for _ in range(3):
        circuit.failed(clock.now)
    assert circuit.is_open


def test_the_grace_time_starts_when_the_first_failed_request_was_sent():
    clock = SetClock()
    circuit = CircuitBreaker(failures=3, grace_s=1.0, clock=clock)
    for _ in range(3):
        circuit.failed(clock.now - 5)
    assert circuit.is_open


def test_an_open_circuit_stays_open_until_a_request_succeeds():
    circuit = CircuitBreaker(failures=1, grace_s=0.0)
    circuit.failed(0.0)
    circuit.failed(0.0)
    assert circuit.is_open
    circuit.succeeded()
    assert not circuit.is_open
    circuit.failed(time.monotonic())
    assert circuit.is_open, "and it opens again"


def test_a_sleeper_wakes_up_when_the_circuit_opens():
    async def use():
        circuit = CircuitBreaker(failures=1, grace_s=0.0)
        sleeping = asyncio.ensure_future(circuit.sleep(60))
        await asyncio.sleep(0)
        circuit.failed(0.0)
        await asyncio.wait_for(sleeping, 5)

    asyncio.run(use())
