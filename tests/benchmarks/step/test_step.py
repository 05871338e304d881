"""The benchmark of training steps: its ways agree, its FLOPs are counted right, packed memory follows the
tokens, and its program runs.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from itertools import accumulate

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.measure.results import Race, find_results
from benchmarks.measure.tables import Target
from benchmarks.measure.timing import compare_laps
from benchmarks.step import race
from benchmarks.step.memory import measure_peak_bytes
from benchmarks.step.ways import WAYS, Days, Step, check_agreement, small_config
from benchmarks.step.work import FlopCount
from lsm2 import LSM2, LSM2Config
from lsm2.data import PackedBatch

CPU = torch.device("cpu")
UNCOMPILED = [name for name, way in WAYS.items() if way.compile is None and not name.startswith("flex")]


def packed(config: LSM2Config, visible: list[int], queries: list[int]) -> PackedBatch:
    """Days with so many tokens, anywhere in the window."""

    def draw(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids = torch.cat([torch.randperm(config.num_tokens)[:count].sort().values for count in counts])
        return (
            torch.randn(len(ids), config.patch_samples),
            ids,
            torch.tensor([0, *accumulate(counts)], dtype=torch.int32),
        )

    target_values, query_ids, cu_query = draw(queries)
    names = tuple(f"day {day}" for day in range(len(visible)))
    return PackedBatch(
        *draw(visible),
        query_ids,
        cu_query,
        target_values,
        torch.ones_like(target_values, dtype=torch.bool),
        names,
    )


def count_saved_bytes(forward: Callable[[], object], there_before: Iterable[torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once, without weights and batch."""
    known = {tensor.untyped_storage().data_ptr() for tensor in there_before}
    kept: dict[int, torch.Tensor] = {}  # a tensor that is held cannot give its address to another

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_all_ways_agree():
    assert check_agreement(UNCOMPILED, CPU) == {}


def test_flex_agrees_where_it_compiles():
    pytest.importorskip("triton", reason="a machine without Triton may also lack a compiler")
    assert check_agreement(["flex"], CPU) == {}


def test_disagreement_is_found(monkeypatch):
    wrong = dataclasses.replace(
        WAYS["padded"], loss=lambda model, batch: 1.01 * WAYS["dense"].loss(model, batch)
    )
    monkeypatch.setitem(WAYS, "padded", wrong)
    with pytest.raises(AssertionError, match="the loss of padded"):
        check_agreement(["padded"], CPU)


def test_flops_by_hand():
    config = LSM2Config(
        num_signals=2,
        window_minutes=20,
        patch_minutes=5,
        encoder_width=16,
        encoder_depth=3,
        encoder_heads=2,
        decoder_width=8,
        decoder_depth=2,
        decoder_heads=1,
        mlp_ratio=4,
    )
    batch = packed(config, [2, 3], [4, 1])
    encoder = 4 * 5 * (5 * 16) + 3 * (6 * 5 * 12 * 16 * 16 + 14 * (2 * 2 + 3 * 3) * 16)
    ends = 6 * 5 * (16 * 8) + 6 * 5 * (8 * 5)
    cross = 2 * (6 * 5 * 10 * 8 * 8 + 6 * 5 * 2 * 8 * 8 + 14 * (2 * 4 + 3 * 1) * 8)
    joint = 2 * (6 * 10 * 12 * 8 * 8 + 14 * (6 * 6 + 4 * 4) * 8)
    assert FlopCount(config).useful(batch) == encoder + ends + cross
    assert FlopCount(dataclasses.replace(config, decoder="joint")).useful(batch) == encoder + ends + joint
    assert FlopCount(config, backward=False).linear(7, 3, 2) == 2 * 7 * 3 * 2
    assert FlopCount(config, backward=False).attention(9, 8) == 4 * 9 * 8


@pytest.mark.parametrize("name", ["dense", "paper", "padded"])
def test_flops_are_those_that_torch_counts(name):
    step = Step.of(name, Days.draw(small_config(), 2, 0.49), CPU, "fp32")
    aten = torch.ops.aten
    of_cpu = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
            sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=of_cpu) as counter:
        step()
    useful, total = step.count_flops()
    assert counter.get_total_flops() == total
    assert useful < total


def test_paper_refuses_days_of_which_it_would_drop_visible_tokens():
    config = small_config()
    days = Days(
        config,
        torch.randn(1, config.num_signals, config.window_samples),
        torch.zeros(1, config.num_tokens, dtype=torch.bool),
    )
    with pytest.raises(ValueError, match="would drop some"):
        Step.of("paper", days, CPU)


