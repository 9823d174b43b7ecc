"""The RAG service."""
