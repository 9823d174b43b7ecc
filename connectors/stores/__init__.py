"""Vector stores: the interface, and one folder per store."""
