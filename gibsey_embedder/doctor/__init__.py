"""`gibsey-embedder doctor`: one module per service that it checks."""
