"""A trained run as the evaluation needs it: its model, the days it saw and those it did not, its
evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.results import FORMAT_VERSION, Evaluation
from lsm2.files import read_json
from lsm2.model.lsm2 import LSM2
from lsm2.run_folder import RunFolder


def trained_model(run: RunFolder) -> LSM2:
    """The trained model, in evaluation mode; raises InputError where training has left none yet."""
    if not run.model_folder.is_dir():
        _ = run.config
        raise InputError(
            f"{run.path} has no model/ yet, as training has not reached a checkpoint; "
            "continue it with `lsm2 pretrain ... --resume`"
        )
    return LSM2.from_pretrained(run.model_folder)


def training_days(run: RunFolder, store: DayStore) -> list[int]:
    """Days of people that the model was trained on."""
    return store.indices_of(run.config["train_subjects"])


def unseen_days(run: RunFolder, store: DayStore) -> list[int]:
    """Days of all other people, but for those who said when training was to stop."""
    stopped_it = store.indices_of(run.config.get("validation_subjects", []))
    return sorted(set(range(len(store))).difference(training_days(run, store), stopped_it))


def days_unseen_by_all(runs: Sequence[RunFolder], store: DayStore) -> list[int]:
    """Days of people that none of the runs was trained on."""
    unseen = [set(unseen_days(run, store)) for run in runs]
    return sorted(set.intersection(*unseen))


def read_evaluation(run: RunFolder) -> Evaluation | None:
    """evaluation.json, or None before `lsm2 evaluate`; raises InputError where it cannot be read."""
    file = run.evaluation_file
    if not file.is_file():
        return None
    remedy = "write it anew with `lsm2 evaluate`, or delete it"
    values = read_json(file, remedy)
    if values.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{file} is of an older lsm2; {remedy}")
    try:
        return Evaluation.from_dict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} does not hold an evaluation ({error!r}); {remedy}") from None


def find_store(run: RunFolder, named: Path | None) -> DayStore | None:
    """The store that the user names, else that of the evaluation or the training if it is still in its
    place.
    """
    if named is not None:
        return DayStore.open(named)
    evaluation = read_evaluation(run)
    recorded = [evaluation.settings.store if evaluation else None, run.config.get("store", {}).get("path")]
    return next((DayStore.open(path) for path in recorded if path and Path(path).is_dir()), None)
