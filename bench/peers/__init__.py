"""What the stream is compared with: other ways to do the same over the same stand-ins."""
