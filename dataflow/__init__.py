"""What the stream does: its steps, its events, its settings, and how it starts."""
