"""What the steps of a run are made of: every day of a step on one rank only, equal work for all, longest days
first, a budget kept.
"""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from lsm2 import LSM2Config
from lsm2.config import MaskingConfig, TrainConfig
from lsm2.data import DayStore, Normalization, PackedBatch
from lsm2.data.fills.gaps import GapFill
from lsm2.data.signals import Signal
from lsm2.data.store import Day
from lsm2.errors import InputError
from lsm2.training.batches import StepBatches, Waited, load_steps
from lsm2.training.order import Workload, step_days
from lsm2.training.parallel import Ranks

CPU = torch.device("cpu")
NUM_DAYS = 48
MODEL = LSM2Config(num_signals=3, window_minutes=480)


@pytest.fixture(scope="module")
def uneven_store(tmp_path_factory: pytest.TempPathFactory) -> DayStore:
    """48 days of 144 tokens, worn between 0 and 24 hours, the first one not at all."""
    rng = np.random.default_rng(0)

    def days():
        for day in range(NUM_DAYS):
            values = rng.normal(size=(3, 480)).astype(np.float32)
            values[:, int(480 * day / (NUM_DAYS - 1)) :] = np.nan
            yield Day("p", f"2024-{1 + day // 28:02}-{1 + day % 28:02}", values)

    return DayStore.write(
        tmp_path_factory.mktemp("uneven") / "store", [Signal(name, "1") for name in "abc"], days()
    )


@pytest.fixture
def steps_of(uneven_store: DayStore):
    indices = list(range(NUM_DAYS))
    normalization = Normalization.from_moments(uneven_store.signals, uneven_store.moments_of({"p"}))

    def make(
        rank: int = 0, world_size: int = 1, model: LSM2Config = MODEL, **settings: object
    ) -> StepBatches:
        return StepBatches(
            uneven_store, indices, normalization, model, TrainConfig(**settings), Ranks(rank, world_size, CPU)
        )

    return make


def visible(batches: list[PackedBatch]) -> int:
    return sum(len(batch.visible_ids) for batch in batches)


def assert_same(one: list[PackedBatch], two: list[PackedBatch]) -> None:
    assert [batch.day_ids for batch in one] == [batch.day_ids for batch in two]
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.visible_patches, b.visible_patches) and torch.equal(
            a.target_values, b.target_values
        )


def test_the_longest_day_comes_first(steps_of) -> None:
    steps = steps_of(batch_days=12)
    for step in range(8):
        (batch,) = steps[step]
        lengths = batch.cu_visible.diff().tolist()
        assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) > 3
        assert Counter(batch.day_ids) == Counter(steps.days(step))


@pytest.mark.parametrize("settings", [{"batch_days": 12}, {"tokens_per_batch": 900}], ids=["days", "tokens"])
@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 3), (2, 1), (3, 2), (8, 2)])
def test_ranks_and_micro_batches_share_a_step_without_loss(
    steps_of, settings: dict, world_size: int, micro_batches: int
) -> None:
    alone = steps_of(**settings)
    ranks = [
        steps_of(rank, world_size, micro_batches=micro_batches, **settings) for rank in range(world_size)
    ]
    for step in range(6):
        parts = [batch for rank in ranks for batch in rank[step]]
        assert (
            Counter(day for batch in parts for day in batch.day_ids)
            == Counter(alone.days(step))
            == Counter(ranks[-1].days(step))
        )
        assert all(batch.num_days for batch in parts) and len(parts) <= world_size * micro_batches
        (whole,) = alone[step]
        assert visible(parts) == visible([whole])
        assert sum(int(batch.target_observed.sum()) for batch in parts) == int(whole.target_observed.sum())


@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def test_ranks_have_about_equal_work(steps_of, decoder: str) -> None:
    model = dataclasses.replace(MODEL, decoder=decoder)
    ranks = [steps_of(rank, 3, model, batch_days=24) for rank in range(3)]
    everything = steps_of(0, 2, model, batch_days=24)  # knows all days' work
    uneven, uneven_before = [], []
    for step in range(10):
        names, draws = everything.days(step), everything._draws(step)
        multiply_adds = everything._workload.multiply_adds(draws, 0, names)
        work = dict(zip(names, multiply_adds, strict=True))
        loads = [sum(work[day] for batch in rank[step] for day in batch.day_ids) for rank in ranks]
        before = [sum(work[day] for day in names[rank::3]) for rank in range(3)]
        uneven.append(max(loads) / np.mean(loads))
        uneven_before.append(max(before) / np.mean(before))
    assert max(uneven) < 1.03 < np.mean(uneven_before)


def test_visible_tokens_are_balanced_whatever_the_mask(steps_of) -> None:
    """Masks differ: random ones leave a fifth of a day visible, the others half, so equal numbers of observed
    tokens would not do.
    """
    ranks = [steps_of(rank, 2, batch_days=24) for rank in range(2)]
    for step in range(10):
        tokens = [visible(rank[step]) for rank in ranks]
        assert max(tokens) <= 1.06 * np.mean(tokens)


