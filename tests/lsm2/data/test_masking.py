"""Masks: exact counts over observed tokens, pure in (seed, epoch, day)."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config, MaskingConfig
from lsm2.data.masking import (
    applicable_shares,
    day_rng,
    hide_random,
    hide_signals,
    hide_slots,
    keep_at_most,
    sample_artificial,
    token_observed,
)

SIGNALS, STEPS = 7, 12
CONFIG = LSM2Config(num_signals=SIGNALS, window_minutes=STEPS * 10)


def observed_tokens(case: int) -> np.ndarray:
    """Days from empty to full, with signals and steps that are missing as a whole."""
    rng = np.random.default_rng(case)
    grid = rng.random((SIGNALS, STEPS)) < case / 19
    grid[rng.random(SIGNALS) < 0.2] = False
    grid[:, rng.random(STEPS) < 0.2] = False
    return grid.reshape(-1)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("case", range(20))
def test_counts_are_exact_and_only_observed_tokens_are_hidden(case, ratio):
    observed = observed_tokens(case)
    grid, rng = observed.reshape(SIGNALS, STEPS), np.random.default_rng(case)

    hidden = hide_random(observed, ratio, rng)
    assert hidden.sum() == round(ratio * observed.sum())
    assert not (hidden & ~observed).any()

    for contiguous in (False, True):
        hidden = hide_slots(observed, SIGNALS, ratio, contiguous, rng).reshape(SIGNALS, STEPS)
        steps = np.flatnonzero(hidden.any(0))
        assert len(steps) == round(ratio * grid.any(0).sum())
        np.testing.assert_array_equal(hidden[:, steps], grid[:, steps])
        if contiguous:
            places = np.searchsorted(np.flatnonzero(grid.any(0)), steps)
            np.testing.assert_array_equal(np.diff(places), 1)

    hidden = hide_signals(observed, SIGNALS, ratio, rng).reshape(SIGNALS, STEPS)
    signals = np.flatnonzero(hidden.any(1))
    assert len(signals) == round(ratio * grid.any(1).sum())
    np.testing.assert_array_equal(hidden[signals], grid[signals])


def test_each_choice_is_equally_likely():
    observed = np.ones(SIGNALS * STEPS, dtype=bool)
    rng = np.random.default_rng(0)
    hits = sum(hide_random(observed, 0.25, rng).astype(int) for _ in range(4000))
    # 4000 draws of probability 1/4: standard deviation 27; 84 places stay within 4.5 of them.
    assert np.abs(hits - 1000).max() < 4.5 * np.sqrt(4000 * 0.25 * 0.75)


def test_contiguous_block_reaches_both_ends():
    observed = np.ones(SIGNALS * STEPS, dtype=bool)
    rng = np.random.default_rng(0)
    starts = {
        int(np.flatnonzero(hide_slots(observed, SIGNALS, 0.5, True, rng)[:STEPS])[0]) for _ in range(300)
    }
    assert starts == set(range(STEPS // 2 + 1))


def mask_kind(artificial: np.ndarray) -> str:
    grid = artificial.reshape(SIGNALS, STEPS)
    if (grid.all(0) | ~grid.any(0)).all():
        return "time"
    if (grid.all(1) | ~grid.any(1)).all():
        return "signal"
    return "random"


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1, 1, 1), (1 / 3, 1 / 3, 1 / 3)),
        ((2, 0, 6), (0.25, 0, 0.75)),
        ((0, 1, 0), (0, 1, 0)),
        ((0, 0, 3), (0, 0, 1)),
    ],
    ids=["uniform", "no-time", "only-time", "only-signal"],
)
def test_kinds_follow_their_shares(shares, expected):
    config = replace(
        CONFIG, masking=MaskingConfig(random_share=shares[0], time_share=shares[1], signal_share=shares[2])
    )
    observed, draws = np.ones(SIGNALS * STEPS, dtype=bool), 1500
    kinds = [mask_kind(sample_artificial(observed, config, day_rng(0, 0, str(day)))) for day in range(draws)]
    for kind, share in zip(("random", "time", "signal"), expected, strict=True):
        assert abs(kinds.count(kind) / draws - share) <= 4 * np.sqrt(share * (1 - share) / draws)


def one_signal_observed() -> np.ndarray:
    observed = np.zeros((SIGNALS, STEPS), dtype=bool)
    observed[3] = True
    return observed.reshape(-1)


def test_a_kind_that_would_hide_nothing_leaves_its_share_to_the_others():
    observed, draws = one_signal_observed(), 900
    masks = [sample_artificial(observed, CONFIG, day_rng(0, 0, str(day))) for day in range(draws)]
    # Half of one signal rounds to none. A random mask hides 10 of the 12 tokens, a time mask 6.
    counts = [int(mask.sum()) for mask in masks]
    assert set(counts) == {6, 10}
    assert abs(counts.count(6) / draws - 0.5) <= 4 * np.sqrt(0.25 / draws)
    np.testing.assert_array_equal(applicable_shares(observed, CONFIG), [1 / 3, 1 / 3, 0])


def test_nothing_is_hidden_where_no_kind_applies():
    only_signals = replace(CONFIG, masking=MaskingConfig(random_share=0, time_share=0, signal_share=1))
    days = np.stack([one_signal_observed(), np.ones(SIGNALS * STEPS, dtype=bool)])
    assert not sample_artificial(days[0], only_signals, day_rng(0, 0, "a")).any()
    np.testing.assert_array_equal(applicable_shares(days, only_signals), [[0, 0, 0], [0, 0, 1]])
    empty = np.zeros(SIGNALS * STEPS, dtype=bool)
    assert not sample_artificial(empty, CONFIG, day_rng(0, 0, "a")).any()


@pytest.mark.parametrize(
    ("day", "digest"),
    [
        ("a", "04807bd1aa480ad5"),
        ("b", "12bf5c0113a566f7"),
        ("c", "ebbd9758e07a96da"),
        ("d", "27ac9e8885506ffc"),
    ],
)
def test_masks_are_frozen_where_every_kind_applies(day, digest):
    # These digests are older than the rule for kinds that do not apply.
    mask = sample_artificial(observed_tokens(15), CONFIG, day_rng(0, 0, day))
    assert hashlib.sha256(mask.tobytes()).hexdigest()[:16] == digest


def test_masks_are_a_function_of_seed_epoch_and_day():
    observed = np.ones(SIGNALS * STEPS, dtype=bool)

    def draw(*key):
        return sample_artificial(observed, CONFIG, day_rng(*key)).tobytes()

    assert draw(1, 2, "a/2024-03-01") == draw(1, 2, "a/2024-03-01")
    keys = [(seed, epoch, day) for seed in range(3) for epoch in range(3) for day in ("a", "b", "1", "11")]
    assert len({day_rng(*key).random() for key in keys}) == len(keys)


def test_random_stream_is_frozen():
    # Written down so that a change of the key or of numpy, which would change every mask of a resumed run,
    # does not pass unseen.
    np.testing.assert_array_equal(
        day_rng(0, 0, "P00000/2024-03-01").random(2), [0.20123263933024071, 0.1269297200908417]
    )


@pytest.mark.parametrize(
    ("fraction", "needed"), [(0.05, 1), (0.1, 1), (0.3, 3), (0.5, 5), (0.55, 6), (0.7, 7), (1.0, 10)]
)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_token_observed_counts_minutes(fraction, needed, kind):
    # Token k has exactly k of its 10 minutes.
    observed = np.arange(10)[None] < np.arange(11)[:, None]
    days = np.stack([observed.reshape(1, 110), ~observed.reshape(1, 110)])
    result = token_observed(torch.from_numpy(days) if kind == "torch" else days, 10, fraction)
    expected = [count >= needed for count in range(11)]
    assert np.asarray(result).tolist() == [expected, expected[::-1]]


def test_keep_at_most():
    tokens = observed_tokens(15)
    rng = np.random.default_rng(0)
    assert keep_at_most(tokens, None, rng) is tokens
    assert keep_at_most(tokens, int(tokens.sum()), rng) is tokens
    kept = keep_at_most(tokens, 5, rng)
    assert kept.sum() == 5 and not (kept & ~tokens).any()
