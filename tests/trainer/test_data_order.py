"""Order of days, share of a rank, people held out: pure functions, nobody lost and nobody twice."""

import subprocess
import sys
from collections import Counter

import pytest

from lsm2.data.sampler import rank_share, step_days
from lsm2.data.split import heldout_subjects
from lsm2.errors import InputError


@pytest.mark.parametrize("num_days", [1, 5, 13])
@pytest.mark.parametrize("batch_days", [1, 4, 30])
def test_every_epoch_has_every_day_once(num_days, batch_days):
    steps = -(-3 * num_days // batch_days)
    items = [item for step in range(steps) for item in step_days(num_days, batch_days, step, seed=0)][: 3 * num_days]
    assert [epoch for epoch, _ in items] == sorted(epoch for epoch, _ in items)
    assert Counter(items) == Counter((epoch, index) for epoch in range(3) for index in range(num_days))


def test_order_does_not_depend_on_how_it_is_cut_into_batches():
    whole = [item for step in range(12) for item in step_days(17, 4, step, seed=3)]
    assert whole == [item for step in range(4) for item in step_days(17, 12, step, seed=3)]
    assert whole[20:24] == step_days(17, 4, 5, seed=3)


def test_epochs_and_seeds_differ():
    first = [index for _, index in step_days(50, 50, 0, seed=0)]
    assert first != [index for _, index in step_days(50, 50, 1, seed=0)]
    assert first != [index for _, index in step_days(50, 50, 0, seed=1)]
    assert first != sorted(first)


def test_no_days_is_an_error():
    with pytest.raises(ValueError, match="num_days"):
        step_days(0, 4, 0, seed=0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_share_a_step_without_loss(world_size):
    items = step_days(20, 6, 0, seed=0)
    shares = [rank_share(items, rank, world_size) for rank in range(world_size)]
    assert Counter(item for share in shares for item in share) == Counter(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("people", "fraction", "expected"),
    [(10, 0.2, 2), (11, 0.2, 2), (2, 0.01, 1), (2, 0.99, 1), (3, 0.99, 2), (1, 0.5, 0), (9, 0, 0), (0, 0.2, 0)],
)
def test_number_of_people_held_out(people, fraction, expected):
    subjects = [f"person {n}" for n in range(people)]
    heldout = heldout_subjects(subjects, fraction, seed=0)
    assert len(heldout) == expected and heldout <= set(subjects)


def test_split_depends_on_people_and_seed_only():
    subjects = [f"person {n}" for n in range(40)]
    assert heldout_subjects(subjects, 0.3, 1) == heldout_subjects(subjects[::-1] * 2, 0.3, 1)
    assert heldout_subjects(subjects, 0.3, 1) != heldout_subjects(subjects, 0.3, 2)
    # Hash seeds differ between processes; the split may not.
    program = "from lsm2.data.split import heldout_subjects as h; print(sorted(h([f'person {n}' for n in range(40)], 0.3, 1)))"
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert other.stdout.strip() == str(sorted(heldout_subjects(subjects, 0.3, 1)))


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(InputError, match="heldout_fraction"):
        heldout_subjects(["a", "b"], fraction, 0)
