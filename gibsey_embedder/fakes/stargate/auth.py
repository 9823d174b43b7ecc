"""Stargate's tokens: given for a user and password, good for a while, longer when used."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping

TOKEN_LIFE_S = 1800.0


class TokenSource:
    """The tokens that a Stargate accepts.

    Args:
        fixed: A token that is always good; None for none.
        users: Passwords by user.
        clock: Seconds of a clock.
    """

    def __init__(
        self,
        fixed: str | None,
        users: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fixed, self.users = fixed, dict(users)
        self._clock = clock
        self.given = 0
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def give(self, user: object, password: object) -> str | None:
        """A new token, or None where user or password are wrong."""
        if not isinstance(user, str) or self.users.get(user) != password:
            return None
        token = str(uuid.uuid4())
        with self._lock:
            self.given += 1
            self._ends[token] = self._clock() + TOKEN_LIFE_S
        return token

    def fault(self, token: str | None) -> str | None:
        """What Stargate says is wrong with a token; None if it is good."""
        if token is None:
            return "MissingPathError token"
        if not token:
            return "authorization failed - missing token"
        if token == self.fixed:
            return None
        now = self._clock()
        with self._lock:
            if self._ends.get(token, 0.0) > now:
                self._ends[token] = now + TOKEN_LIFE_S
                return None
        return "authorization failed" if _is_uuid(token) else "authorization failed - bad token"

    def expire(self) -> None:
        """Ends every token that was given, and the fixed one."""
        with self._lock:
            self._ends.clear()
            self.fixed = None


def _is_uuid(token: str) -> bool:
    try:
        uuid.UUID(token)
    except ValueError:
        return False
    return True
