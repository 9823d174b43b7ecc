"""The process: its event loop, how it stops, how it reports a crash."""
