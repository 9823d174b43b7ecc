"""The steps of the graph, and the state that they keep."""
