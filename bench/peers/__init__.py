"""Simpler programs that do the same work with the same fakes, for the comparison."""
