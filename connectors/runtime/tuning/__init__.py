"""What only saves CPU or memory; nothing here changes what the stream does."""
