"""Positions: a code of the signal, then one of the slot, learned or fixed."""

import dataclasses

import pytest
import torch

from lsm2 import LSM2, LSM2Config, presets
from lsm2.config import TrainConfig
from lsm2.model.positions import Positions
from lsm2.training.optim import make_optimizer

IDS = torch.tensor([0, 11, 12, 35, 12])


@pytest.mark.parametrize("signal_codes", ["learned", "sincos"])
def test_a_token_has_the_codes_of_its_signal_and_its_slot(signal_codes):
    positions = Positions(3, 12, 16, 100.0, signal_codes)
    found = positions(IDS)
    assert torch.equal(found, positions.table[IDS])
    assert torch.equal(found, torch.cat([positions.signals[IDS // 12], positions.slots[IDS % 12]], dim=1))
    assert [name for name, _ in positions.named_parameters()] == ["signals"] * (signal_codes == "learned")
    assert list(positions.state_dict()) == ["signals"] * (signal_codes == "learned")


def test_learned_codes_begin_as_large_as_sines_and_apart_from_each_other():
    torch.manual_seed(0)
    codes = Positions(26, 144, 384, 100.0, "learned").signals.detach()
    assert codes.square().mean().item() == pytest.approx(0.5, rel=0.05)
    alike = torch.nn.functional.cosine_similarity(codes[:, None], codes[None], dim=2)
    assert (alike - torch.eye(26)).abs().max() < 0.4


def test_learned_codes_learn_in_float32_under_autocast_and_do_not_decay(tiny_config: LSM2Config):
    positions = Positions(3, 12, 16, 100.0, "learned")
    with torch.autocast("cpu", torch.bfloat16):
        found = positions(IDS)
    assert torch.equal(found, positions.table[IDS])
    found.sum().backward()
    torch.testing.assert_close(positions.signals.grad, torch.tensor([[2.0], [2.0], [1.0]]).expand(3, 8))

    model = LSM2(dataclasses.replace(tiny_config, signal_codes="learned"))
    decayed, others = make_optimizer(model, TrainConfig()).param_groups
    codes = {id(model.encoder.positions.signals), id(model.decoder.positions.signals)}
    assert codes <= {id(weight) for weight in others["params"]} and others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_presets_learn_codes_but_for_the_papers():
    for preset in (presets.tiny, presets.small, presets.base):
        assert preset().signal_codes == "learned"
    assert presets.paper().signal_codes == "sincos"


def test_settings_of_before_mean_sincos():
    values = presets.tiny().to_dict()
    del values["signal_codes"]
    assert LSM2Config.from_dict(values) == dataclasses.replace(presets.tiny(), signal_codes="sincos")
