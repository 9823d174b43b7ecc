"""Measures speed, latency and memory of the stream from outside, with fakes of all services."""
