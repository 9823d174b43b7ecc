"""How a process starts: its launch options, its recovery store, its parts."""
