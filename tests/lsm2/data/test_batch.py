"""collate: what is packed, in which order, and that nothing under a missing cell can be seen in it."""

import dataclasses
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config, MaskingConfig
from lsm2.data import PackedBatch, collate
from lsm2.data.masking import count_tokens, day_rng, sample_artificial, token_observed
from lsm2.data.tokens import patchify, unpatchify
from lsm2.errors import InputError

SIGNALS, STEPS, PATCH, DAYS = 5, 9, 4, 6
CONFIG = LSM2Config(num_signals=SIGNALS, window_minutes=STEPS * PATCH, patch_minutes=PATCH)
TOKENS = SIGNALS * STEPS
TENSORS = [f.name for f in dataclasses.fields(PackedBatch) if f.name != "day_ids"]


def make_values(seed: int = 0) -> torch.Tensor:
    """Days with scattered and long gaps; day 2 is all missing, day 3 has a single token, day 4 is complete."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(DAYS, SIGNALS, STEPS * PATCH, generator=generator)
    values[torch.rand(values.shape, generator=generator) < 0.3] = torch.nan
    values[0, 1] = torch.nan
    values[1, :, 10:30] = torch.nan
    values[2] = torch.nan
    values[3] = torch.nan
    values[3, 2, 4:8] = 1.5
    values[4] = torch.randn(SIGNALS, STEPS * PATCH, generator=generator)
    return values


def assert_same_bits(left: PackedBatch, right: PackedBatch) -> None:
    assert left.day_ids == right.day_ids
    for name in TENSORS:
        one, other = getattr(left, name), getattr(right, name)
        assert one.dtype == other.dtype and one.shape == other.shape, name
        assert one.numpy().tobytes() == other.numpy().tobytes(), name


def slices(offsets: torch.Tensor) -> list[slice]:
    return [slice(start, end) for start, end in zip(offsets.tolist(), offsets.tolist()[1:], strict=False)]


def test_patchify_is_channel_major_and_invertible():
    values = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    patches = patchify(values, 4)
    assert patches.shape == (2, 6, 4)
    torch.testing.assert_close(patches[1, 2 * 2 + 1], values[1, 2, 4:8])
    assert patches.data_ptr() == values.data_ptr()
    torch.testing.assert_close(unpatchify(patches, 3), values)


@pytest.mark.parametrize(
    "call",
    [lambda: patchify(torch.zeros(1, 2, 10), 3), lambda: unpatchify(torch.zeros(1, 7, 4), 2)],
    ids=["patch", "signals"],
)
def test_what_cannot_be_cut_is_an_error(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "given"])
def test_packed_batch_is_what_a_loop_over_tokens_gives(decoder, drawn):
    config, values = replace(CONFIG, decoder=decoder), make_values()
    ids = [f"p/{day}" for day in range(DAYS)]
    observed = token_observed(~values.isnan(), PATCH, 0.5)
    if drawn:
        batch = collate(values, config, seed=3, epoch=2, day_ids=ids)
        masks = [
            sample_artificial(day.numpy(), config, day_rng(3, 2, name))
            for day, name in zip(observed, ids, strict=True)
        ]
        artificial = torch.from_numpy(np.stack(masks))
    else:
        artificial = torch.rand(DAYS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.4
        batch = collate(values, config, day_ids=ids, artificial=artificial)
    assert batch.num_days == DAYS and batch.day_ids == tuple(ids)

    patches = patchify(values, PATCH)
    for day, (seen, asked) in enumerate(zip(slices(batch.cu_visible), slices(batch.cu_query), strict=True)):
        visible = [t for t in range(TOKENS) if observed[day, t] and not artificial[day, t]]
        queries = [
            t for t in range(TOKENS) if (t not in visible if decoder == "full" else artificial[day, t])
        ]
        assert batch.visible_ids[seen].tolist() == visible
        assert batch.query_ids[asked].tolist() == queries
        for row, token in zip(batch.visible_patches[seen], visible, strict=True):
            torch.testing.assert_close(row, patches[day, token].nan_to_num(0.0), rtol=0, atol=0)
        for counts, target, token in zip(
            batch.target_observed[asked], batch.target_values[asked], queries, strict=True
        ):
            hidden = artificial[day, token] & observed[day, token]
            expected = ~patches[day, token].isnan() & hidden
            torch.testing.assert_close(counts, expected)
            torch.testing.assert_close(
                target, torch.where(expected, patches[day, token], 0.0), rtol=0, atol=0
            )


def test_dtypes_and_no_nan_anywhere():
    batch = collate(make_values(), CONFIG)
    assert {name: getattr(batch, name).dtype for name in TENSORS} == {
        "visible_patches": torch.float32,
        "visible_ids": torch.int64,
        "cu_visible": torch.int32,
        "query_ids": torch.int64,
        "cu_query": torch.int32,
        "target_values": torch.float32,
        "target_observed": torch.bool,
    }
    assert batch.visible_patches.isfinite().all() and batch.target_values.isfinite().all()


@pytest.mark.parametrize("decoder", ["cross", "full"])
def test_what_lies_under_a_missing_cell_changes_no_bit(decoder):
    config, values = replace(CONFIG, decoder=decoder), make_values()
    clean = collate(values, config, seed=1)
    # NaN of other signs and payloads: the only things that can lie under a cell that is missing.
    bits = values.view(torch.int32).clone()
    missing = values.isnan()
    bits[missing] = torch.tensor([-1, 0x7FC00001, 0x7F800001 | 0x3FF, -0x400000], dtype=torch.int32).repeat(
        int(missing.sum()) // 4 + 1
    )[: int(missing.sum())]
    poisoned = bits.view(torch.float32)
    assert torch.equal(poisoned.isnan(), missing)
    assert_same_bits(clean, collate(poisoned, config, seed=1))


@pytest.mark.parametrize("poison", [1e30, -7.0], ids=str)
def test_tokens_with_too_few_minutes_cannot_be_seen(poison):
    values = make_values()
    inherited = ~token_observed(~values.isnan(), PATCH, 0.5)
    minutes = unpatchify(inherited[..., None].expand(-1, -1, PATCH), SIGNALS) & ~values.isnan()
    assert minutes.any()
    assert_same_bits(collate(values, CONFIG), collate(torch.where(minutes, poison, values), CONFIG))


def test_day_gets_the_same_mask_in_any_batch():
    values, ids = make_values(), [f"p/{day}" for day in range(DAYS)]
    whole = collate(values, CONFIG, seed=5, epoch=[7, 7, 8, 7, 8, 7], day_ids=ids)
    for day in range(DAYS):
        alone = collate(
            values[day : day + 1], CONFIG, seed=5, epoch=8 if day in (2, 4) else 7, day_ids=[ids[day]]
        )
        seen, asked = slices(whole.cu_visible)[day], slices(whole.cu_query)[day]
        assert torch.equal(alone.visible_ids, whole.visible_ids[seen]) and torch.equal(
            alone.query_ids, whole.query_ids[asked]
        )


def test_strided_and_contiguous_values_give_the_same():
    values = make_values()
    strided = values.transpose(0, 2).contiguous().transpose(0, 2)
    assert_same_bits(collate(values, CONFIG), collate(strided, CONFIG))


def test_max_visible_and_max_queries_apply_only_to_drawn_masks():
    masking = MaskingConfig(max_visible=4, max_queries=3)
    config, values = replace(CONFIG, masking=masking), make_values()
    limited, unlimited = collate(values, config), collate(values, CONFIG)
    for name, most in (("visible", 4), ("query", 3)):
        few, all_of_them = getattr(limited, f"cu_{name}").diff(), getattr(unlimited, f"cu_{name}").diff()
        assert torch.equal(few, all_of_them.clamp(max=most))
        for one, other in zip(
            slices(getattr(limited, f"cu_{name}")), slices(getattr(unlimited, f"cu_{name}")), strict=True
        ):
            assert set(getattr(limited, f"{name}_ids")[one].tolist()) <= set(
                getattr(unlimited, f"{name}_ids")[other].tolist()
            )
    artificial = torch.zeros(DAYS, TOKENS, dtype=torch.bool)
    assert (
        collate(values, config, artificial=artificial).visible_ids.numel()
        == token_observed(~values.isnan(), PATCH, 0.5).sum()
    )


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5])
def test_query_share_takes_that_part_of_every_day_and_every_hidden_token_alike(share):
    config, values = replace(CONFIG, masking=MaskingConfig(query_share=share)), make_values()
    counts, chosen = torch.zeros(DAYS, TOKENS), torch.zeros(DAYS, TOKENS)
    for epoch in range(200):
        some, every = collate(values, config, epoch=epoch), collate(values, CONFIG, epoch=epoch)
        assert torch.equal(some.visible_ids, every.visible_ids)
        for day, (asked, hidden) in enumerate(
            zip(slices(some.cu_query), slices(every.cu_query), strict=True)
        ):
            hidden_ids, asked_ids = every.query_ids[hidden], some.query_ids[asked]
            assert len(asked_ids) == min(len(hidden_ids), max(1, round(share * len(hidden_ids))))
            assert set(asked_ids.tolist()) <= set(hidden_ids.tolist())
            counts[day, hidden_ids] += min(
                1.0, max(1, round(share * len(hidden_ids))) / max(1, len(hidden_ids))
            )
            chosen[day, asked_ids] += 1
    # Six standard deviations of a count of so many draws.
    assert ((chosen - counts).abs() <= 6 * counts.sqrt() + 1e-3).all()


def test_query_share_is_refused_with_the_full_decoder():
    with pytest.raises(InputError, match=r"query_share is 0\.5; it must be 1 with decoder 'full'"):
        replace(CONFIG, decoder="full", masking=MaskingConfig(query_share=0.5))


def test_max_visible_with_full_decoder_makes_the_rest_queries_without_targets():
    config = replace(
        CONFIG,
        decoder="full",
        masking=MaskingConfig(max_visible=4, random_share=1, time_share=0, signal_share=0),
    )
    batch = collate(make_values()[4:5], config)
    assert batch.query_ids.numel() == TOKENS - 4
    assert batch.target_observed.any(1).sum() == round(0.8 * TOKENS)


def test_empty_days_and_no_days_are_legal():
    nothing = torch.full((2, SIGNALS, STEPS * PATCH), torch.nan)
    batch = collate(nothing, CONFIG)
    assert batch.cu_visible.tolist() == batch.cu_query.tolist() == [0, 0, 0]
    assert batch.visible_patches.shape == batch.target_values.shape == (0, PATCH)
    assert collate(nothing[:0], CONFIG).num_days == 0


def test_to_moves_every_tensor():
    moved = collate(make_values(), CONFIG).to("meta")
    assert {getattr(moved, name).device.type for name in TENSORS} == {"meta"} and moved.num_days == DAYS


INFINITE = make_values()
INFINITE[4, 2, 7] = torch.inf


@pytest.mark.parametrize(
    ("values", "arguments", "words"),
    [
        (torch.zeros(1, SIGNALS, 40), {}, ["(1, 5, 40)", "window_samples = 36"]),
        (torch.zeros(1, 4, 36), {}, ["(1, 4, 36)", "num_signals = 5"]),
        (torch.zeros(SIGNALS, 36), {}, ["(5, 36)"]),
        (torch.zeros(1, SIGNALS, 36, dtype=torch.float64), {}, ["torch.float64", "float32"]),
        (np.zeros((1, SIGNALS, 36), np.float32), {}, ["ndarray", "float32 tensor"]),
        (
            INFINITE,
            {"day_ids": [f"p/{day}" for day in range(DAYS)]},
            ["'p/4'", "signal 2", "sample 7", "infinite"],
        ),
        (make_values(), {"day_ids": ["a"]}, ["1 days", "6"]),
        (make_values(), {"epoch": [1, 2]}, ["epoch 2"]),
        (make_values(), {"artificial": torch.zeros(DAYS, 3, dtype=torch.bool)}, ["artificial", "(6, 45)"]),
        (make_values(), {"artificial": torch.zeros(DAYS, TOKENS)}, ["artificial", "torch.bool"]),
    ],
    ids=[
        "window",
        "signals",
        "one-day",
        "float64",
        "numpy",
        "infinite",
        "day_ids",
        "epochs",
        "mask-shape",
        "mask-dtype",
    ],
)
def test_bad_input_names_what_came_and_what_is_expected(values, arguments, words):
    with pytest.raises(InputError) as error:
        collate(values, CONFIG, **arguments)
    for word in words:
        assert word in str(error.value)


def test_window_must_be_divisible_by_the_patch():
    with pytest.raises(InputError, match=r"patch_minutes is 7.*1440"):
        LSM2Config(patch_minutes=7)


def test_collate_is_fast_enough_for_a_loader_worker():
    config, values = LSM2Config(), torch.randn(8, 26, 1440)
    times = []
    for epoch in range(8):
        start = time.perf_counter()
        collate(values, config, epoch=epoch)
        times.append((time.perf_counter() - start) / 8)
    # 0.8 ms per full day on one core of a small machine; the best of a few runs, so that a busy machine does not decide.
    assert min(times) < 3e-3


def uneven_days() -> tuple[torch.Tensor, list[str]]:
    """6 days, the observed part growing and shrinking, one with nothing."""
    values = torch.randn(
        6, CONFIG.num_signals, CONFIG.window_samples, generator=torch.Generator().manual_seed(5)
    )
    for day, observed in enumerate((0.3, 1.0, 0.0, 0.6, 0.6, 0.9)):
        values[day, :, int(observed * CONFIG.window_samples) :] = torch.nan
    return values, list("abcdef")


@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def test_longest_first_moves_whole_days(decoder: str) -> None:
    config = dataclasses.replace(CONFIG, decoder=decoder)
    values, ids = uneven_days()
    batch = collate(values, config, day_ids=ids)
    assert batch.day_ids == tuple(ids)
    ordered = batch.longest_first()
    lengths = ordered.cu_visible.diff().tolist()
    assert lengths == sorted(batch.cu_visible.diff().tolist(), reverse=True) and len(set(lengths)) > 3
    places = [ids.index(day) for day in ordered.day_ids]
    assert places != list(range(6)) and sorted(places) == list(range(6))
    assert_same_bits(ordered, collate(values[places], config, day_ids=ordered.day_ids))
    assert ordered.longest_first() is ordered


def test_longest_first_keeps_equal_days_in_their_order() -> None:
    values, _ = uneven_days()
    hidden = torch.zeros(4, CONFIG.num_tokens, dtype=torch.bool)
    batch = collate(
        values[[0, 1, 1, 0]], CONFIG, day_ids=["small", "one", "two", "less"], artificial=hidden
    ).longest_first()
    assert batch.day_ids == ("one", "two", "small", "less")
    nothing = collate(values[:0], CONFIG, day_ids=[])
    assert nothing.longest_first().num_days == 0


@pytest.mark.parametrize(
    ("decoder", "limits"),
    [
        ("cross", (None, None)),
        ("cross", (7, 5)),
        ("joint", (None, 5)),
        ("joint", (7, None)),
        ("full", (None, None)),
        ("full", (7, None)),
    ],
)
def test_counts_are_those_of_the_batch(decoder: str, limits: tuple[int | None, int | None]) -> None:
    masking = dataclasses.replace(CONFIG.masking, max_visible=limits[0], max_queries=limits[1])
    config = dataclasses.replace(CONFIG, decoder=decoder, masking=masking)
    values, ids = uneven_days()
    observed = token_observed(
        ~torch.isnan(values), config.patch_samples, config.masking.token_min_observed
    ).numpy()
    for epoch in range(5):
        epochs = [epoch] * 5 + [epoch + 1]
        batch = collate(values, config, 3, epochs, ids)
        visible, queries = count_tokens(observed, config, 3, epochs, ids)
        assert (
            visible.tolist() == batch.cu_visible.diff().tolist()
            and queries.tolist() == batch.cu_query.diff().tolist()
        )
