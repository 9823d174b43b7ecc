"""The streams of tests/flow."""

from tests.flow.conftest import stream

__all__ = ["stream"]
