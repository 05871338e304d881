"""torch.compile: few compilations however lengths change, the numbers of eager mode, float32 where it
matters.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from lsm2 import LSM2, LSM2Config
from lsm2.config import TrainConfig
from lsm2.data import DayStore, PackedBatch, collate
from lsm2.training import pretrain
from lsm2.training.compile import compile_loss
from lsm2.training.objective import Reconstruction
from lsm2.training.recompute import recompute_blocks

DECODERS = ("cross", "joint", "full")
CONFIG = LSM2Config(
    num_signals=3,
    window_minutes=240,
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=1,
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Compilations of one test count in no other; a second thread would only wait here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.set_num_threads(before)


def new_model(decoder: str = "cross", **changes: object) -> LSM2:
    torch.manual_seed(0)
    return LSM2(dataclasses.replace(CONFIG, decoder=decoder, **changes))


def batch_of(config: LSM2Config, visible: list[int], queries: list[int], seed: int = 0) -> PackedBatch:
    """Days with so many visible tokens and so many to reconstruct."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(visible), config.num_signals, config.window_samples), torch.nan)
    tokens = values.view(len(visible), config.num_tokens, config.patch_samples)
    hidden = torch.zeros(len(visible), config.num_tokens, dtype=torch.bool)
    for day, (seen, asked) in enumerate(zip(visible, queries, strict=True)):
        chosen = torch.randperm(config.num_tokens, generator=generator)[: seen + asked]
        tokens[day, chosen] = torch.randn(seen + asked, config.patch_samples, generator=generator)
        hidden[day, chosen[seen:]] = True
    return collate(values, config, artificial=hidden)


def run(
    loss: Callable[[PackedBatch], tuple[torch.Tensor, torch.Tensor]], model: LSM2, batch: PackedBatch
) -> list[torch.Tensor]:
    """Loss, number of targets and the gradient of every weight."""
    model.zero_grad(set_to_none=False)
    loss_sum, num_target = loss(batch)
    loss_sum.backward()
    return [
        loss_sum.detach(),
        num_target,
        *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "steps"), [("cross", 500), ("joint", 100), ("full", 100)])
def test_a_long_run_compiles_at_most_twice(decoder: str, steps: int) -> None:
    """Steps of 1 to 5 days, empty days, single tokens and none among them, as many visible tokens as queries
    or as days.
    """
    model = new_model(decoder)
    counter = CompileCounterWithBackend("eager")
    loss = compile_loss(Reconstruction(model), counter)
    generator = torch.Generator().manual_seed(0)
    shapes = []
    for step in range(steps):
        num_days = 1 + int(torch.randint(5, (), generator=generator))
        visible, queries = torch.randint(0, 30, (2, num_days), generator=generator).tolist()
        if step % 25 == 0:
            visible, queries = (
                [[0], [1], [2], [3, 0], [6]][step // 25 % 5],
                [[4], [1], [2], [2, 1], [0]][step // 25 % 5],
            )
        batch = batch_of(model.config, visible, queries, step)
        shapes.append((len(batch.visible_ids), len(batch.query_ids), batch.num_days))
        with torch.autocast("cpu", torch.bfloat16):
            loss_sum, num_target = loss(batch)
            if step % 20 == 0:
                assert (
                    loss_sum == Reconstruction(model).loss(batch)[0]
                    and num_target == batch.target_observed.sum()
                )
        loss_sum.backward()
    assert len(set(shapes)) > 0.4 * steps and {0, 1} < {visible for visible, _, _ in shapes}
    assert 1 <= counter.frame_count <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [([3], [3]), ([1, 1], [1, 1]), ([2], [2]), ([5, 4, 1], [4, 0, 0]), ([10], [10]), ([16], [32])],
    ids=[
        "as many visible as asked",
        "as many as days",
        "two of each",
        "as many asked as offsets",
        "as a patch",
        "as the widths",
    ],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_first_batch_of_coincidences_is_forgotten(decoder: str, first: tuple[list[int], list[int]]) -> None:
    model = new_model(decoder)
    counter = CompileCounterWithBackend("eager")
    loss = compile_loss(Reconstruction(model), counter)
    for visible, queries in (
        first,
        ([30, 4], [20, 7]),
        ([9], [40]),
        ([12, 12, 12, 12], [3, 2, 1, 0]),
        ([2, 1], [40, 20]),
    ):
        loss(batch_of(model.config, visible, queries))[0].backward()
    assert counter.frame_count <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "recompute", "dtype"),
    [
        ("cross", False, None),
        ("cross", True, torch.bfloat16),
        ("joint", True, None),
        ("full", False, torch.bfloat16),
    ],
    ids=str,
)
def test_the_graph_computes_what_eager_mode_does(
    decoder: str, recompute: bool, dtype: torch.dtype | None
) -> None:
    model = new_model(decoder)
    loss = compile_loss(Reconstruction(model), "aot_eager")
    for visible, queries in (([30, 4, 0], [20, 7, 9]), ([9], [40]), ([1], [4]), ([20, 3], [0, 0])):
        batch = batch_of(model.config, visible, queries)
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            recompute_blocks(model, False)
            expected = run(lambda batch: Reconstruction(model).loss(batch), model, batch)
            recompute_blocks(model, recompute)
            actual = run(loss, model, batch)
        assert len(actual) == len(expected) > 30
        assert actual[0] == expected[0]
        # The backward pass may add in another order: a few roundings of float32 (24 bits) or bfloat16 (8).
        tolerance = 1e-5 if dtype is None else 1e-2
        assert actual[1] == expected[1]
        whole, expected_whole = (
            torch.cat([grad.flatten() for grad in some[2:]]) for some in (actual, expected)
        )
        assert (whole - expected_whole).norm() <= tolerance * expected_whole.norm()


