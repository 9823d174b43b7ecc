"""`dead-letters` and `replay`."""
