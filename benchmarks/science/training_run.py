"""Does it train here, how fast, and to what? `python -m benchmarks.science.training_run [--seconds 90]
[--json FILE] [--plot FILE.png] [--dry-run]`

Simulates a cohort and pre-trains a preset on it with the trainer that users have, optimizer, loader,
checkpoints and all: first a few steps that say how long one takes, then, from the start, as many as fill the
time. The weights then reconstruct hidden parts of days of people who were held out, beside the fills that
need no model. Shown are the loss curve, days/s, the wait for the loader, and the errors.
"""

import dataclasses
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.environment import describe_machine
from benchmarks.measure.figures import draw_curves
from benchmarks.measure.options import make_parser
from benchmarks.measure.results import Race, write_results
from benchmarks.measure.timing import summarise
from lsm2 import LSM2, presets
from lsm2.config import TrainConfig
from lsm2.data.splits import heldout_subjects
from lsm2.data.store import DayStore
from lsm2.evaluate.generative import evaluate_generative
from lsm2.model.precision import choose_precision
from lsm2.simulate.cohort import write_cohort
from lsm2.training.loop import pretrain

TASKS = ("random_80", "temporal_interpolation_60", "temporal_extrapolation_60", "signal_imputation_2")
WARM_UP_STEPS, CALIBRATION_STEPS = 10, 30
PEOPLE, DAYS_PER_PERSON, EVALUATED_DAYS = 300, 4, 24
LEARNING_RATE = 2e-3
MOST_POINTS = 200
"""Of the loss curve in the saved results."""
CURVE = {"steps": "step", "seconds": "seconds", "loss": "loss"}
"""Names there, and in metrics.jsonl."""


def train(preset: str, config: TrainConfig, store: DayStore, out: Path) -> list[dict[str, Any]]:
    """A run of the trainer -> the lines of its metrics.jsonl."""
    pretrain(getattr(presets, preset)(), config, store, out)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def step_seconds(metrics: Sequence[dict[str, Any]]) -> list[float]:
    """Of each step but the first ones, in which kernels are compiled."""
    times = [line["seconds"] for line in metrics[min(WARM_UP_STEPS, len(metrics) // 2) :]]
    return [after - before for before, after in pairwise(times)]


def evaluate(store: DayStore, config: TrainConfig, model: Path) -> dict[str, dict[str, float]]:
    """By task, by method, the squared error on held-out people."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    heldout = heldout_subjects(store.subjects, config.heldout_fraction, config.seed)
    days, seen = store.indices_of(heldout), store.indices_of(set(store.subjects) - heldout)
    trained = LSM2.from_pretrained(model).to(device).eval()
    report = evaluate_generative(
        trained, store, days, max_days=EVALUATED_DAYS, training_days=seen, tasks=TASKS, progress=False
    )
    return {
        task: {method: found["mse"] for method, found in methods.items()}
        for task, methods in report.to_dict()["generative"].items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--preset", choices=("tiny", "small", "base"), help="default: tiny, on a GPU base")
    parser.add_argument("--seconds", type=float, default=90.0, help="of training")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="loss curve; needs matplotlib")
    parser.add_argument("--dry-run", action="store_true", help="few steps on the CPU: shows that it runs")
    args = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available() and not args.dry_run
    device = torch.device("cuda" if on_gpu else "cpu")
    preset = args.preset or ("base" if on_gpu else "tiny")
    batch_days = 64 if on_gpu else 2 if args.dry_run else 8
    config = TrainConfig(
        steps=6 if args.dry_run else CALIBRATION_STEPS,
        batch_days=batch_days,
        learning_rate=LEARNING_RATE,
        num_workers=min(12, max(1, (os.cpu_count() or 2) - 2)),
        checkpoint_every=10**9,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = write_cohort(folder / "cohort", 6 if args.dry_run else PEOPLE, DAYS_PER_PERSON, seed=0)
        time = statistics.median(step_seconds(train(preset, config, store, folder / "calibration")))
        config = dataclasses.replace(
            config, steps=config.steps if args.dry_run else max(CALIBRATION_STEPS, round(args.seconds / time))
        )
        metrics = train(preset, config, store, folder / "run")
        errors = evaluate(store, config, folder / "run" / "model")
    laps = step_seconds(metrics)
    speed = batch_days / statistics.median(laps)
    waited = statistics.mean(line["loader_wait"] for line in metrics)
    curve = [line for line in metrics[:: max(1, len(metrics) // MOST_POINTS)] if line["loss"] is not None]
    extra = {
        "days_per_second": speed,
        "loader_wait": waited,
        "dtype": {"bf16": "bfloat16", "fp32": "float32"}[choose_precision(config.precision, device)],
        "curve": {name: [line[key] for line in curve] for name, key in CURVE.items()},
        "errors": errors,
    }
    params = {"preset": preset, "batch_days": batch_days, "steps": config.steps}
    params["learning_rate"] = LEARNING_RATE
    case = f"{preset}, {batch_days} days a step, {config.steps} steps, {extra['dtype']}"
    race = Race("training_run", case, params, {"ours": summarise(laps)}, extra, laps)
    if args.plot is not None:
        args.plot.write_bytes(draw_curves([race], "loss", ["steps"]))
    if args.json is not None:
        write_results(args.json, [race], machine=describe_machine() | {"dry_run": args.dry_run})
    for task, found in errors.items():
        print(f"{task:28}" + "  ".join(f"{method} {error:.3f}" for method, error in found.items()))
    losses = [statistics.mean(line["loss"] for line in part) for part in (metrics[:5], metrics[-20:])]
    skipped = sum(line["skipped"] for line in metrics)
    steps = f"{config.steps} steps of {batch_days} days in {metrics[-1]['seconds']:.0f} s"
    what = f"{preset}, {steps}: {speed:.4g} days/s"
    print(
        f"{what}, loader_wait {waited:.1%}, loss {losses[0]:.3f} to {losses[1]:.3f}, {skipped} steps skipped"
    )


if __name__ == "__main__":
    main()
