"""Fixtures for the tests of the outputs: a fake Stargate, and the stalls and metrics of a writer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gibsey_embedder.fakes.stargate.server import Stargate
from tests.connectors.delivery.manual_writer import open_harness  # noqa: F401 - a fixture
from tests.connectors.stores.writers import Watched


@pytest.fixture
def stargate() -> Iterator[Stargate]:
    with Stargate() as server:
        yield server


@pytest.fixture
def watched() -> Watched:
    return Watched()
