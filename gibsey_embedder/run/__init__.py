"""`gibsey-embedder run` and the recovery store that it makes."""
