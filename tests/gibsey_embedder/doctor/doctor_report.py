"""The report of the doctor, for the tests of its checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

TopicLimits = Mapping[str, Mapping[str, str]]
GOOD_LIMITS = {
    "cdc.pages": {"retention.ms": "604800000", "max.message.bytes": "1048588"},
    "cdc.pages.dlq": {"retention.ms": "-1", "max.message.bytes": "1048588"},
}


class DoctorReport:
    """The result of one run of the doctor.

    Attributes:
        exit_code: The exit code.
        output: The JSON.
        checks: The findings in the JSON.
    """

    def __init__(self, exit_code: int, output: str) -> None:
        self.exit_code = exit_code
        self.output = output
        self.checks: list[dict[str, str]] = json.loads(output)["checks"]

    def assert_finding(self, check: str, result: str, *texts: str) -> None:
        """Assert that a check whose name begins with `check` has a finding with all the texts."""
        for finding in self.checks:
            text = finding["found"] + " → " + finding["remedy"]
            is_match = finding["check"].startswith(check) and finding["result"] == result
            if is_match and all(part in text for part in texts):
                assert bool(finding["remedy"]) is (result != "good")
                assert self.exit_code == int(any(f["result"] == "bad" for f in self.checks))
                return
        raise AssertionError(f"{check} {result} {texts} is not in {self.output}")


RunDoctor = Callable[..., DoctorReport]
