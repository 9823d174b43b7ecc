"""Texts gathered into windows, and the windows sent to free endpoints."""
