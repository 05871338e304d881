"""The sampling is found whatever the gaps, and refused with what was seen where it is mixed or irregular."""

import numpy as np
import pytest

from lsm2.data.sampling import Sampling, find_sampling
from lsm2.errors import InputError


def steps(slots: np.ndarray) -> np.ndarray:
    """Counts of the minutes between these minutes of a day."""
    between = np.diff(np.sort(slots))
    return np.bincount(np.where(between <= 60, between, 0), minlength=61)


def kept(every: int, share: float, seed: int = 0) -> np.ndarray:
    """The minutes of one day with a value every so many minutes, of which a share is there."""
    slots = np.arange(0, 1440, every)
    return slots[np.random.default_rng(seed).random(len(slots)) < share]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("every", [1, 2, 5, 15])
def test_gaps_do_not_fool_it(every: int, share: float) -> None:
    found = find_sampling([(f"p{i}", "x", steps(kept(every, share, i))) for i in range(5)], "a.csv")
    assert found == Sampling(every, True, {})


def test_signals_may_come_less_often_in_whole_multiples() -> None:
    found = find_sampling(
        [
            ("ann", "hr", steps(kept(5, 0.9))),
            ("ann", "walk", steps(kept(15, 1))),
            ("bo", "walk", steps(kept(15, 1))),
        ],
        "a.csv",
    )
    assert found == Sampling(5, True, {"walk": 15})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            [(f"p{i}", "hr", steps(kept(1, 0.8, i))) for i in range(5)] + [("cy", "hr", steps(kept(5, 1)))],
            "'hr' has a value every 1 minute for p0, p1, p2 and 2 more, a value every 5 minutes for cy",
        ),
        (
            [("ann", "hr", steps(kept(2, 1))), ("ann", "walk", steps(kept(15, 1)))],
            "every 2 minutes for hr, a value every 15 minutes for walk, and 15 is no multiple of 2",
        ),
        ([("ann", "hr", steps(kept(7, 1)))], "every 7 minutes, which does not divide 60"),
        ([("ann", "hr", steps(kept(120, 1)))], "more than an hour apart"),
        (
            [("ann", "hr", steps(np.cumsum([11, 12, 13, 12, 11, 7, 8, 9, 10, 14, 17, 11, 19, 23])))],
            "no regular sampling: .* are 11 minutes, .* are 12 minutes",
        ),
    ],
    ids=["people", "signals", "seven", "hours", "irregular"],
)
def test_mixed_and_irregular_samplings_are_refused(given, words: str) -> None:
    with pytest.raises(InputError, match=words + ".*--sample-minutes"):
        find_sampling(given, "a.csv")


def test_a_signal_may_come_less_often_for_some_who_have_a_finer_one() -> None:
    given = [
        ("ann", "hr", steps(kept(5, 0.9))),
        ("ann", "glucose", steps(kept(5, 0.9))),
        ("bo", "hr", steps(kept(5, 0.9))),
        ("bo", "glucose", steps(kept(15, 0.9))),
    ]
    assert find_sampling(given, "a.csv").minutes == 5
    with pytest.raises(
        InputError, match=r"'glucose' has a value every 5 minutes for ann, .* 15 minutes for bo"
    ):
        find_sampling([entry for entry in given if entry[1] == "glucose"], "a.csv")


def test_few_values_tell_nothing_unless_they_agree() -> None:
    nothing = np.zeros(61, dtype=np.int64)
    assert find_sampling([("ann", "x", nothing)], "a.csv") == Sampling(1, False, {})
    assert find_sampling([("ann", "x", steps(np.array([0, 29, 40])))], "a.csv") == Sampling(1, False, {})
    assert find_sampling([("ann", "x", steps(np.array([0, 5, 10, 20])))], "a.csv") == Sampling(5, True, {})


def test_a_person_with_few_values_does_not_make_it_mixed() -> None:
    stray = ("bo", "x", steps(np.array([3, 5, 13, 40])))
    assert find_sampling([("ann", "x", steps(kept(5, 0.9))), stray], "a.csv").minutes == 5
