"""Embedders: what they have in common, and one folder per kind."""
