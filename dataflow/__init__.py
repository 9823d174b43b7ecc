"""What the stream does, one file a step, in the order of the graph."""
