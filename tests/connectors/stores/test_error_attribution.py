from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.stores.error_attribution import ErrorAttribution

NO = RejectedError("Stargate answered 400: no")
FAILED = TransientError("Stargate answered 500", status=500)


class Court:
    """A `ErrorAttribution` with a clock to set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.attribution = ErrorAttribution(lambda: self.now)
        self.reads = True

    def begin(self, page_id="bad"):
        return self.attribution.begin(page_id)

    def refused(self, case):
        return self.attribution.attribute_rejection(case, NO, "remedy")

    def failed(self, case):
        async def answers():
            return self.reads

        return asyncio.run(self.attribution.attribute_failure(case, FAILED, answers))

    def fail_for(self, case, seconds, tries=12, meanwhile=lambda: None):
        """Fail a row several times over some seconds; whether it was given up."""
        try:
            for _ in range(tries):
                self.failed(case)
                meanwhile()
                self.now += seconds / (tries - 1)
        except RejectedError:
            return True
        return False


def test_a_refused_row_is_given_up_where_others_are_accepted():
    court = Court()
    case = court.begin()
    court.attribution.accepted()
    assert isinstance(court.refused(case), TransientError)  # since then something may have happened
    court.attribution.accepted()
    with pytest.raises(RejectedError):
        court.refused(case)


def test_the_first_row_is_held_to_see_how_others_fare():
    court = Court()
    case = court.begin()
    assert isinstance(court.refused(case), TransientError)
    court.now += 0.1
    court.attribution.accepted()
    with pytest.raises(RejectedError):
        court.refused(case)


def test_the_first_row_is_given_up_if_nothing_else_comes():
    court = Court()
    case = court.begin()
    court.refused(case)
    court.now += 5
    with pytest.raises(RejectedError):
        court.refused(case)


def test_three_different_rows_refused_and_none_ever_accepted_are_the_setup():
    court = Court()
    first, second, third = (court.begin(name) for name in "abc")
    assert not isinstance(court.refused(first), ConfigurationError)
    assert not isinstance(court.refused(second), ConfigurationError)
    fault = court.refused(third)
    assert isinstance(fault, ConfigurationError)
    assert fault.remedy == "remedy"
    court.now += 3600
    assert isinstance(court.refused(first), ConfigurationError), "and they are not given up later"


def test_one_row_refused_again_and_again_is_one_row():
    court = Court()
    case = court.begin()
    for _ in range(40):
        assert not isinstance(court.refused(case), ConfigurationError)


def test_rows_given_up_one_after_the_other_count_too():
    court = Court()
    for name in "ab":
        case = court.begin(name)
        court.refused(case)
        court.now += 5
        with pytest.raises(RejectedError):
            court.refused(case)
        court.attribution.end(case)
    assert isinstance(court.refused(court.begin("c")), ConfigurationError)


def test_a_setup_that_breaks_later_takes_no_row_with_it_that_is_not_alone_for_long():
    court = Court()
    court.attribution.accepted()
    trials = [court.begin(f"p{n}") for n in range(100)]
    for case in trials[:19]:
        assert not isinstance(court.refused(case), ConfigurationError)
    for case in trials[19:]:
        assert isinstance(court.refused(case), ConfigurationError)
    court.now += 5
    assert all(isinstance(court.refused(case), ConfigurationError) for case in trials)


def test_an_accepted_row_ends_the_suspicion():
    court = Court()
    trials = [court.begin(name) for name in "abcd"]
    for case in trials:
        court.refused(case)
    court.attribution.accepted()
    for case in trials:
        with pytest.raises(RejectedError):
            court.refused(case)


def test_a_row_that_only_gets_500_is_given_up_while_others_are_stored():
    court = Court()
    case = court.begin()
    assert court.fail_for(case, 31, meanwhile=court.attribution.accepted)
    assert court.now >= 30


def test_neither_ten_tries_nor_thirty_seconds_alone_are_enough():
    court = Court()
    assert not court.fail_for(court.begin(), 29, tries=40, meanwhile=court.attribution.accepted)
    assert not court.fail_for(court.begin(), 100, tries=9, meanwhile=court.attribution.accepted)


def test_a_service_that_answers_500_to_everybody_never_causes_a_dead_letter():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(32)]
    for _ in range(1000):
        for case in trials:
            court.failed(case)
        court.now += 5


def test_rows_stored_just_before_a_service_broke_say_nothing():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(32)]
    court.attribution.accepted(10)
    for _ in range(20):
        for case in trials:
            court.failed(case)
        court.now += 5


def test_a_service_that_answers_no_read_either_is_down():
    court = Court()
    court.reads = False
    assert not court.fail_for(court.begin(), 3600, tries=720)


def test_a_lone_row_is_given_up_after_five_minutes():
    court = Court()
    case = court.begin()
    assert not court.fail_for(case, 290, tries=60)
    assert court.fail_for(case, 20, tries=5)


def test_several_bad_rows_are_given_up_although_each_sees_the_others_fail():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(5)]
    court.attribution.accepted(5)
    given_up = set()
    for _ in range(80):
        for case in trials:
            if case.page_id not in given_up:
                try:
                    court.failed(case)
                except RejectedError:
                    given_up.add(case.page_id)
                    court.attribution.end(case)
        court.now += 5
    assert len(given_up) == 5
