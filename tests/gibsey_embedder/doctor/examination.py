"""What the doctor said, for the tests of its checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Limits = Mapping[str, Mapping[str, str]]
GOOD_LIMITS = {
    "cdc.pages": {"retention.ms": "604800000", "max.message.bytes": "1048588"},
    "cdc.pages.dlq": {"retention.ms": "-1", "max.message.bytes": "1048588"},
}


class Examined:
    """What the doctor said.

    Attributes:
        code: Its exit code.
        checks: Its findings, as in its JSON.
    """

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output
        self.checks: list[dict[str, str]] = json.loads(output)["checks"]

    def told(self, check: str, result: str, *words: str) -> None:
        """Assert that there is a finding of a check whose name begins so, with all the words."""
        for finding in self.checks:
            text = finding["found"] + " → " + finding["remedy"]
            is_meant = finding["check"].startswith(check) and finding["result"] == result
            if is_meant and all(word in text for word in words):
                assert bool(finding["remedy"]) is (result != "good")
                assert self.code == int(any(f["result"] == "bad" for f in self.checks))
                return
        raise AssertionError(f"{check} {result} {words} is not in {self.output}")


Examine = Callable[..., Examined]
