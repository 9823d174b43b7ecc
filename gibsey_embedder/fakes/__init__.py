"""Fakes of every service, on real sockets, for the demo, the tests and the benchmarks."""
