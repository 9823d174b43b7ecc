"""`gibsey-embedder search`."""
