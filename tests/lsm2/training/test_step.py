"""One step: the same gradient however the days are split, a guard that keeps non-finite numbers out, and what
AdamW is told.
"""

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lsm2 import LSM2, LSM2Config
from lsm2.config import TrainConfig
from lsm2.data import PackedBatch, collate
from lsm2.training.objective import Reconstruction
from lsm2.training.optim import decay_after, learning_rate, make_optimizer
from lsm2.training.parallel import Ranks
from lsm2.training.step import StepResult, Trainer, fetch_result

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def new_trainer(tiny_config: LSM2Config, small_train_config: TrainConfig) -> Callable[..., Trainer]:
    def new(**changes: object) -> Trainer:
        torch.manual_seed(0)
        return Trainer(
            Reconstruction(LSM2(tiny_config)),
            dataclasses.replace(small_train_config, **changes),
            ALONE,
        )

    return new


@pytest.fixture
def values() -> torch.Tensor:
    """4 days with different amounts of data."""
    values = torch.randn(4, 3, 120, generator=torch.Generator().manual_seed(1))
    values[1, :2] = torch.nan
    values[2, :, 30:90] = torch.nan
    return values


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        f"{file}.{name}": value.clone()
        for file, values in trainer.tensors().items()
        for name, value in values.items()
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def with_infinity(batch: PackedBatch) -> PackedBatch:
    patches = batch.visible_patches.clone()
    patches[0, 0] = torch.inf
    return dataclasses.replace(batch, visible_patches=patches)


def test_micro_batches_give_the_gradient_of_one_batch(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config
) -> None:
    ids = ["a", "b", "c", "d"]
    whole = [collate(values, tiny_config, day_ids=ids)]
    parts = [collate(values[i : i + 1], tiny_config, day_ids=[ids[i]]) for i in range(4)]
    results = []
    for batches in (whole, parts):
        trainer = new_trainer()
        result = fetch_result(trainer.step(0, batches, False))
        # After one step the first moment is (1 - beta1) times the clipped gradient.
        moments = {
            name: value for name, value in trainer.tensors()["optimizer"].items() if name.endswith("exp_avg")
        }
        results.append((result, moments))
    (one, moment_of_one), (four, moment_of_four) = results
    assert one.num_target == four.num_target and one.num_visible == four.num_visible
    assert four.loss == pytest.approx(one.loss, rel=1e-6)
    assert four.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    for name, moment in moment_of_one.items():
        torch.testing.assert_close(
            moment_of_four[name], moment, rtol=1e-4, atol=1e-6 * one.grad_norm, msg=name
        )


@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def test_very_unequal_micro_batches_give_the_gradient_of_one_batch(
    decoder: str, small_train_config: TrainConfig
) -> None:
    """One part with almost all tokens, one with a few, one day without a visible token, one without a target,
    one without anything.
    """
    config = LSM2Config(
        num_signals=3,
        window_minutes=480,
        encoder_width=32,
        encoder_depth=1,
        encoder_heads=2,
        decoder=decoder,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=1,
    )
    values = torch.randn(6, 3, 480, generator=torch.Generator().manual_seed(2))
    hidden = torch.rand(6, config.num_tokens, generator=torch.Generator().manual_seed(3)) < 0.6
    values[1, :, 30:] = torch.nan
    hidden[2], hidden[3] = True, False
    values[4] = torch.nan
    whole = collate(values, config, artificial=hidden)
    parts = [collate(values[[0, 5]], config, artificial=hidden[[0, 5]])] + [
        collate(values[i : i + 1], config, artificial=hidden[i : i + 1]) for i in (1, 2, 3, 4)
    ]
    targets = [int(part.target_observed.sum()) for part in parts]
    assert targets[0] > 20 * targets[1] > 0 and targets[2] > 0 and targets[3] == targets[4] == 0
    assert len(parts[2].visible_ids) == len(parts[4].visible_ids) == 0

    def gradient(batches: list[PackedBatch]) -> tuple[StepResult, torch.Tensor]:
        torch.manual_seed(0)
        trainer = Trainer(
            Reconstruction(LSM2(config)), dataclasses.replace(small_train_config, beta1=0.0), ALONE
        )
        result = fetch_result(trainer.step(0, batches, False))
        return result, torch.cat(
            [
                value.flatten()
                for name, value in trainer.tensors()["optimizer"].items()
                if name.endswith("exp_avg")
            ]
        )

    (one, expected), (several, actual) = gradient([whole]), gradient(parts)
    assert several.num_target == one.num_target and several.num_visible == one.num_visible
    assert several.loss == pytest.approx(one.loss, rel=1e-6) and several.grad_norm == pytest.approx(
        one.grad_norm, rel=1e-5
    )
    # float32 has 24 bits; sums of a thousand rows in another order differ in the last few.
    assert (actual - expected).norm() < 1e-5 * expected.norm()
    for some in (parts[::-1], [*parts[1:], parts[0]]):
        assert (gradient(some)[1] - expected).norm() < 1e-5 * expected.norm()


