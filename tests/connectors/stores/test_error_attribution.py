"""Whether a row, the setup or the service causes an error."""

from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.stores.error_attribution import ErrorAttribution

NO = RejectedError("Stargate answered 400: no")
FAILED = TransientError("Stargate answered 500", status=500)


class Setup:
    """An `ErrorAttribution` with a manual clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.attribution = ErrorAttribution(lambda: self.now)
        self.is_healthy = True

    def begin(self, page_id="bad"):
        return self.attribution.begin(page_id)

    def rejected(self, case):
        return self.attribution.attribute_rejection(case, NO, "remedy")

    def failed(self, case):
        async def is_healthy():
            return self.is_healthy

        return asyncio.run(self.attribution.attribute_failure(case, FAILED, is_healthy))

    def fail_for(self, case, seconds, tries=12, meanwhile=lambda: None):
        """Fail a row several times over some seconds; returns whether it was given up."""
        try:
            for _ in range(tries):
                self.failed(case)
                meanwhile()
                self.now += seconds / (tries - 1)
        except RejectedError:
            return True
        return False


def test_a_rejected_row_is_given_up_if_others_are_accepted():
    setup = Setup()
    case = setup.begin()
    setup.attribution.accepted()
    assert isinstance(setup.rejected(case), TransientError)  # the setup may have changed since
    setup.attribution.accepted()
    with pytest.raises(RejectedError):
        setup.rejected(case)


def test_the_first_rejected_row_waits_for_other_rows():
    setup = Setup()
    case = setup.begin()
    assert isinstance(setup.rejected(case), TransientError)
    setup.now += 0.1
    setup.attribution.accepted()
    with pytest.raises(RejectedError):
        setup.rejected(case)


def test_the_first_row_is_given_up_if_no_other_row_follows():
    setup = Setup()
    case = setup.begin()
    setup.rejected(case)
    setup.now += 5
    with pytest.raises(RejectedError):
        setup.rejected(case)


def test_three_rejected_rows_before_any_accepted_row_mean_the_setup():
    setup = Setup()
    first, second, third = (setup.begin(name) for name in "abc")
    assert not isinstance(setup.rejected(first), ConfigurationError)
    assert not isinstance(setup.rejected(second), ConfigurationError)
    fault = setup.rejected(third)
    assert isinstance(fault, ConfigurationError)
    assert fault.remedy == "remedy"
    setup.now += 3600
    assert isinstance(setup.rejected(first), ConfigurationError), "and they are not given up later"


def test_a_row_that_is_rejected_repeatedly_counts_once():
    setup = Setup()
    case = setup.begin()
    for _ in range(40):
        assert not isinstance(setup.rejected(case), ConfigurationError)


def test_rows_that_were_given_up_count_too():
    setup = Setup()
    for name in "ab":
        case = setup.begin(name)
        setup.rejected(case)
        setup.now += 5
        with pytest.raises(RejectedError):
            setup.rejected(case)
        setup.attribution.end(case)
    assert isinstance(setup.rejected(setup.begin("c")), ConfigurationError)


def test_a_setup_that_breaks_later_costs_only_rows_that_are_alone_for_long():
    setup = Setup()
    setup.attribution.accepted()
    trials = [setup.begin(f"p{n}") for n in range(100)]
    for case in trials[:19]:
        assert not isinstance(setup.rejected(case), ConfigurationError)
    for case in trials[19:]:
        assert isinstance(setup.rejected(case), ConfigurationError)
    setup.now += 5
    assert all(isinstance(setup.rejected(case), ConfigurationError) for case in trials)


def test_an_accepted_row_clears_the_rejections():
    setup = Setup()
    trials = [setup.begin(name) for name in "abcd"]
    for case in trials:
        setup.rejected(case)
    setup.attribution.accepted()
    for case in trials:
        with pytest.raises(RejectedError):
            setup.rejected(case)


def test_a_row_that_only_gets_500_is_given_up_while_others_are_accepted():
    setup = Setup()
    case = setup.begin()
    assert setup.fail_for(case, 31, meanwhile=setup.attribution.accepted)
    assert setup.now >= 30


def test_ten_failures_or_thirty_seconds_alone_are_not_enough():
    setup = Setup()
    assert not setup.fail_for(setup.begin(), 29, tries=40, meanwhile=setup.attribution.accepted)
    assert not setup.fail_for(setup.begin(), 100, tries=9, meanwhile=setup.attribution.accepted)


def test_a_service_that_answers_500_to_every_row_never_causes_a_dead_letter():
    setup = Setup()
    trials = [setup.begin(f"p{n}") for n in range(32)]
    for _ in range(1000):
        for case in trials:
            setup.failed(case)
        setup.now += 5


def test_rows_accepted_just_before_a_service_broke_prove_nothing():
    setup = Setup()
    trials = [setup.begin(f"p{n}") for n in range(32)]
    setup.attribution.accepted(10)
    for _ in range(20):
        for case in trials:
            setup.failed(case)
        setup.now += 5


def test_a_service_that_fails_reads_too_is_the_cause():
    setup = Setup()
    setup.is_healthy = False
    assert not setup.fail_for(setup.begin(), 3600, tries=720)


def test_a_lone_row_is_given_up_after_five_minutes():
    setup = Setup()
    case = setup.begin()
    assert not setup.fail_for(case, 290, tries=60)
    assert setup.fail_for(case, 20, tries=5)


def test_several_bad_rows_are_given_up_although_all_of_them_fail():
    setup = Setup()
    trials = [setup.begin(f"p{n}") for n in range(5)]
    setup.attribution.accepted(5)
    given_up = set()
    for _ in range(80):
        for case in trials:
            if case.page_id not in given_up:
                try:
                    setup.failed(case)
                except RejectedError:
                    given_up.add(case.page_id)
                    setup.attribution.end(case)
        setup.now += 5
    assert len(given_up) == 5
