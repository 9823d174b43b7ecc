"""`python -m gibsey_embedder.fakes.stargate`: a fake Stargate as a process of its own."""

from gibsey_embedder.fakes.stargate.server import main

if __name__ == "__main__":
    main()
