from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from connectors.kafka.config import KafkaConfig
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.shutdown import Shutdown
from tests.connectors.kafka.slots import MOCK_OPTIONS, TOPIC
from tests.eventually import eventually


@pytest.mark.parametrize(
    ("workers", "logged"),
    [(3, []), (5, ["more workers than partitions: 2 of 5 read nothing"])],
)
def test_more_workers_than_partitions_are_logged_once(mock_kafka, workers, logged):
    config = KafkaConfig(mock_kafka.broker, topic=TOPIC, options=MOCK_OPTIONS)
    shutdown = Shutdown(watchdog_s=3600)
    monitor = MetadataMonitor(config, Stalls(Metrics()), shutdown, workers)
    with capture_logs() as lines:
        monitor.start()
        eventually(lambda: monitor.refreshed_at > 0, 10)
        first = monitor.refreshed_at
        monitor.refresh_soon()
        eventually(lambda: monitor.refreshed_at > first, 10)
        shutdown.stop()
    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == logged
    assert all(line["remedy"].startswith("start 3 workers in all") for line in warnings)
