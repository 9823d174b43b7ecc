"""The name of Kafka, and the reason of the dead letters that its events cause."""

from __future__ import annotations

from connectors.core.services import Service

SERVICE = Service("kafka", "Kafka", activity="reading from Kafka", reasons=("undecodable",))
