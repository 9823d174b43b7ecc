"""The tokens of the fake Stargate: it issues them for a password, and each use extends them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping

TOKEN_LIFE_S = 1800.0


class IssuedTokens:
    """The tokens that a Stargate accepts.

    Args:
        fixed: A token that does not expire, or None.
        users: Passwords by user name.
        clock: Returns the current time in seconds.

    Attributes:
        issued: Number of tokens issued.
    """

    def __init__(
        self,
        fixed: str | None,
        users: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fixed, self.users = fixed, dict(users)
        self._clock = clock
        self.issued = 0
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def issue(self, user: object, password: object) -> str | None:
        """Return a new token, or None if the user or the password is wrong."""
        if not isinstance(user, str) or self.users.get(user) != password:
            return None
        token = str(uuid.uuid4())
        with self._lock:
            self.issued += 1
            self._ends[token] = self._clock() + TOKEN_LIFE_S
        return token

    def error(self, token: str | None) -> str | None:
        """Return Stargate's error message for a token, or None if the token is valid."""
        if token is None:
            return "Missing token"
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
        """Invalidate all issued tokens and the fixed one."""
        with self._lock:
            self._ends.clear()
            self.fixed = None


def _is_uuid(token: str) -> bool:
    try:
        uuid.UUID(token)
    except ValueError:
        return False
    return True
