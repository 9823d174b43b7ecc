from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import PageRefused, SetupFault, Transient
from connectors.stores.error_attribution import Blame

NO = PageRefused("Stargate answered 400: no")
FAILED = Transient("Stargate answered 500", status=500)


class Court:
    """A `Blame` with a clock to set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.blame = Blame(lambda: self.now)
        self.reads = True

    def begin(self, page_id="bad"):
        return self.blame.begin(page_id)

    def refused(self, trial):
        return self.blame.judge_refused(trial, NO, "remedy")

    def failed(self, trial):
        async def answers():
            return self.reads

        return asyncio.run(self.blame.judge_failed(trial, FAILED, answers))

    def fail_for(self, trial, seconds, tries=12, meanwhile=lambda: None):
        """Fail a row several times over some seconds; whether it was given up."""
        try:
            for _ in range(tries):
                self.failed(trial)
                meanwhile()
                self.now += seconds / (tries - 1)
        except PageRefused:
            return True
        return False


def test_a_refused_row_is_given_up_where_others_are_accepted():
    court = Court()
    trial = court.begin()
    court.blame.accepted()
    assert isinstance(court.refused(trial), Transient)  # since then something may have happened
    court.blame.accepted()
    with pytest.raises(PageRefused):
        court.refused(trial)


def test_the_first_row_is_held_to_see_how_others_fare():
    court = Court()
    trial = court.begin()
    assert isinstance(court.refused(trial), Transient)
    court.now += 0.1
    court.blame.accepted()
    with pytest.raises(PageRefused):
        court.refused(trial)


def test_the_first_row_is_given_up_if_nothing_else_comes():
    court = Court()
    trial = court.begin()
    court.refused(trial)
    court.now += 5
    with pytest.raises(PageRefused):
        court.refused(trial)


def test_three_different_rows_refused_and_none_ever_accepted_are_the_setup():
    court = Court()
    first, second, third = (court.begin(name) for name in "abc")
    assert not isinstance(court.refused(first), SetupFault)
    assert not isinstance(court.refused(second), SetupFault)
    fault = court.refused(third)
    assert isinstance(fault, SetupFault)
    assert fault.remedy == "remedy"
    court.now += 3600
    assert isinstance(court.refused(first), SetupFault), "and they are not given up later"


def test_one_row_refused_again_and_again_is_one_row():
    court = Court()
    trial = court.begin()
    for _ in range(40):
        assert not isinstance(court.refused(trial), SetupFault)


def test_rows_given_up_one_after_the_other_count_too():
    court = Court()
    for name in "ab":
        trial = court.begin(name)
        court.refused(trial)
        court.now += 5
        with pytest.raises(PageRefused):
            court.refused(trial)
        court.blame.end(trial)
    assert isinstance(court.refused(court.begin("c")), SetupFault)


def test_a_setup_that_breaks_later_takes_no_row_with_it_that_is_not_alone_for_long():
    court = Court()
    court.blame.accepted()
    trials = [court.begin(f"p{n}") for n in range(100)]
    for trial in trials[:19]:
        assert not isinstance(court.refused(trial), SetupFault)
    for trial in trials[19:]:
        assert isinstance(court.refused(trial), SetupFault)
    court.now += 5
    assert all(isinstance(court.refused(trial), SetupFault) for trial in trials)


def test_an_accepted_row_ends_the_suspicion():
    court = Court()
    trials = [court.begin(name) for name in "abcd"]
    for trial in trials:
        court.refused(trial)
    court.blame.accepted()
    for trial in trials:
        with pytest.raises(PageRefused):
            court.refused(trial)


def test_a_row_that_only_gets_500_is_given_up_while_others_are_stored():
    court = Court()
    trial = court.begin()
    assert court.fail_for(trial, 31, meanwhile=court.blame.accepted)
    assert court.now >= 30


def test_neither_ten_tries_nor_thirty_seconds_alone_are_enough():
    court = Court()
    assert not court.fail_for(court.begin(), 29, tries=40, meanwhile=court.blame.accepted)
    assert not court.fail_for(court.begin(), 100, tries=9, meanwhile=court.blame.accepted)


def test_a_service_that_answers_500_to_everybody_never_causes_a_dead_letter():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(32)]
    for _ in range(1000):
        for trial in trials:
            court.failed(trial)
        court.now += 5


def test_rows_stored_just_before_a_service_broke_say_nothing():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(32)]
    court.blame.accepted(10)
    for _ in range(20):
        for trial in trials:
            court.failed(trial)
        court.now += 5


def test_a_service_that_answers_no_read_either_is_down():
    court = Court()
    court.reads = False
    assert not court.fail_for(court.begin(), 3600, tries=720)


def test_a_lone_row_is_given_up_after_five_minutes():
    court = Court()
    trial = court.begin()
    assert not court.fail_for(trial, 290, tries=60)
    assert court.fail_for(trial, 20, tries=5)


def test_several_bad_rows_are_given_up_although_each_sees_the_others_fail():
    court = Court()
    trials = [court.begin(f"p{n}") for n in range(5)]
    court.blame.accepted(5)
    given_up = set()
    for _ in range(80):
        for trial in trials:
            if trial.page_id not in given_up:
                try:
                    court.failed(trial)
                except PageRefused:
                    given_up.add(trial.page_id)
                    court.blame.end(trial)
        court.now += 5
    assert len(given_up) == 5