@pytest.mark.parametrize("decoder", ["cross", "joint"])
def test_saved_activations_follow_the_tokens_and_not_the_window(decoder):
    def saved(windows: int, visible: list[int], queries: list[int]) -> int:
        config = dataclasses.replace(small_config(), decoder=decoder)
        config = dataclasses.replace(config, window_minutes=windows * config.window_samples)
        model, batch = LSM2(config), packed(config, visible, queries)
        tensors = [getattr(batch, f.name) for f in dataclasses.fields(batch) if f.name != "day_ids"]
        return count_saved_bytes(lambda: model(batch).loss, [*model.parameters(), *model.buffers(), *tensors])

    base = saved(1, [40, 25], [30, 50])
    assert saved(7, [40, 25], [30, 50]) == base
    assert saved(1, [40, 25] * 3, [30, 50] * 3) == pytest.approx(3 * base, rel=0.01)
    # Only linear terms: one long day costs what short ones cost that have the same tokens.
    assert saved(1, [65], [80]) == pytest.approx(base, rel=0.01)
    more_visible, more_queries = saved(1, [80, 50], [30, 50]) - base, saved(1, [40, 25], [60, 100]) - base
    assert (
        more_visible + more_queries == pytest.approx(base, rel=0.01)
        and min(more_visible, more_queries) > 0.1 * base
    )


def test_peak_bytes_are_exact():
    def step() -> None:
        first = torch.zeros(1000)
        second = first.clone()
        del first
        torch.zeros(500)
        del second

    assert measure_peak_bytes(step, CPU) == 8000


def test_targets_compare_medians_of_the_case_that_they_name():
    params = {"preset": "base", "window": "day", "missing": 0.49}
    ways = compare_laps({"ours_cross": [1.0, 2.0, 9.0], "paper": [11.0, 8.0, 10.0], "ours_joint": [4.0]})
    races = [Race("train_step", "base", params, ways)]
    assert Target(params, 5, "paper", "ours_cross").verdict(races).split()[0] == "met"
    assert Target(params, 5.1, "paper", "ours_cross").verdict(races).split()[0] == "missed"
    assert Target(params, 2.5, "paper", "ours_joint").verdict(races).split()[0] == "met"
    assert (
        Target(params | {"preset": "tiny"}, 3, "paper", "ours_cross")
        .verdict(races)
        .startswith("not measured")
    )


def test_dry_run_writes_all_numbers_and_a_picture(tmp_path, capsys):
    report, picture = tmp_path / "steps.json", tmp_path / "steps.png"
    options = ["--dry-run", "--window", "day", "week", "--missing", "20", "49", "--ways", *UNCOMPILED]
    if importlib.util.find_spec("matplotlib") is not None:
        options += ["--plot", str(picture)]
    race.main([*options, "--json", str(report)])
    printed = capsys.readouterr().out
    assert "a dry run" in printed and "base, day, 0.49, ours_full: wanted 2.5x" in printed

    (written,) = find_results([report])
    assert written.machine["dry_run"] and f"torch {torch.__version__}" in written.machine["versions"]
    assert len(written.races) == 4 and all(list(found.ways) == UNCOMPILED for found in written.races)
    for found in written.races:
        assert found.extra["dtype"] in found.case and found.extra["dtype"] in ("bfloat16", "float32")
        product = found.extra["ceilings"]["flops_per_second"]
        for way in found.ways.values():
            assert (
                way["median_seconds"] > 0 and way["peak_bytes"] > 0 and way["loss"] > 0 and way["rounds"] == 1
            )
            assert 0 < way["useful_flops"] <= way["total_flops"] and way["days_per_second"] > 0
            assert 0 < way["useful_flops"] / way["median_seconds"] < product
            ours = found.ways["ours_cross"]["median_seconds"]
            assert way["ratio_to_ours"] == pytest.approx(way["median_seconds"] / ours)
    if "--plot" not in options:
        pytest.skip("matplotlib is not installed: no picture")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_what_needs_too_long_is_not_run(tmp_path):
    report = tmp_path / "steps.json"
    options = ["--dry-run", "--window", "day", "week", "--ways", "ours_cross", "dense", "--patience", "0"]
    race.main([*options, "--json", str(report)])
    (written,) = find_results([report])
    for found in written.races:
        for way in found.ways.values():
            assert "median_seconds" not in way and way["estimated_ms"] > 0
            assert way["error"].startswith("not run: needs about")
