"""Services are reached as soon as they listen."""

from __future__ import annotations

from connectors.http.connectivity import Reach
from connectors.runtime.event_loop import IoLoop
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually


def test_a_service_is_missing_until_it_listens(stargate: Stargate, rag: Rag) -> None:
    io = IoLoop(lambda error: None)
    rag.refuse()
    reach = Reach(io, {"stargate": stargate.url, "rag": rag.url})
    reach.start()
    eventually(lambda: reach.missing() == ["rag"], 10)
    rag.accept()
    eventually(lambda: not reach.missing(), 10)
    assert rag.stats.requests == stargate.stats.requests == 0
    io.close()
