"""Embedders: what they share, and one folder for each API."""