def test_a_rank_or_part_without_days_has_no_batch(steps_of) -> None:
    ranks = [steps_of(rank, 4, batch_days=2, micro_batches=2) for rank in range(4)]
    assert sorted(len(rank[0]) for rank in ranks) == [0, 0, 1, 1]


def test_a_budget_keeps_the_size_of_steps_while_the_number_of_days_changes(steps_of) -> None:
    def sizes(**settings: object) -> list[int]:
        batches = [steps_of(**settings)[step][0] for step in range(20)]
        return [len(batch.visible_ids) + len(batch.query_ids) for batch in batches]

    by_tokens, by_days = sizes(tokens_per_batch=600), sizes(batch_days=8)
    assert max(by_tokens) <= 600 < max(by_days)
    assert np.std(by_tokens) < 0.5 * np.std(by_days) and np.mean(by_tokens) > 0.8 * 600
    assert len({len(steps_of(tokens_per_batch=600).days(step)) for step in range(20)}) > 3


def test_every_position_counts_for_the_full_decoder(steps_of) -> None:
    steps = steps_of(model=dataclasses.replace(MODEL, decoder="full"), tokens_per_batch=600)
    for step in range(20):
        (batch,) = steps[step]
        assert batch.num_days == 4 and len(batch.visible_ids) + len(batch.query_ids) == 4 * 144


def test_a_day_above_the_budget_is_a_step_of_its_own(steps_of) -> None:
    steps = steps_of(tokens_per_batch=100)
    tokens = {
        day: int(count) for day, count in zip(steps.day_ids, steps._workload.most_tokens(), strict=True)
    }
    taken = [steps.days(step) for step in range(60)]
    assert any(tokens[day] > 100 for days in taken for day in days)
    assert all(len(days) == 1 for days in taken if any(tokens[day] > 100 for day in days))


def test_a_budget_takes_the_days_of_the_same_epochs(steps_of) -> None:
    steps = steps_of(tokens_per_batch=900, seed=4)
    days = [day for step in range(40) for day in steps.days(step)]
    assert days[: 2 * NUM_DAYS] == [
        steps.day_ids[index] for _, index in step_days(NUM_DAYS, 2 * NUM_DAYS, 0, 4)
    ]
    assert [steps_of(rank, 3, tokens_per_batch=900, seed=4).days(17) for rank in range(3)] == [
        steps.days(17)
    ] * 3


def test_limits_count_in_the_budget(steps_of) -> None:
    masking = MaskingConfig(max_visible=20, max_queries=10)
    steps = steps_of(model=dataclasses.replace(MODEL, masking=masking), tokens_per_batch=300)
    (batch,) = steps[0]
    assert batch.num_days >= 10 and len(batch.visible_ids) + len(batch.query_ids) <= 300


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_load_what_the_process_itself_would(steps_of, workers: int) -> None:
    settings = {"tokens_per_batch": 900, "micro_batches": 2}
    expected = [steps_of(1, 2, **settings)[step] for step in range(5, 12)]
    loaded = list(load_steps(steps_of(1, 2, num_workers=workers, **settings), 5, 12, CPU))
    assert len(loaded) == len(expected)
    for one, two in zip(loaded, expected, strict=True):
        assert_same(one, two)


def test_waiting_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.25, 10.0, 10.5, 20.0, 21.0])
    monkeypatch.setattr("lsm2.training.batches.time.perf_counter", lambda: next(now))
    items = Waited(iter([[], []]))
    assert next(items) == [] and items.seconds == 0.25
    assert next(items) == [] and items.seconds == 0.75
    with pytest.raises(StopIteration):
        next(items)


def test_only_one_way_to_cut_batches() -> None:
    assert TrainConfig().batch_days == 8 and TrainConfig().tokens_per_batch is None
    assert TrainConfig(tokens_per_batch=5000).batch_days is None
    with pytest.raises(InputError, match="batch_days is 4 and tokens_per_batch is 5000; give only one"):
        TrainConfig(batch_days=4, tokens_per_batch=5000)
    with pytest.raises(InputError, match="tokens_per_batch is 0"):
        TrainConfig(tokens_per_batch=0)
    assert TrainConfig(**dataclasses.asdict(TrainConfig(tokens_per_batch=5000))) == TrainConfig(
        tokens_per_batch=5000
    )


def test_a_filled_day_is_packed_whole_and_the_workload_knows(steps_of, uneven_store: DayStore):
    model = dataclasses.replace(MODEL, fill_gaps="linear")
    batches = steps_of(model=model, batch_days=NUM_DAYS)
    batches.gap_fill = GapFill(1, np.zeros((3, 16)))
    (batch,) = batches[0]
    tokens = (batch.cu_visible.diff() + batch.cu_query.diff()).tolist()
    assert sorted(tokens) == [0] + [MODEL.num_tokens] * (NUM_DAYS - 1)
    assert batch.target_observed.all()
    most = Workload(uneven_store, range(NUM_DAYS), model).most_tokens()
    assert sorted(most.tolist()) == sorted(tokens)
