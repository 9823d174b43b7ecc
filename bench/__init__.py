"""Speed, latency and memory of the stream, measured from outside against stand-ins."""
