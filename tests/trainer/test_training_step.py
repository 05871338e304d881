"""One step: the same gradient however the days are split, a guard that keeps non-finite numbers out, and what AdamW is told."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from lsm2 import LSM2, LSM2Config
from lsm2.config import TrainConfig
from lsm2.data import PackedBatch, collate
from lsm2.training.optim import average_decay, learning_rate, make_optimizer
from lsm2.training.ranks import Ranks
from lsm2.training.step import Trainer, read

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def new_trainer(small_model_config: LSM2Config, small_train_config: TrainConfig) -> Callable[..., Trainer]:
    def new(**changes: object) -> Trainer:
        torch.manual_seed(0)
        return Trainer(LSM2(small_model_config), dataclasses.replace(small_train_config, **changes), ALONE)

    return new


@pytest.fixture
def values() -> torch.Tensor:
    """4 days with different amounts of data."""
    values = torch.randn(4, 3, 120, generator=torch.Generator().manual_seed(1))
    values[1, :2] = torch.nan
    values[2, :, 30:90] = torch.nan
    return values


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"{file}.{name}": value.clone() for file, values in trainer.tensors().items() for name, value in values.items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def with_infinity(batch: PackedBatch) -> PackedBatch:
    patches = batch.visible_patches.clone()
    patches[0, 0] = torch.inf
    return dataclasses.replace(batch, visible_patches=patches)


def test_micro_batches_give_the_gradient_of_one_batch(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    ids = ["a", "b", "c", "d"]
    whole = [collate(values, small_model_config, day_ids=ids)]
    parts = [collate(values[i : i + 1], small_model_config, day_ids=[ids[i]]) for i in range(4)]
    results = []
    for batches in (whole, parts):
        trainer = new_trainer()
        result = read(trainer.step(0, batches, False))
        # After one step the first moment is (1 - beta1) times the clipped gradient.
        moments = {name: value for name, value in trainer.tensors()["optimizer"].items() if name.endswith("exp_avg")}
        results.append((result, moments))
    (one, moment_of_one), (four, moment_of_four) = results
    assert one.num_target == four.num_target and one.num_visible == four.num_visible
    assert four.loss == pytest.approx(one.loss, rel=1e-6)
    assert four.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    for name, moment in moment_of_one.items():
        torch.testing.assert_close(moment_of_four[name], moment, rtol=1e-4, atol=1e-6 * one.grad_norm, msg=name)


def test_gradient_is_clipped_to_the_norm(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    trainer = new_trainer(grad_clip=0.01, beta1=0.5)
    result = read(trainer.step(0, [collate(values, small_model_config)], False))
    moments = [value for name, value in trainer.tensors()["optimizer"].items() if name.endswith("exp_avg")]
    assert result.grad_norm > 0.01
    assert math.sqrt(sum(float(moment.square().sum()) for moment in moments)) == pytest.approx(0.5 * 0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_non_finite_step_leaves_weights_and_moments(
    new_trainer, values: torch.Tensor, small_model_config: LSM2Config, precision: str
) -> None:
    batch = collate(values, small_model_config)
    trainer = new_trainer(precision=precision)
    assert read(trainer.step(0, [batch], False)).finite
    trainer.average = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    before = state(trainer)
    bad = read(trainer.step(1, [batch, with_infinity(batch)], False))
    assert not bad.finite and not math.isfinite(bad.loss)
    assert_same(state(trainer), before)
    assert read(trainer.step(2, [batch], False)).finite
    assert not torch.equal(state(trainer)["model.encoder.embed.weight"], before["model.encoder.embed.weight"])


def test_step_without_targets_changes_nothing(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    trainer = new_trainer()
    trainer.step(0, [collate(values, small_model_config)], False)
    trainer.average = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    before = state(trainer)
    for batches in ([], [collate(torch.full((2, 3, 120), torch.nan), small_model_config)]):
        result = read(trainer.step(1, batches, False))
        assert result.finite and result.loss == 0 and result.grad_norm == 0 and result.num_target == 0
        assert_same(state(trainer), before)


def test_average_is_between_start_and_weights(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    trainer = new_trainer(ema_decay=0.99)
    start = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.step(0, [collate(values, small_model_config)], False)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(trainer.average[name], 0.1 * start[name] + 0.9 * weight.detach(), rtol=1e-5, atol=1e-7)


def test_average_of_decay_zero_is_the_weights(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    trainer = new_trainer(ema_decay=0.0)
    trainer.step(0, [collate(values, small_model_config)], False)
    assert all(torch.equal(trainer.average[name], weight) for name, weight in trainer.model.named_parameters())


def test_state_comes_back_bit_for_bit(new_trainer, values: torch.Tensor, small_model_config: LSM2Config) -> None:
    batch = collate(values, small_model_config)
    one, other = new_trainer(), new_trainer()
    one.step(0, [batch], False)
    other.restore({file: {name: value.clone() for name, value in values.items()} for file, values in one.tensors().items()})
    for trainer in (one, other):
        trainer.step(1, [batch], False)
    assert_same(state(one), state(other))


def test_learning_rate_rises_then_falls_as_a_cosine() -> None:
    config = TrainConfig(steps=100, warmup_fraction=0.1, learning_rate=1e-3, final_learning_rate=1e-6)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3) and rates[99] == pytest.approx(1e-6)
    assert rates[54] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True) and len(set(rates)) == 100


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_learning_rate_of_very_short_runs_is_positive(steps: int) -> None:
    config = TrainConfig(steps=steps)
    assert all(0 < learning_rate(step, config) <= config.learning_rate for step in range(steps))


def test_average_decay_grows_to_its_setting() -> None:
    config = TrainConfig(ema_decay=0.9)
    assert average_decay(0, config) == 0.1
    assert [average_decay(step, config) for step in (80, 81, 10_000)] == [0.9, 0.9, 0.9]


def test_only_matrices_decay(small_model_config: LSM2Config, small_train_config: TrainConfig) -> None:
    model = LSM2(small_model_config)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed = set()
    for group in make_optimizer(model, small_train_config).param_groups:
        group_names = {names.pop(id(weight)) for weight in group["params"]}
        if group["weight_decay"]:
            decayed |= group_names
    assert not names
    assert "decoder.mask_token" not in decayed and all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert "encoder.embed.weight" in decayed and "decoder.head.weight" in decayed
