"""The generative tasks: what is hidden, what is target, and that both depend on nothing but the day."""

import hashlib

import numpy as np
import pytest

from lsm2.evaluate.tasks import TASKS, Task

SIGNALS, STEPS, MINUTES_PER_STEP = 8, 144, 10


def gappy_day(seed: int, observed_share: float = 0.6) -> np.ndarray:
    """token_observed (C, S) with scattered gaps, a night without the device and one dead signal."""
    rng = np.random.default_rng(seed)
    observed = rng.random((SIGNALS, STEPS)) < observed_share
    observed[:, 20:60] = False
    observed[3] = False
    return observed


def sampled(
    task: Task, observed: np.ndarray, day_id: str = "ann/2026-01-01", **numbers: int
) -> tuple[np.ndarray, np.ndarray]:
    tokens = task.sample(observed, MINUTES_PER_STEP, day_id=day_id, **numbers)
    assert tokens is not None
    return tokens.hidden.reshape(observed.shape), tokens.target.reshape(observed.shape)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
@pytest.mark.parametrize("seed", range(5))
def test_scored_is_hidden_and_observed_and_something_stays_visible(task, seed):
    observed = gappy_day(seed)
    hidden, target = sampled(task, observed)
    assert target.any()
    assert not (target & ~hidden).any()
    assert not (target & ~observed).any()
    assert (observed & ~hidden).any()


@pytest.mark.parametrize(("name", "ratio"), [("random_30", 0.3), ("random_50", 0.5), ("random_80", 0.8)])
def test_random_hides_the_exact_share_of_observed_tokens(name, ratio):
    observed = gappy_day(1)
    hidden, target = sampled(TASKS[name], observed)
    assert target.sum() == round(ratio * observed.sum())
    assert (hidden == target).all()


@pytest.mark.parametrize("minutes", [10, 30, 60, 180])
def test_interpolation_hides_one_block_of_all_signals_between_data(minutes):
    observed = gappy_day(2)
    hidden, target = sampled(TASKS[f"temporal_interpolation_{minutes}"], observed)
    steps = np.flatnonzero(hidden.any(axis=0))
    assert len(steps) == minutes // MINUTES_PER_STEP
    assert (np.diff(steps) == 1).all()
    assert hidden[:, steps].all()
    assert observed[:, steps[0]].any() and observed[:, steps[-1]].any()
    assert observed[:, : steps[0]].any() and observed[:, steps[-1] + 1 :].any()
    assert (target == (hidden & observed)).all()


@pytest.mark.parametrize("minutes", [10, 30, 60, 180])
def test_extrapolation_hides_all_after_the_cut_and_scores_its_first_minutes(minutes):
    observed = gappy_day(3)
    hidden, target = sampled(TASKS[f"temporal_extrapolation_{minutes}"], observed)
    cut = int(np.flatnonzero(hidden.any(axis=0))[0])
    assert hidden[:, cut:].all() and not hidden[:, :cut].any()
    assert cut + minutes // MINUTES_PER_STEP <= STEPS
    expected = hidden & observed
    expected[:, cut + minutes // MINUTES_PER_STEP :] = False
    assert (target == expected).all()


@pytest.mark.parametrize("count", [1, 2, 6])
def test_signal_imputation_hides_whole_signals_that_have_data(count):
    observed = gappy_day(4)
    hidden, _ = sampled(TASKS[f"signal_imputation_{count}"], observed)
    signals = np.flatnonzero(hidden.any(axis=1))
    assert len(signals) == count
    assert hidden[signals].all()
    assert observed[signals].any(axis=1).all()


@pytest.mark.parametrize(
    ("minutes_per_slot", "steps"),
    [
        (10, {10: 1, 30: 3, 60: 6, 180: 18}),
        (30, {10: 1, 30: 1, 60: 2, 180: 6}),
        (20, {10: 1, 30: 2, 60: 3, 180: 9}),
    ],
)
def test_minutes_are_rounded_to_whole_tokens_of_at_least_one(minutes_per_slot, steps):
    assert {m: TASKS[f"temporal_interpolation_{m}"].slots(minutes_per_slot) for m in steps} == steps


def test_impossible_days_give_none():
    empty, one_token = np.zeros((SIGNALS, STEPS), dtype=bool), np.zeros((SIGNALS, STEPS), dtype=bool)
    one_token[0, 5] = True
    two_signals = np.zeros((SIGNALS, STEPS), dtype=bool)
    two_signals[:2] = True
    for task in TASKS.values():
        assert task.sample(empty, MINUTES_PER_STEP, day_id="d") is None
        assert task.sample(one_token, MINUTES_PER_STEP, day_id="d") is None
    assert TASKS["signal_imputation_1"].sample(two_signals, MINUTES_PER_STEP, day_id="d") is not None
    assert TASKS["signal_imputation_2"].sample(two_signals, MINUTES_PER_STEP, day_id="d") is None
    last_hour = np.zeros((SIGNALS, STEPS), dtype=bool)
    last_hour[:, -6:] = True
    assert TASKS["temporal_extrapolation_180"].sample(last_hour, MINUTES_PER_STEP, day_id="d") is None
    assert TASKS["temporal_interpolation_60"].sample(last_hour, MINUTES_PER_STEP, day_id="d") is None


def test_masks_change_with_task_draw_seed_and_day():
    observed, task = gappy_day(5), TASKS["random_50"]
    hidden, _ = sampled(task, observed)
    assert (sampled(task, observed, draw=1)[0] != hidden).any()
    assert (sampled(task, observed, seed=1)[0] != hidden).any()
    assert (sampled(task, observed, "ann/2026-01-02")[0] != hidden).any()
    assert (sampled(task, observed)[0] == hidden).all()


def test_masks_are_frozen_for_ever():
    """Published numbers stay comparable: the same day gets the same masks in every later version."""
    digest = hashlib.sha256()
    for task in TASKS.values():
        hidden, target = sampled(task, np.ones((SIGNALS, STEPS), dtype=bool))
        digest.update(np.packbits(hidden).tobytes() + np.packbits(target).tobytes())
    assert digest.hexdigest()[:16] == "d8d3857347ca1137"