class CountCasts(TorchDispatchMode):
    """Counts how often each weight is cast to bfloat16."""

    def __init__(self, model: LSM2) -> None:
        super().__init__()
        self.names = {weight.data_ptr(): name for name, weight in model.named_parameters()}
        self.casts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (
            isinstance(result, torch.Tensor)
            and result.dtype == torch.bfloat16
            and args
            and isinstance(args[0], torch.Tensor)
        ):
            name = self.names.get(args[0].untyped_storage().data_ptr())
            self.casts.update([name] if name else [])
        return result


@pytest.mark.parametrize("recompute", [False, True], ids=["keep", "recompute"])
def test_a_weight_is_cast_once_per_step(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config, recompute: bool
) -> None:
    trainer = new_trainer(precision="bf16", activation_checkpointing=recompute)
    parts = [collate(values[i : i + 1], tiny_config, day_ids=[str(i)]) for i in range(4)]
    multiplied = {
        name
        for name, weight in trainer.model.named_parameters()
        if weight.ndim > 1 and not name.endswith("positions.signals")
    }
    for step in range(2):
        with CountCasts(trainer.model) as counter:
            trainer.step(step, parts, False)
        assert multiplied <= counter.casts.keys() and set(counter.casts.values()) == {1}, counter.casts


@pytest.mark.parametrize("recompute", [False, True], ids=["keep", "recompute"])
def test_sharing_casts_changes_no_bit(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config, recompute: bool
) -> None:
    trainer = new_trainer(precision="bf16", activation_checkpointing=recompute, beta1=0.0, grad_clip=1e30)
    model = copy.deepcopy(trainer.model)
    parts = [collate(values[i : i + 1], tiny_config, day_ids=[str(i)]) for i in range(4)]
    model.zero_grad()
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(part)
        output.loss_sum.backward()
    # A second step, so that copies of the first step's weights would show.
    for step in range(2):
        result = fetch_result(trainer.step(step, parts, False))
        if step == 0:
            moments = {name: value.clone() for name, value in trainer.tensors()["optimizer"].items()}
    for name, weight in model.named_parameters():
        assert weight.grad is not None and torch.equal(
            moments[f"{name}.exp_avg"], weight.grad / result.num_target
        ), name
    after = copy.deepcopy(trainer.model)
    assert fetch_result(trainer.step(2, parts, False)).loss == pytest.approx(
        float(sum(bf16_loss(after, part) for part in parts)) / result.num_target, rel=1e-6
    )


def bf16_loss(model: LSM2, batch: PackedBatch) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return model(batch).loss_sum


def test_order_of_days_changes_a_step_by_no_more_than_rounding(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config
) -> None:
    batch = collate(values[[2, 1, 3, 0]], tiny_config, day_ids=list("cbda"))
    assert batch.longest_first().day_ids != batch.day_ids
    trained, other = new_trainer(), new_trainer()
    one, two = (
        fetch_result(trained.step(0, [batch], False)),
        fetch_result(other.step(0, [batch.longest_first()], False)),
    )
    assert two.loss == pytest.approx(one.loss, rel=1e-6) and two.grad_norm == pytest.approx(
        one.grad_norm, rel=1e-5
    )
    for name, moment in trained.tensors()["optimizer"].items():
        torch.testing.assert_close(
            other.tensors()["optimizer"][name], moment, rtol=1e-4, atol=1e-6 * one.grad_norm, msg=name
        )


