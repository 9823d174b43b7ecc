"""The command-line tools, and the status port of the stream."""
