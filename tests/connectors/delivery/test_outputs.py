"""How many outputs must acknowledge a row."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.core.services import Service
from connectors.delivery.outputs import Output, OutputCounts


def output(name: str, *, takes_deletes: bool) -> Output:
    write_queue: Any = None
    return Output(name, Service(name, name), write_queue, 8, "http://x:1", takes_deletes)


@pytest.mark.parametrize(
    ("takes_deletes", "vector", "delete"),
    [([], 0, 0), ([True], 1, 1), ([True, False], 2, 1), ([True, True, False], 3, 2)],
)
def test_only_the_outputs_that_take_deletes_count_for_a_delete(
    takes_deletes: list[bool], vector: int, delete: int
) -> None:
    outputs = [output(str(n), takes_deletes=takes) for n, takes in enumerate(takes_deletes)]
    assert OutputCounts.of(outputs) == OutputCounts(vector, delete)
