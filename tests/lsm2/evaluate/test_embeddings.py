"""Embeddings: pooled as plain numpy pools them, NaN where nothing was observed, and a cache never stale."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config
from lsm2.data import Day, DayStore, Signal
from lsm2.data.normalize import Normalization
from lsm2.evaluate.embeddings import (
    BLOCK_MINUTES,
    CELL_MINUTES,
    POOLINGS,
    cached_days,
    embed_days,
    embed_intervals,
    num_cells,
    people_of_days,
    untrained,
)
from lsm2.model.lsm2 import LSM2
from lsm2.run_folder import RunFolder

EPOCH = np.datetime64("1970-01-01")


def make_store(path, seed=0):
    """3 people x 3 days, of which p2's and p0's last have no value; a gap at noon of p1's first day."""
    rng = np.random.default_rng(seed)

    def days():
        for person in range(3):
            for date in range(1, 4):
                values = rng.normal(size=(2, 288)).astype(np.float32)
                if person == 2 or (person, date) == (0, 3):
                    values[:] = np.nan
                if (person, date) == (1, 1):
                    values[:, 144:156] = np.nan
                yield Day(f"p{person}", f"2024-01-0{date}", values)

    return DayStore.write(path, [Signal("a", "bpm"), Signal("b", "ms")], days())


def make_model(store, seed=7):
    config = LSM2Config(
        num_signals=2,
        sample_minutes=5,
        encoder_width=16,
        encoder_depth=1,
        encoder_heads=1,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=1,
    )
    torch.manual_seed(seed)
    return LSM2(config, Normalization.from_moments(store.signals, store.moments_of(store.subjects))).eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("embeddings") / "store")


@pytest.fixture(scope="module")
def model(store):
    return make_model(store)


@pytest.fixture
def run(tmp_path, model):
    folder = tmp_path / "run"
    model.save_pretrained(folder / "model")
    (folder / "config.json").write_text(json.dumps({"format_version": 2, "model": model.config.to_dict()}))
    return RunFolder(folder)


def minutes(text):
    return int((np.datetime64(text, "m") - EPOCH).astype(int))


def intervals(model, store, *given, pooling="mean"):
    spans = np.array([[minutes(start), minutes(end)] for _, start, end in given])
    return embed_intervals(model, store, [subject for subject, *_ in given], spans, pooling)


def tokens_of(model, store, day_id):
    """(signals, slots, width), NaN where not observed."""
    tokens = model.encode(store.values(store.index(day_id)), level="token")
    return tokens.reshape(model.config.num_signals, model.config.num_slots, -1)


def test_the_mean_is_what_encode_gives(model, store):
    days = np.stack([store.values(index) for index in range(len(store))])
    found = embed_days(model, store, range(len(store)), "mean")
    np.testing.assert_allclose(found, model.encode(days), atol=1e-5)