def test_gradient_is_clipped_to_the_norm(new_trainer, values: torch.Tensor, tiny_config: LSM2Config) -> None:
    trainer = new_trainer(grad_clip=0.01, beta1=0.5)
    result = fetch_result(trainer.step(0, [collate(values, tiny_config)], False))
    moments = [value for name, value in trainer.tensors()["optimizer"].items() if name.endswith("exp_avg")]
    assert result.grad_norm > 0.01
    assert math.sqrt(sum(float(moment.square().sum()) for moment in moments)) == pytest.approx(
        0.5 * 0.01, rel=1e-3
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_non_finite_step_leaves_weights_and_moments(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config, precision: str
) -> None:
    batch = collate(values, tiny_config)
    trainer = new_trainer(precision=precision)
    assert fetch_result(trainer.step(0, [batch], False)).finite
    trainer.ema.weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    before = state(trainer)
    bad = fetch_result(trainer.step(1, [batch, with_infinity(batch)], False))
    assert not bad.finite and not math.isfinite(bad.loss)
    assert_same(state(trainer), before)
    assert fetch_result(trainer.step(2, [batch], False)).finite
    assert not torch.equal(state(trainer)["model.encoder.embed.weight"], before["model.encoder.embed.weight"])


def test_step_without_targets_changes_nothing(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config
) -> None:
    trainer = new_trainer()
    trainer.step(0, [collate(values, tiny_config)], False)
    trainer.ema.weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    before = state(trainer)
    for batches in ([], [collate(torch.full((2, 3, 120), torch.nan), tiny_config)]):
        result = fetch_result(trainer.step(1, batches, False))
        assert result.finite and result.loss == 0 and result.grad_norm == 0 and result.num_target == 0
        assert_same(state(trainer), before)


def test_average_is_between_start_and_weights(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config
) -> None:
    trainer = new_trainer(ema_decay=0.99)
    start = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.step(0, [collate(values, tiny_config)], False)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(
            trainer.ema.weights[name], 0.1 * start[name] + 0.9 * weight.detach(), rtol=1e-5, atol=1e-7
        )


def test_average_of_decay_zero_is_the_weights(
    new_trainer, values: torch.Tensor, tiny_config: LSM2Config
) -> None:
    trainer = new_trainer(ema_decay=0.0)
    trainer.step(0, [collate(values, tiny_config)], False)
    assert all(
        torch.equal(trainer.ema.weights[name], weight) for name, weight in trainer.model.named_parameters()
    )


def test_state_comes_back_bit_for_bit(new_trainer, values: torch.Tensor, tiny_config: LSM2Config) -> None:
    batch = collate(values, tiny_config)
    one, other = new_trainer(), new_trainer()
    one.step(0, [batch], False)
    other.restore(
        {
            file: {name: value.clone() for name, value in values.items()}
            for file, values in one.tensors().items()
        }
    )
    for trainer in (one, other):
        trainer.step(1, [batch], False)
    assert_same(state(one), state(other))


def test_learning_rate_rises_then_falls_as_a_cosine() -> None:
    config = TrainConfig(steps=100, warmup_fraction=0.1, learning_rate=1e-3, final_learning_rate=1e-6)
    rates = [learning_rate(step, config) for step in range(100)]
    assert (
        rates[0] == pytest.approx(1e-4)
        and rates[9] == pytest.approx(1e-3)
        and rates[99] == pytest.approx(1e-6)
    )
    assert rates[54] == pytest.approx((1e-3 + 1e-6) / 2)
    assert (
        rates[:10] == sorted(rates[:10])
        and rates[9:] == sorted(rates[9:], reverse=True)
        and len(set(rates)) == 100
    )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_learning_rate_of_very_short_runs_is_positive(steps: int) -> None:
    config = TrainConfig(steps=steps)
    assert all(0 < learning_rate(step, config) <= config.learning_rate for step in range(steps))


def test_average_decay_grows_to_its_setting() -> None:
    assert decay_after(0, 0.9) == 0.1
    assert [decay_after(step, 0.9) for step in (80, 81, 10_000)] == [0.9, 0.9, 0.9]


def test_only_matrices_decay(tiny_config: LSM2Config, small_train_config: TrainConfig) -> None:
    model = LSM2(tiny_config)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed = set()
    for group in make_optimizer(model, small_train_config).param_groups:
        group_names = {names.pop(id(weight)) for weight in group["params"]}
        if group["weight_decay"]:
            decayed |= group_names
    assert not names
    assert "decoder.mask_token" not in decayed and all(
        name.endswith("weight") and "norm" not in name for name in decayed
    )
    assert "encoder.embed.weight" in decayed and "decoder.head.weight" in decayed
