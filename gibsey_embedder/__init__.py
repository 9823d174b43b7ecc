"""What people run beside the stream."""
