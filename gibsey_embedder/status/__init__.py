"""The status port: its page, JSON, metrics and health."""
