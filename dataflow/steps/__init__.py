"""The steps of the graph, in stream order, and what they keep."""
