"""`gibsey-embedder doctor`: one file per service that it checks."""
