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
        seed: Seed of what is hidden.
    """
    import torch

    from lsm2.data.store import DayStore
    from lsm2.evaluate.generative import evaluate_generative
    from lsm2.evaluate.trained_run import trained_model, training_days, unseen_days
    from lsm2.files import write_json
    from lsm2.report.summary import headline
    from lsm2.report.terminal import show_evaluation
    from lsm2.run_folder import RunFolder

    folder = RunFolder(run)
    store = DayStore.open(data)
    model = trained_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    days = list(range(len(store))) if all_people else unseen_days(folder, store)
    if not days:
        raise InputError(
            f"the model was trained on everyone in {data}; give other data, or --all-people to score them "
            "all the same"
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
    )
    write_json(folder.evaluation_file, evaluation.to_dict())
    show_evaluation(evaluation)
    say(f"written to {folder.evaluation_file}; next: lsm2 report {run}")
    for line in headline(evaluation):
        say(line)
