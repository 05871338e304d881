"""The verb that scores a trained model on people it has never seen: evaluate."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from lsm2.errors import InputError
from lsm2.progress import say


def evaluate(
    run: Positional[Path],
    /,
    *,
    data: Path,
    tasks: tuple[str, ...] = (),
    max_days: int = 48,
    draws: int = 1,
    all_people: bool = False,
    against: tuple[Path, ...] = (),
    seed: int = 0,
) -> None:
    """Score the model and simple fills on hidden parts of held-out people's days.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        tasks: Only these tasks, such as random_80; all 14 if none is named.
        max_days: Score at most this many days, spread over people.
        draws: Hide something so many times on each day and task.
        all_people: Also score days of people that the model was trained on.
        against: Other runs whose models are scored on the same minutes, such as one of --fill-gaps.
        seed: Seed of what is hidden.
    """
    import torch

    from lsm2.data.store import DayStore
    from lsm2.evaluate.generative import evaluate_generative
    from lsm2.evaluate.methods import name_runs
    from lsm2.evaluate.trained_run import (
        days_unseen_by_all,
        trained_model,
        training_days,
        unseen_days,
    )
    from lsm2.files import write_json
    from lsm2.report.summary import headline
    from lsm2.report.terminal import show_evaluation
    from lsm2.run_folder import RunFolder

    folder = RunFolder(run)
    store = DayStore.open(data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = trained_model(folder).to(device)
    days = list(range(len(store))) if all_people else unseen_days(folder, store)
    if not days:
        raise InputError(
            f"the model was trained on everyone in {data}; give other data, or --all-people to score them "
            "all the same"
        )
    others = [RunFolder(path) for path in against]
    models = [trained_model(other).to(device) for other in others]
    if others and not all_people:
        alone = len(days)
        days = days_unseen_by_all([folder, *others], store)
        if not days:
            raise InputError(
                f"everyone in {data} was in the training of {run} or of a run of --against; train them with "
                "the same --seed and --heldout-fraction, give other data, or --all-people"
            )
        if len(days) < alone:
            say(f"{alone - len(days)} days left out, of people that a run of --against was trained on")
    named = name_runs(
        [(str(path), other.config.fill_gaps) for path, other in zip(against, models, strict=True)]
    )
    seen = training_days(folder, store)
    evaluation = evaluate_generative(
        model,
        store,
        days,
        draws=draws,
        seed=seed,
        max_days=max_days,
        training_days=seen,
        tasks=tasks or None,
        all_people=all_people,
        against=dict(zip(named, models, strict=True)),
    )
    write_json(folder.evaluation_file, evaluation.to_dict())
    show_evaluation(evaluation)
    say(f"written to {folder.evaluation_file}; next: lsm2 report {run}")
    for line in headline(evaluation):
        say(line)
