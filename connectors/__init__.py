"""How the stream talks to the world: one file a system, none of which knows the dataflow."""
