"""Validation during training: the numbers of the evaluation, on the same minutes."""

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config
from lsm2.data import DayStore, Normalization
from lsm2.data.store import Day
from lsm2.errors import InputError
from lsm2.evaluate.generative import evaluate_generative
from lsm2.evaluate.methods import AIM, METHODS
from lsm2.evaluate.validation import VALIDATION_TASKS, prepare_validation
from lsm2.model.lsm2 import LSM2


@pytest.fixture
def model(tiny_config: LSM2Config, small_store: DayStore) -> LSM2:
    torch.manual_seed(0)
    normalization = Normalization.from_moments(
        small_store.signals, small_store.moments_of(small_store.subjects)
    )
    model = LSM2(tiny_config, normalization).eval()
    model.precision = "fp32"
    return model


def test_it_is_the_evaluation_on_the_same_days(model: LSM2, small_store: DayStore) -> None:
    heldout, training = range(5), range(5, 20)
    scores = prepare_validation(model, small_store, heldout, training)(model)
    evaluation = evaluate_generative(
        model, small_store, heldout, training_days=training, tasks=VALIDATION_TASKS, max_days=None
    )
    assert len(scores) == len(evaluation.scored) == 2
    one_day = [name for name, method in METHODS.items() if name != AIM and not method.sees_other_days]
    for score, result in zip(scores, evaluation.scored.values(), strict=True):
        best = min(one_day, key=lambda name: result.methods[name].mse)
        assert score.error == pytest.approx(result.methods[AIM].mse, rel=1e-5)
        assert score.best_fill == METHODS[best].label
        assert score.fill_error == pytest.approx(result.methods[best].mse, rel=1e-5)


def test_it_scores_the_model_that_it_is_given(model: LSM2, small_store: DayStore) -> None:
    validate = prepare_validation(model, small_store, range(5), range(5, 20))
    before = validate(model)
    with torch.no_grad():
        model.decoder.head.bias += 1
    after = validate(model)
    assert all(was.error != now.error for was, now in zip(before, after, strict=True))
    assert [was._replace(error=0) for was in before] == [now._replace(error=0) for now in after]


def test_days_too_empty_to_hide_anything(model: LSM2, small_store: DayStore, tmp_path) -> None:
    empty = np.full((3, 120), np.nan, np.float32)
    days = [Day("p9", f"2024-01-0{date}", empty) for date in (1, 2)]
    store = DayStore.write(tmp_path / "store", small_store.signals, days)
    with pytest.raises(InputError, match="validate_every"):
        prepare_validation(model, store, [0], [1])
