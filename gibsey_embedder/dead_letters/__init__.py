"""The commands `dead-letters` and `replay`."""
