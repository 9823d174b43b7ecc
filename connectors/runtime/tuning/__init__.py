"""Saves CPU or memory; nothing here changes what the stream does."""
