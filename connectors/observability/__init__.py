"""Logs, metrics, stalls and liveness, with secrets redacted."""
