"""`gibsey-embedder demo`: the real worker with fakes of all services."""
