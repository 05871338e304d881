"""The frame of a simulated day: nights, and bouts between them."""

import numpy as np

from lsm2.simulate.people import sample_person
from lsm2.simulate.schedule import LONGEST_BOUT, SHORTEST_BOUT, date_of, is_weekend, plan_day


def test_a_night_is_the_same_seen_from_both_its_days():
    person = sample_person(0, 3)
    for day in range(5):
        after, before = plan_day(person, day + 1).nights[0], plan_day(person, day).nights[1]
        assert (before.start - 1440, before.end - 1440) == (after.start, after.end)
        np.testing.assert_array_equal(before.awake, after.awake)


def test_bouts_lie_between_sleeps_and_apart():
    kinds = set()
    for number in range(60):
        for day in range(7):
            plan = plan_day(sample_person(0, number), day)
            edges = [plan.nights[0].end]
            for bout in plan.bouts:
                assert SHORTEST_BOUT <= bout.end - bout.start <= LONGEST_BOUT
                edges += [bout.start, bout.end]
                kinds.add(bout.name)
            edges.append(min(plan.nights[1].start, 1440))
            assert edges == sorted(edges)
    assert len(kinds) == 20


def test_weekends_are_late_and_active():
    assert [is_weekend(day) for day in range(4)] == [False, True, True, False]
    assert date_of(0).isoformat() == "2024-03-01"
    plans = [(day, plan_day(sample_person(0, number), day)) for number in range(150) for day in range(7)]
    for measure in (lambda plan: plan.nights[0].end, lambda plan: len(plan.bouts)):
        free, work = ([measure(p) for day, p in plans if is_weekend(day) == end] for end in (True, False))
        assert np.mean(free) > 1.1 * np.mean(work)
