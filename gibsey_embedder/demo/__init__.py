"""`gibsey-embedder demo`: the real worker on fakes."""
