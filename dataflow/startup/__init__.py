"""How a process starts: its command line, its recovery store and its components."""
