from __future__ import annotations

import pytest

from tests.connectors.embedders.manual_embedder import BatcherSetup, ManualEmbedder


@pytest.fixture
def start(request):
    """Starts a batcher, whose event loop is closed at the end of the test."""

    def make(*embedders: ManualEmbedder, **options: object) -> BatcherSetup:
        setup = BatcherSetup(*embedders, **options)  # type: ignore[arg-type]
        request.addfinalizer(setup.event_loop.close)
        return setup

    return make
