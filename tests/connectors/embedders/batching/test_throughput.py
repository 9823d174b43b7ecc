from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders.batching.throughput import (
    MAX_TIMEOUT_FACTOR,
    SLOWEST_START_S,
    TARGET_S,
    TEXT_COST_CHARS,
    Throughput,
    cost_chars,
)

costs = st.integers(TEXT_COST_CHARS + 1, 200_000)
seconds = st.floats(1e-4, 60.0)


def simulated(
    throughput: Throughput, page_chars: int, s_per_char: float, overhead_s: float, windows: int
):
    """Embed windows as large as the throughput allows, up to 32 pages, at a given speed."""
    sizes = []
    for _ in range(windows):
        cost = page_chars + TEXT_COST_CHARS
        pages = max(int(min(throughput.window_chars / cost, 32)), 1)
        throughput.learn(pages * cost, overhead_s + pages * page_chars * s_per_char)
        sizes.append(pages)
    return sizes


def test_any_window_is_allowed_while_no_throughput_is_known():
    throughput = Throughput()
    assert throughput.window_chars == math.inf
    assert throughput.expected_s(10_000) == 0.0
    assert throughput.timeout_s(10_000, 10_000) == SLOWEST_START_S


def test_a_fast_embedder_gets_full_windows():
    assert simulated(Throughput(), 4000, s_per_char=1e-6, overhead_s=0.005, windows=10) == [32] * 10


def test_a_cpu_that_needs_0_4_s_per_page_gets_windows_of_two_or_three_pages():
    sizes = simulated(Throughput(), 8000, s_per_char=0.4 / 8000, overhead_s=0.0, windows=20)
    assert sizes[0] == 32
    assert set(sizes[1:]) <= {2, 3}


def test_an_embedder_slower_than_the_target_gets_one_page_per_window():
    sizes = simulated(Throughput(), 8000, s_per_char=5 / 8000, overhead_s=0.0, windows=5)
    assert sizes[1:] == [1] * 4


def test_a_changed_throughput_is_known_after_ten_responses():
    throughput = Throughput()
    simulated(throughput, 4000, s_per_char=1e-3, overhead_s=0.0, windows=50)
    for _ in range(10):
        throughput.learn(4200, 0.004)
    assert throughput.expected_s(4200) == pytest.approx(0.004, abs=0.3)
    throughput = Throughput()
    for _ in range(50):
        throughput.learn(4200, 0.004)
    for _ in range(10):
        throughput.learn(4200, 4.0)
    assert throughput.expected_s(4200) == pytest.approx(4.0, rel=0.05)


@given(st.lists(st.tuples(costs, seconds), min_size=1, max_size=30))
def test_the_expected_time_is_between_the_fastest_and_the_slowest_response(responses):
    throughput = Throughput()
    for cost, took in responses:
        throughput.learn(cost, took)
    rates = [took / cost for cost, took in responses]
    assert min(rates) * 0.999 <= throughput.expected_s(1000) / 1000 <= max(rates) * 1.001
    assert throughput.expected_s(int(throughput.window_chars)) <= TARGET_S * 1.001


@given(st.lists(st.tuples(costs, seconds), max_size=5), costs, costs)
def test_a_timeout_is_five_times_the_expected_time(responses, cost, ahead):
    throughput = Throughput()
    for cost_learned, took in responses:
        throughput.learn(cost_learned, took)
    assert throughput.timeout_s(cost, ahead) >= max(
        5 * throughput.expected_s(cost + ahead), SLOWEST_START_S
    )


def test_timeouts_grow_after_a_timeout_up_to_a_bound_and_shrink_after_responses():
    throughput = Throughput()
    throughput.learn(1000, 1.0)
    usual, window = throughput.timeout_s(1000, 0), throughput.window_chars
    throughput.timed_out()
    assert throughput.timeout_s(1000, 0) == 2 * usual
    assert throughput.window_chars == window / 2
    for _ in range(10):
        throughput.timed_out()
    assert throughput.timeout_s(1000, 0) == MAX_TIMEOUT_FACTOR * usual
    for _ in range(5):
        throughput.learn(1000, 1.0)
    assert throughput.timeout_s(1000, 0) == pytest.approx(usual)


def test_a_short_text_is_not_free():
    assert cost_chars("") == TEXT_COST_CHARS
    assert cost_chars("a" * 100) == TEXT_COST_CHARS + 100
