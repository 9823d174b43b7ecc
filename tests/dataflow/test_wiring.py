"""What the wiring registers: the services and their reasons for dead letters."""

from __future__ import annotations

from connectors.observability.metrics import Metrics
from dataflow.clients import STORES, dead_letter_reasons, services_with


def test_every_service_has_labels_from_the_start() -> None:
    registry = Metrics(services_with(STORES[0])).registry
    for service in ("kafka", "embedder", "stargate", "rag", "dead-letters"):
        labels = {"service": service}
        assert registry.get_sample_value("gibsey_stalled", labels) == 0
        assert registry.get_sample_value("gibsey_retries_total", labels) == 0
    for reason in dead_letter_reasons():
        assert registry.get_sample_value("gibsey_dead_letters_total", {"reason": reason}) == 0


def test_the_reasons_of_dead_letters_are_those_of_the_contract() -> None:
    assert set(dead_letter_reasons()) == {
        "undecodable",
        "refused-by-embedder",
        "refused-by-stargate",
        "rag-unreachable",
        "refused-by-rag",
        "other-space",
    }
