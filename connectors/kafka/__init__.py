"""Kafka: the source, its consumer and monitors, committed offsets and lag."""
