"""Behaviours of a `ManualEmbedder`."""

from __future__ import annotations

from connectors.core.errors import RejectedError, TransientError
from connectors.embedders.base import TextTooLongError
from tests.connectors.embedders.manual_embedder import VECTOR, accept_all

UNAVAILABLE = TransientError("it is unavailable")


def refuses(*bad: str):
    """Return a behaviour that refuses a request with one of these texts."""

    def behave(texts):
        if set(texts) & set(bad):
            raise RejectedError("no")
        return accept_all(texts)

    return behave


def nan_for(*bad: str):
    """Return a behaviour that makes no valid vector of these texts."""
    return lambda texts: [None if text in bad else VECTOR for text in texts]


def at_most(chars: int):
    """Return a behaviour with a context of `chars` characters."""

    def behave(texts):
        if any(len(text) > chars for text in texts):
            raise TextTooLongError("the input length exceeds the context length")
        return accept_all(texts)

    return behave
