"""How the stream talks to the world: one folder per system."""