def test_poolings_are_those_of_plain_numpy(model, store):
    tokens = tokens_of(model, store, "p1/2024-01-01")
    minute = np.arange(model.config.num_slots) * model.config.patch_minutes
    blocks = [tokens[:, minute // BLOCK_MINUTES == block] for block in range(1440 // BLOCK_MINUTES)]
    cells = [
        tokens[signal, minute // CELL_MINUTES == cell]
        for signal in range(2)
        for cell in range(1440 // CELL_MINUTES)
    ]
    expected = {
        "mean": [np.nanmean(tokens, (0, 1))],
        "mean_std": [np.nanmean(tokens, (0, 1)), np.nanstd(tokens, (0, 1))],
        "blocks": [np.nanmean(block, (0, 1)) for block in blocks],
        "signals": [
            *(np.nanmean(signal, 0) for signal in tokens),
            *(np.nanstd(signal, 0) for signal in tokens),
        ],
        "attentive": [np.nanmean(cell, 0) for cell in cells],
    }
    assert set(expected) == set(POOLINGS)
    for pooling, parts in expected.items():
        found = embed_days(model, store, [store.index("p1/2024-01-01")], pooling)
        np.testing.assert_allclose(found[0], np.concatenate(parts), atol=1e-4, err_msg=pooling)
    assert num_cells(model.config) == len(cells)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_day_or_person_without_data_is_nan_and_never_zero(model, store, pooling):
    days = embed_days(model, store, range(len(store)), pooling)
    subjects = store.days["subject"].to_pylist()
    people = people_of_days(days, subjects, ["p2", "p0", "p1"])
    assert np.isnan(people[0]).all() and np.isfinite(people[1:]).all()
    assert np.isnan(days[store.index("p0/2024-01-03")]).all()
    own = days[[index for index, subject in enumerate(subjects) if subject == "p0"]]
    np.testing.assert_allclose(people[1], own[:2].mean(0), rtol=1e-5, atol=1e-6)


def test_an_interval_takes_the_tokens_whose_middle_is_inside(model, store):
    tokens = tokens_of(model, store, "p0/2024-01-01")
    patch = model.config.patch_minutes
    middle = (np.arange(model.config.num_slots) + 0.5) * patch
    found = intervals(model, store, ("p0", "2024-01-01T08:03", "2024-01-01T09:57"))
    inside = tokens[:, (middle >= 483) & (middle < 597)]
    np.testing.assert_allclose(found[0], np.nanmean(inside, (0, 1)), atol=1e-5)


def test_an_interval_crosses_midnight(model, store):
    first, second = (tokens_of(model, store, f"p0/2024-01-0{day}") for day in (1, 2))
    found = intervals(model, store, ("p0", "2024-01-01T23:00", "2024-01-02T01:00"))
    hour = 60 // model.config.patch_minutes
    both = np.concatenate([first[:, -hour:], second[:, :hour]], 1)
    np.testing.assert_allclose(found[0], np.nanmean(both, (0, 1)), atol=1e-5)


def test_an_interval_shorter_than_a_token_takes_the_token_around_its_middle(model, store):
    tokens = tokens_of(model, store, "p0/2024-01-01")
    found = intervals(
        model, store, ("p0", "2024-01-01T08:01", "2024-01-01T08:03"), ("p0", "2024-01-01T23:58", "2024-01-02")
    )
    slot = 481 // model.config.patch_minutes
    np.testing.assert_allclose(found, [np.nanmean(tokens[:, at], 0) for at in (slot, -1)], atol=1e-5)


def test_an_interval_without_data_is_nan(model, store):
    found = intervals(
        model,
        store,
        ("p1", "2024-01-01T12:00", "2024-01-01T13:00"),
        ("p0", "2024-01-03T08:00", "2024-01-03T09:00"),
        ("p0", "2025-01-01T08:00", "2025-01-01T09:00"),
        pooling="mean_std",
    )
    assert np.isnan(found).all()


def test_overlapping_intervals_do_not_depend_on_each_other_or_their_order(model, store):
    given = [(f"p{p}", f"2024-01-01T0{h}:00", f"2024-01-01T0{h + 2}:00") for p in (1, 0) for h in (1, 2, 3)]
    together = intervals(model, store, *given)
    backwards = intervals(model, store, *given[::-1])[::-1]
    np.testing.assert_array_equal(together, backwards)


def test_the_cache_gives_the_same_bits_without_computing(run, model, store, monkeypatch):
    found = cached_days(run, model, store, "mean_std", "trained")
    monkeypatch.setattr("lsm2.evaluate.embeddings.embed_days", None)
    np.testing.assert_array_equal(cached_days(run, model, store, "mean_std", "trained"), found)


def test_another_model_store_or_pooling_is_another_file(tmp_path, run, model, store):
    def count():
        return len(list(run.embeddings_folder.iterdir()))

    first = cached_days(run, model, store, "mean", "trained")
    cached_days(run, model, store, "signals", "trained")
    cached_days(run, model, store, "mean", "untrained")
    assert count() == 3
    other_store = make_store(tmp_path / "other", seed=1)
    np.testing.assert_array_equal(
        cached_days(run, model, other_store, "mean", "trained"),
        embed_days(model, other_store, range(9), "mean"),
    )
    assert count() == 4
    other = make_model(store, seed=1)
    other.save_pretrained(run.model_folder)
    assert not np.array_equal(cached_days(run, other, store, "mean", "trained"), first, equal_nan=True)
    assert count() == 5


@pytest.mark.parametrize("damage", [b"", b"PAR1", None], ids=["empty", "no table", "cut short"])
def test_a_damaged_cache_is_said_and_computed_anew(run, model, store, damage):
    found = cached_days(run, model, store, "mean", "trained")
    (file,) = run.embeddings_folder.iterdir()
    file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    with pytest.warns(UserWarning, match=r"trained-mean-.*parquet is damaged; .* computed anew"):
        np.testing.assert_array_equal(cached_days(run, model, store, "mean", "trained"), found)
    np.testing.assert_array_equal(cached_days(run, model, store, "mean", "trained"), found)


def test_an_interrupted_write_leaves_nothing_that_is_read(run, model, store, monkeypatch):
    def stop(table, part):
        part.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lsm2.evaluate.embeddings.pq.write_table", stop)
        with pytest.raises(KeyboardInterrupt):
            cached_days(run, model, store, "mean", "trained")
    assert not list(run.embeddings_folder.glob("*.parquet"))
    assert np.isfinite(cached_days(run, model, store, "mean", "trained")[0]).all()


def test_the_untrained_encoder_is_another_and_always_the_same(model, store):
    state = torch.get_rng_state()
    once, again = (embed_days(untrained(model), store, [0], "mean") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - embed_days(model, store, [0], "mean")).max() > 0.01


def test_the_untrained_encoder_of_a_model_that_reads_filled_days_reads_filled_days_too(model, store):
    filled = dataclasses.replace(model.config, fill_gaps="linear")

    def fill(day):
        return np.nan_to_num(day)

    of_filled = LSM2(filled, model.normalization, fill).eval()
    assert np.isfinite(embed_days(untrained(of_filled), store, [store.index("p2/2024-01-01")], "mean")).all()
