"""Stand-ins of the services round the stream, for the demo, the tests and the benchmarks."""
