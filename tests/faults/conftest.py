"""The same streams as in tests/flow."""

from tests.flow.conftest import stream

__all__ = ["stream"]
