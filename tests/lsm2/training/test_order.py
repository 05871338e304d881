"""Order of days, steps by token budget, shares of ranks, people held out: pure functions, nobody lost and
nobody twice.
"""

import dataclasses
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from lsm2.config import LSM2Config, MaskingConfig
from lsm2.data.masking import token_observed
from lsm2.data.signals import Signal
from lsm2.data.splits import heldout_subjects
from lsm2.data.store import Day, DayStore
from lsm2.errors import InputError
from lsm2.training.order import TokenBudget, Workload, balance, step_days


@pytest.mark.parametrize("num_days", [1, 5, 13])
@pytest.mark.parametrize("batch_days", [1, 4, 30])
def test_every_epoch_has_every_day_once(num_days, batch_days):
    steps = -(-3 * num_days // batch_days)
    items = [item for step in range(steps) for item in step_days(num_days, batch_days, step, seed=0)][
        : 3 * num_days
    ]
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


UNEVEN = np.random.default_rng(0).integers(0, 2000, 57)


@pytest.mark.parametrize("budget", [1, 1999, 5000, 10**6])
def test_budgeted_steps_follow_the_order_of_the_epochs(budget):
    steps = TokenBudget(UNEVEN, budget, seed=3)
    items = [item for step in range(4 * 57) for item in steps.days(step)][: 3 * 57]
    assert items == step_days(57, 3 * 57, 0, seed=3)


@pytest.mark.parametrize("budget", [700, 1999, 5000])
def test_a_step_is_as_long_as_the_budget_lets_it(budget):
    steps = TokenBudget(UNEVEN, budget, seed=0)
    tokens = [[max(1, UNEVEN[index]) for _, index in steps.days(step)] for step in range(300)]
    assert any(sum(some) > budget for some in tokens) == (budget < UNEVEN.max())
    for some, after in pairwise(tokens):
        assert len(some) >= 1
        assert sum(some) <= budget or len(some) == 1
        assert sum(some) + after[0] > budget


def test_a_budgeted_step_does_not_depend_on_the_steps_asked_before():
    forwards, backwards, late = (TokenBudget(UNEVEN, 5000, seed=1) for _ in range(3))
    steps = {step: forwards.days(step) for step in range(200)}
    assert steps == {step: backwards.days(step) for step in reversed(range(200))}
    assert late.days(150) == steps[150] != TokenBudget(UNEVEN, 5000, seed=2).days(150)


def test_days_without_tokens_end_a_step_too():
    steps = TokenBudget(np.zeros(10, int), 4, seed=0)
    assert [len(steps.days(step)) for step in range(6)] == [4] * 6


def test_a_budget_over_no_days_is_an_error():
    with pytest.raises(ValueError, match="num_days"):
        TokenBudget(np.zeros(0, int), 4, seed=0)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 8])
@pytest.mark.parametrize("num_items", [0, 1, 6, 40])
def test_parts_share_all_items_without_loss(num_parts, num_items):
    items = [
        (int(work), place)
        for place, work in enumerate(np.random.default_rng(num_items).integers(1, 1000, num_items))
    ]
    parts = balance(items, num_parts)
    assert Counter(item for part in parts for item in part) == Counter(items)
    assert len(parts) == num_parts and sum(map(bool, parts)) == min(num_parts, num_items)


def test_parts_have_about_equal_work():
    rng = np.random.default_rng(1)
    for _ in range(200):
        items = [(int(work), place) for place, work in enumerate(rng.integers(1, 1000, 32))]
        loads = [sum(work for work, _ in part) for part in balance(items, 4)]
        strided = [sum(work for work, _ in items[part::4]) for part in range(4)]
        assert max(loads) <= 1.05 * np.mean(loads) and max(loads) <= max(strided)
    # A best division exists here: 5+4, 5+4, 3+3+3; the largest first gives 4/3 - 1/9 of it at most.
    assert (
        max(
            sum(work for work, _ in part)
            for part in balance([(work, 0) for work in (5, 5, 4, 4, 3, 3, 3)], 3)
        )
        == 11
    )


def test_equal_items_are_dealt_out_by_position():
    assert balance([(1, place) for place in "abcde"], 2) == [
        [(1, "a"), (1, "c"), (1, "e")],
        [(1, "b"), (1, "d")],
    ]
    assert balance([(0, place) for place in "abc"], 2) == [[(0, "a"), (0, "c")], [(0, "b")]]


@pytest.mark.parametrize(
    ("people", "fraction", "expected"),
    [
        (10, 0.2, 2),
        (11, 0.2, 2),
        (2, 0.01, 1),
        (2, 0.99, 1),
        (3, 0.99, 2),
        (1, 0.5, 0),
        (9, 0, 0),
        (0, 0.2, 0),
    ],
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
    program = (
        "from lsm2.data.splits import heldout_subjects as h; "
        "print(sorted(h([f'person {n}' for n in range(40)], 0.3, 1)))"
    )
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


@pytest.mark.parametrize("patch", [1, 5, 8, 10, 24, 120])
@pytest.mark.parametrize("enough", [0.01, 0.5, 0.7, 1.0])
def test_tokens_are_counted_from_bits_as_from_values(small_store, monkeypatch, patch, enough):
    indices = [2, 3, 11, 19]
    config = LSM2Config(
        num_signals=3,
        window_minutes=120,
        patch_minutes=patch,
        masking=MaskingConfig(token_min_observed=enough),
    )
    days = np.stack([~np.isnan(small_store.values(index)) for index in indices])
    expected = token_observed(days, patch, enough).sum(1)
    assert (days.reshape(4, -1, patch).mean(-1) >= enough - 1e-9).sum() >= expected.sum()
    monkeypatch.setattr(DayStore, "values", None)
    monkeypatch.setattr("lsm2.training.order.DAYS_AT_A_TIME", 3)
    assert Workload(small_store, indices, config).most_tokens().tolist() == expected.tolist()


def test_days_without_enough_data_for_any_mask_are_counted(tmp_path, tiny_config):
    days = []
    for number in range(6):
        values = np.zeros((3, 120), np.float32)
        if number < 2:
            values[1:] = np.nan
        days.append(Day("p", f"2024-01-{number + 1:02}", values))
    store = DayStore.write(tmp_path / "store", [Signal("a"), Signal("b"), Signal("c")], days)
    only_signals = MaskingConfig(random_share=0, time_share=0, signal_share=1)
    config = dataclasses.replace(tiny_config, masking=only_signals)
    assert Workload(store, range(6), config).count_unmaskable() == (2, 6)
    assert Workload(store, [1, 4], config).count_unmaskable() == (1, 2)
    assert Workload(store, range(6), tiny_config).count_unmaskable() == (0, 6)
