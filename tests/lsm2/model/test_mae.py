"""What the model promises: size, independence of neighbours and order, a loss that counts only targets."""

import dataclasses

import pytest
import torch

from lsm2 import LSM2, LSM2Config, presets
from lsm2.data import PackedBatch, collate
from lsm2.model.decoder import CrossDecoder

DECODERS = ("cross", "joint", "full")
CONFIG = LSM2Config(
    num_signals=4,
    window_minutes=160,
    encoder_width=32,
    encoder_depth=2,
    encoder_heads=2,
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=2,
)


def make(decoder: str, days: int = 3) -> tuple[LSM2, PackedBatch, torch.Tensor]:
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, decoder=decoder)
    values = torch.randn(days, 4, 160)
    values[torch.rand(values.shape) < 0.3] = torch.nan
    return LSM2(config), collate(values, config), values


def reordered(batch: PackedBatch, visible: torch.Tensor, queries: torch.Tensor) -> PackedBatch:
    return dataclasses.replace(
        batch,
        visible_patches=batch.visible_patches[visible],
        visible_ids=batch.visible_ids[visible],
        query_ids=batch.query_ids[queries],
        target_values=batch.target_values[queries],
        target_observed=batch.target_observed[queries],
    )


@pytest.mark.parametrize("decoder", DECODERS)
def test_base_has_the_parameters_of_the_paper(decoder: str) -> None:
    with torch.device("meta"):
        model = LSM2(dataclasses.replace(presets.base(), decoder=decoder))
    assert 24.4e6 < sum(weight.numel() for weight in model.parameters()) < 24.8e6


@pytest.mark.parametrize("decoder", DECODERS)
def test_predictions_of_a_day_do_not_depend_on_its_batch(decoder: str) -> None:
    model, together, values = make(decoder)
    predictions = model(together).predictions
    for day in range(3):
        alone = collate(values[day : day + 1], model.config, day_ids=[str(day)])
        rows = slice(together.cu_query[day], together.cu_query[day + 1])
        torch.testing.assert_close(model(alone).predictions, predictions[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_order_of_tokens_does_not_matter(decoder: str) -> None:
    model, batch, _ = make(decoder, days=1)
    visible, queries = torch.randperm(len(batch.visible_ids)), torch.randperm(len(batch.query_ids))
    expected, actual = model(batch), model(reordered(batch, visible, queries))
    torch.testing.assert_close(actual.predictions, expected.predictions[queries], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.loss, expected.loss, rtol=1e-5, atol=1e-5)


def test_cross_predictions_have_no_gradient_to_other_queries() -> None:
    model, batch, _ = make("cross")
    decoder = model.decoder
    assert isinstance(decoder, CrossDecoder)
    memory = torch.randn(len(batch.visible_ids), 16)
    queries = (decoder.mask_token + decoder.positions(batch.query_ids)).detach().requires_grad_()
    predictions = decoder.decode(queries, batch.cu_query, memory, batch.cu_visible)
    for row in (0, 7, len(queries) - 1):
        (gradient,) = torch.autograd.grad(predictions[row].square().sum(), queries, retain_graph=True)
        others = torch.arange(len(queries)) != row
        assert gradient[row].abs().max() > 0
        assert torch.equal(gradient[others], torch.zeros_like(gradient[others]))


def test_joint_predictions_do_see_other_queries() -> None:
    model, batch, _ = make("joint", days=1)
    fewer = torch.arange(len(batch.query_ids) // 2)
    cut = dataclasses.replace(
        reordered(batch, torch.arange(len(batch.visible_ids)), fewer),
        cu_query=torch.tensor([0, len(fewer)], dtype=torch.int32),
    )
    assert not torch.allclose(model(batch).predictions[fewer], model(cut).predictions, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss_is_the_mean_over_target_minutes(decoder: str) -> None:
    model, batch, _ = make(decoder)
    output = model(batch)
    errors = (output.predictions.double() - batch.target_values.double())[batch.target_observed] ** 2
    assert int(output.num_target) == len(errors) > 0
    torch.testing.assert_close(output.loss_sum.double(), errors.sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(output.loss.double(), errors.mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_no_target_cannot_matter(decoder: str) -> None:
    model, batch, _ = make(decoder)
    poisoned = dataclasses.replace(
        batch, target_values=torch.where(batch.target_observed, batch.target_values, torch.nan)
    )
    gradients = []
    for some in (batch, poisoned):
        model.zero_grad()
        model(some).loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_empty_days_add_exactly_nothing(decoder: str) -> None:
    model, _, values = make(decoder)
    values[1] = torch.nan
    with_empty, without = (
        collate(values, model.config),
        collate(values[[0, 2]], model.config, day_ids=["0", "2"]),
    )
    torch.testing.assert_close(model(with_empty).loss_sum, model(without).loss_sum, rtol=1e-6, atol=0)
    assert model(with_empty).num_target == model(without).num_target
    nothing = collate(values[1:2], model.config)
    output = model(nothing)
    output.loss.backward()
    assert output.loss == 0 and output.loss_sum == 0 and output.num_target == 0
    assert all(
        weight.grad is None or torch.equal(weight.grad, torch.zeros_like(weight))
        for weight in model.parameters()
    )


@pytest.mark.parametrize("decoder", ("cross", "joint"))
def test_a_day_without_visible_tokens_is_legal(decoder: str) -> None:
    model, _, values = make(decoder)
    hidden = torch.ones(3, model.config.num_tokens, dtype=torch.bool)
    output = model(collate(values, model.config, artificial=hidden))
    output.loss.backward()
    assert output.loss.isfinite() and output.num_target > 0
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_autocast_keeps_loss_and_predictions_in_float32() -> None:
    model, batch, _ = make("cross")
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    assert output.loss.dtype == output.loss_sum.dtype == output.predictions.dtype == torch.float32
    # bfloat16 has 8 bits; two dozen roundings in a row still leave two digits of the loss.
    torch.testing.assert_close(output.loss, exact.loss, rtol=2e-2, atol=0)


@pytest.mark.parametrize("tied", (1.5, None), ids=("tied", "plain"))
def test_tied_start_makes_keys_equal_queries(tied: float | None) -> None:
    for decoder in ("cross", "joint"):
        model = LSM2(dataclasses.replace(presets.tiny(), decoder=decoder, tied_qk_init=tied))
        weights = model.state_dict()
        pairs = [weights["encoder.blocks.0.attention.qkv.weight"].chunk(3)[:2]]
        if decoder == "cross":
            key, _ = weights["decoder.blocks.0.attention.key_value.weight"].chunk(2)
            pairs.append((weights["decoder.blocks.0.attention.query.weight"], key))
        else:
            pairs.append(weights["decoder.blocks.0.attention.qkv.weight"].chunk(3)[:2])
        for query, key in pairs:
            assert torch.equal(query, key) == (tied is not None)
            if tied is not None:
                assert query.std().item() == pytest.approx(tied * query.shape[1] ** -0.5, rel=0.05)
