"""What people run, and look at, beside the stream."""
