"""Which days are evaluated."""

from lsm2.evaluate.days import LEARNED_TASKS, WIDELY_LEARNED_TASKS, spread_over_people
from lsm2.evaluate.tasks import TASKS


def test_days_are_one_of_each_person_in_turn_and_more_of_them_hold_the_fewer():
    day_ids = [f"p{person}/2026-01-{date:02d}" for person in range(6) for date in range(1, 4)]
    subjects = [day_id.split("/")[0] for day_id in day_ids]
    days = range(len(day_ids))
    assert spread_over_people(days, day_ids, subjects, None) == list(days)
    six, nine = (spread_over_people(days, day_ids, subjects, number) for number in (6, 9))
    assert set(six) < set(nine)
    assert len({subjects[day] for day in six}) == 6


def test_fills_that_learn_from_every_way_of_hiding_meet_every_kind_of_task():
    learned = {TASKS[name].kind for name in WIDELY_LEARNED_TASKS}
    assert learned == {task.kind for task in TASKS.values()}
    assert set(LEARNED_TASKS) <= set(WIDELY_LEARNED_TASKS)
