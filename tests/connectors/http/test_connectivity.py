"""Services are reached as soon as they listen."""

from __future__ import annotations

from connectors.http.connectivity import Reach
from connectors.runtime.event_loop import EventLoop
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually


def test_a_service_is_missing_until_it_listens(stargate: Stargate, rag: Rag) -> None:
    event_loop = EventLoop(lambda error: None)
    rag.refuse()
    reach = Reach(event_loop, {"stargate": stargate.url, "rag": rag.url})
    reach.start()
    eventually(lambda: reach.missing() == ["rag"], 10)
    rag.accept()
    eventually(lambda: not reach.missing(), 10)
    assert rag.stats.requests == stargate.stats.requests == 0
    event_loop.close()