def assert_near(actual: list[torch.Tensor], eager: list[torch.Tensor], exact: list[torch.Tensor]) -> None:
    """As near to float32 as eager mode in bfloat16 is, loss and whole gradient, within a factor of two."""
    off, eager_off = ((float(some[0]) - float(exact[0])) / float(exact[0]) for some in (actual, eager))
    assert abs(off) <= 2 * abs(eager_off) + 1e-3
    whole, eager_whole, exact_whole = (
        torch.cat([grad.flatten() for grad in some[2:]]) for some in (actual, eager, exact)
    )
    assert (whole - exact_whole).norm() <= 2 * (eager_whole - exact_whole).norm() + 1e-6 * exact_whole.norm()


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")),
    reason="inductor needs a C++ compiler",
)
def test_inductor_gives_the_loss_and_gradient_of_eager_mode() -> None:
    model = new_model("cross")
    loss = compile_loss(Reconstruction(model))
    for visible, queries in (([30, 4, 0], [20, 7, 9]), ([9], [40]), ([1], [30])):
        batch = batch_of(model.config, visible, queries)
        exact = run(lambda batch: Reconstruction(model).loss(batch), model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            eager = run(lambda batch: Reconstruction(model).loss(batch), model, batch)
            actual = run(loss, model, batch)
        assert_near(actual, eager, exact)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_norms_softmax_and_loss_are_float32_in_the_compiled_graph(decoder: str) -> None:
    # Learned codes are looked up by a product in float32.
    model = new_model(decoder, signal_codes="sincos")
    seen: dict[str, list[torch.dtype]] = {"norm": [], "lse": [], "attention": [], "product": [], "sum": []}

    def record(graph: torch.fx.GraphModule, inputs: object) -> Callable:
        for node in graph.graph.nodes:
            name = str(node.target)
            if name == "aten.native_layer_norm.default":
                seen["norm"] += [node.args[0].meta["val"].dtype, *(value.dtype for value in node.meta["val"])]
            elif name in (
                "lsm2_kernels.varlen_attention.default",
                "lsm2_kernels.varlen_attention_qkvpacked.default",
            ):
                seen["lse"].append(node.meta["val"][1].dtype)
                seen["attention"].append(node.args[0].meta["val"].dtype)
            elif name in ("aten.addmm.default", "aten.mm.default"):
                seen["product"].append(node.meta["val"].dtype)
            elif name == "aten.sum.default" and node.meta["val"].dtype.is_floating_point:
                seen["sum"].append(node.meta["val"].dtype)
        return graph.forward

    loss = compile_loss(
        Reconstruction(model),
        aot_autograd(fw_compiler=record, bw_compiler=lambda graph, inputs: graph.forward),
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss_sum, _ = loss(batch_of(model.config, [30, 4], [20, 7]))
    assert loss_sum.dtype == torch.float32
    wanted = dict.fromkeys(("norm", "lse", "sum"), torch.float32) | dict.fromkeys(
        ("attention", "product"), torch.bfloat16
    )
    assert (
        len(seen["lse"]) == 2
        and len(seen["sum"]) == 1
        and len(seen["norm"]) >= 3 * 6
        and len(seen["product"]) >= 11
    )
    for what, dtypes in seen.items():
        assert set(dtypes) == {wanted[what]}, what


@pytest.mark.parametrize("decoder", DECODERS)
def test_norms_are_float32_in_eager_mode_too(decoder: str) -> None:
    model = new_model(decoder)
    dtypes: list[torch.dtype] = []
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    for norm in norms:
        norm.register_forward_hook(
            lambda norm, inputs, output: dtypes.extend((inputs[0].dtype, output.dtype))
        )
    with torch.autocast("cpu", torch.bfloat16):
        loss_sum, _ = Reconstruction(model).loss(batch_of(model.config, [30, 4], [20, 7]))
    assert (
        len(dtypes) == 2 * len(norms) and set(dtypes) == {torch.float32} and loss_sum.dtype == torch.float32
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_run_is_the_run(
    small_store: DayStore,
    small_train_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    precision: str,
) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr("lsm2.training.step.compile_loss", lambda objective: compile_loss(objective, counter))
    config = dataclasses.replace(CONFIG, window_minutes=120)
    train = dataclasses.replace(
        small_train_config,
        batch_days=None,
        tokens_per_batch=100,
        micro_batches=2,
        activation_checkpointing=True,
        precision=precision,
    )

    def losses(name: str, **settings: object) -> list[float]:
        run = pretrain(
            config,
            dataclasses.replace(train, compile=True, **settings),
            small_store,
            tmp_path / name,
            resume=True,
        )
        return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]

    compiled = losses("compiled")
    assert 1 <= counter.frame_count <= 2
    pretrain(config, train, small_store, tmp_path / "eager", stop_after=4)
    # Compiled code rounds differently, but it is the same run: what began without may go on with.
    assert losses("eager") == pytest.approx(compiled, rel=1e-5 if precision == "fp32" else 1e-2)
