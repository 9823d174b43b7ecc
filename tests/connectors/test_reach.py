"""Services are reached as soon as they listen."""

from __future__ import annotations

from connectors.io_loop import IoLoop
from connectors.reach import Reach
from demo.rag import Rag
from demo.stargate import Stargate
from tests.deadline import eventually


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
