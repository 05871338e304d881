"""Which recipe is soonest as good? `python -m benchmarks.science.time_to_quality [STORE] [--json FILE]`

Every variant changes one thing of the reference (the preset with its defaults), and trains for the same time:
first all take turns for a few steps; the medians say how long a step is, without the loader, which in
training works in other processes, and so how many steps each may take. Then, seed after seed, all train in
turn, a part of their steps at a time, and after each part the average of the weights reconstructs hidden
parts of days of people who were held out; each seed holds out others. The error is the mean over TASKS of the
squared error over that of filling in the mean. The learning rate stays at its peak after the warm-up, so that
a curve is what training would have given at any time. Without STORE a cohort is simulated.

At the end the embeddings are probed: a ridge regression on the mean embedding of people, cross-validated over
people, predicts labels.csv where the store has one (mean correlation over the labels); otherwise a ridge
classifier tells whose day it is (share that is right).
"""

import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import torch

from benchmarks.measure.environment import describe_machine, name_machine
from benchmarks.measure.options import make_parser
from benchmarks.measure.results import Race, write_results
from benchmarks.measure.timing import laps_of, seconds, summarise
from benchmarks.science.time_to_quality_report import REFERENCE, SUITE, show_races
from lsm2 import presets
from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.normalize import Normalization
from lsm2.data.splits import heldout_subjects
from lsm2.data.store import DayStore
from lsm2.evaluate.days import spread_over_people
from lsm2.evaluate.generative import evaluate_generative
from lsm2.model.lsm2 import LSM2
from lsm2.rng import keyed_rng
from lsm2.simulate.cohort import write_cohort
from lsm2.training.batches import StepBatches, load_steps
from lsm2.training.objective import Reconstruction
from lsm2.training.parallel import Ranks
from lsm2.training.step import Trainer

_HOUR_TASKS = ("temporal_interpolation_60", "temporal_extrapolation_60")
TASKS = ("random_80", *_HOUR_TASKS, "signal_imputation_1", "signal_imputation_2")
LEARNING_RATE = 2e-3
VALIDATION_DAYS, PROBE_DAYS = 12, 120
CALIBRATION_STEPS = 15
PARTS = 5
"""Validations of a run."""
FEWEST_STEPS = 2 * PARTS
PENALTIES = tuple(float(10**power) for power in range(5))
PAPER = ("decoder", "tied_qk_init", "position_base")
"""Where the paper's recipe differs from ours, but for sizes."""
KINDS = ("random_share", "time_share", "signal_share")


def masks(config: LSM2Config, **changes) -> LSM2Config:
    return dataclasses.replace(config, masking=dataclasses.replace(config.masking, **changes))


def few_visible(config: LSM2Config) -> int:
    """256 tokens, or a quarter of a window where that is less."""
    return min(256, config.num_tokens // 4)


VARIANTS: dict[str, Callable[[LSM2Config], LSM2Config]] = {
    "reference": lambda config: config,
    "plain_init": lambda config: dataclasses.replace(config, tied_qk_init=None),
    "tied_1": lambda config: dataclasses.replace(config, tied_qk_init=1.0),
    "queries_1/4": lambda config: masks(config, query_share=1 / 4),
    "queries_1/16": lambda config: masks(config, query_share=1 / 16),
    "visible_cap": lambda config: masks(config, max_visible=few_visible(config)),
    "visible_cap_queries_1/4": lambda config: masks(VARIANTS["visible_cap"](config), query_share=1 / 4),
    "one_kind_a_batch": lambda config: config,
    "random_mostly": lambda config: masks(config, random_share=0.8, time_share=0.1, signal_share=0.1),
    "joint": lambda config: dataclasses.replace(config, decoder="joint"),
    "full": lambda config: dataclasses.replace(config, decoder="full"),
    "paper": lambda config: dataclasses.replace(config, **{x: getattr(presets.paper(), x) for x in PAPER}),
}


class OneKindBatches(StepBatches):
    """All days of a step are masked in the same way: random tokens, time slices or signals."""

    def __getitem__(self, step: int):
        usual = self.model_config
        shares = np.array([getattr(usual.masking, kind) for kind in KINDS])
        drawn = keyed_rng("kind", self.train_config.seed, step).random()
        chosen = KINDS[int(np.searchsorted(np.cumsum(shares / shares.sum()), drawn))]
        self.model_config = masks(usual, **{kind: float(kind == chosen) for kind in KINDS})
        try:
            return super().__getitem__(step)
        finally:
            self.model_config = usual


@dataclass
class Training:
    """A variant in training with one seed; its days and people are those of every variant with that seed."""

    variant: str
    store: DayStore
    config: LSM2Config
    seed: int
    num_steps: int
    steps_done: int = 0

    def __post_init__(self) -> None:
        heldout = heldout_subjects(self.store.subjects, 0.2, self.seed)
        self.heldout = self.store.indices_of(sorted(heldout))
        people = [person for person in self.store.subjects if person not in heldout]
        days = self.store.indices_of(people)
        normalization = Normalization.from_moments(self.store.signals, self.store.moments_of(people))
        settings = TrainConfig(
            steps=self.num_steps,
            learning_rate=LEARNING_RATE,
            final_learning_rate=LEARNING_RATE,
            seed=self.seed,
            num_workers=0,
        )
        ranks = Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(self.seed)
        self.trainer = Trainer(Reconstruction(LSM2(self.config, normalization)), settings, ranks)
        make = OneKindBatches if self.variant == "one_kind_a_batch" else StepBatches
        self.batches = make(self.store, days, normalization, self.config, settings, ranks)

    def advance(self, steps: int) -> list[float]:
        """Train for some steps more; the seconds of each, without its loading."""
        until, laps = self.steps_done + steps, []
        for step, parts in enumerate(
            load_steps(self.batches, self.steps_done, until, self.trainer.device), start=self.steps_done
        ):
            laps.append(seconds(lambda step=step, parts=parts: self.trainer.step(step, parts, False)))
        self.steps_done = until
        return laps

    def model(self) -> LSM2:
        """With the average of the weights, as pre-training saves it."""
        model = LSM2(self.config, self.batches.normalization)
        model.load_state_dict(self.trainer.ema.weights)
        return model.to(self.trainer.device).eval()

    def validate(self) -> dict[str, float]:
        """By task: squared error over that of the mean; tasks without enough data are absent."""
        tasks = [
            task
            for task in TASKS
            if not task.startswith("signal") or int(task.rsplit("_", 1)[1]) < self.config.num_signals
        ]
        report = evaluate_generative(
            self.model(),
            self.store,
            self.heldout,
            max_days=VALIDATION_DAYS,
            tasks=tasks,
            progress=False,
            batch_days=4,
        )
        return {
            task: methods["aim"]["mse"] / methods["mean"]["mse"]
            for task, methods in report.to_dict()["generative"].items()
        }


def probe(model: LSM2, store: DayStore, seed: int) -> float:
    """How much day embeddings say about people, as above."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    subjects = store.days["subject"].to_pylist()
    days = spread_over_people(range(len(store)), store.days["day_id"].to_pylist(), subjects, PROBE_DAYS)
    embeddings = np.stack([model.encode(store.values(day)) for day in days])
    there = np.isfinite(embeddings).all(1)
    embeddings, people = embeddings[there], np.array([subjects[day] for day in days])[there]
    labels = Path(store.path) / "labels.csv"
    if not labels.exists():
        names, counts = np.unique(people, return_counts=True)
        known = np.isin(people, names[counts >= 4])
        recognise = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES))
        folds = StratifiedKFold(4, shuffle=True, random_state=seed)
        recognised = cross_val_predict(recognise, embeddings[known], people[known], cv=folds)
        return float(np.mean(np.asarray(recognised) == people[known]))
    rows = {row.pop("subject"): row for row in pyarrow.csv.read_csv(labels).to_pylist()}
    names = sorted(set(people))
    of_person = np.stack([embeddings[people == name].mean(0) for name in names])
    regression = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    folds = KFold(5, shuffle=True, random_state=seed)
    wanted = np.array([list(rows[name].values()) for name in names], dtype=float)
    correlations = []
    for column in wanted.T:
        predicted = np.asarray(cross_val_predict(regression, of_person, column, cv=folds))
        correlations.append(np.corrcoef(column, predicted)[0, 1])
    return float(np.mean(correlations))


def time_steps(trainings: list[Training]) -> list[float]:
    """Median seconds of a step of each, after those that warm up; they take turns on the same days."""
    steps = {place: functools.partial(training.advance, 1) for place, training in enumerate(trainings)}
    laps = laps_of(steps, CALIBRATION_STEPS, measure=lambda step: step()[0])
    return [statistics.median(times) for times in laps.values()]


def train_all(
    store: DayStore, config: LSM2Config, variants: list[str], budget: float, seeds: list[int]
) -> Iterator[tuple[Training, float, dict[str, Any]]]:
    """Trainings as they finish, all variants of a seed at once, with seconds a step, probe and curve."""

    def start(name: str, seed: int, num_steps: int) -> Training:
        return Training(name, store, VARIANTS[name](config), seed, num_steps)

    step_seconds = time_steps([start(name, 0, FEWEST_STEPS) for name in variants])
    num_steps = [max(FEWEST_STEPS, round(budget / time)) for time in step_seconds]
    for seed in seeds:
        trainings = [start(name, seed, count) for name, count in zip(variants, num_steps, strict=True)]
        found: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in variants}
        for part in range(1, PARTS + 1):
            for training in trainings:
                print(f"seed {seed}, {training.variant}, part {part} of {PARTS}", flush=True)
                training.advance(training.num_steps * part // PARTS - training.steps_done)
                found[training.variant].append((training.steps_done, training.validate()))
        for training, time in zip(trainings, step_seconds, strict=True):
            curve = make_curve(found[training.variant], time, training.batches.train_config.batch_days or 0)
            yield training, time, {"probe": probe(training.model(), store, seed), "curve": curve}


def make_curve(
    found: list[tuple[int, dict[str, float]]], step_seconds: float, batch_days: int
) -> dict[str, list[float]]:
    """At each validation: steps, seconds and days of training, the mean error, and that of each task."""
    steps = [float(count) for count, _ in found]
    tasks = {task: [errors[task] for _, errors in found] for task in found[0][1]}
    return {
        "steps": steps,
        "seconds": [count * step_seconds for count in steps],
        "days": [count * batch_days for count in steps],
        "error": [statistics.mean(errors.values()) for _, errors in found],
    } | tasks


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("store", nargs="?", type=Path, help="default: 100 people simulated for 8 days")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="tiny")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seconds", type=float, default=120.0, help="of training for each variant and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--json", type=Path, help="file for all numbers, written anew after every run")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="picture; needs matplotlib")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    variants = [name for name in VARIANTS if name in args.variants or name == REFERENCE]
    machine = describe_machine()
    races: list[Race] = []
    with tempfile.TemporaryDirectory() as folder:
        path = args.store
        if path is None:
            path = write_cohort(
                Path(folder) / "simulated", people=100, days_per_person=8, seed=0, progress=True
            ).path
        store = DayStore.open(path)
        name = Path(path).resolve().name
        preset = getattr(presets, args.preset)()
        config = preset.fitted_to(len(store.signals), store.num_samples, store.sample_minutes)
        for training, time, extra in train_all(store, config, variants, args.seconds, args.seeds):
            params = {"store": name, "preset": args.preset, "seconds": args.seconds}
            params |= {"variant": training.variant, "seed": training.seed}
            case = f"{name}, {args.preset}, {training.variant}, seed {training.seed}"
            races.append(Race(SUITE, case, params, {"ours": summarise([time])}, extra, [time]))
            if args.json is not None:
                write_results(args.json, races, machine=machine)
    title = f"{name}, {args.preset}, {args.seconds:g} s a run; {name_machine(machine)}"
    show_races(races, title, args.plot)


if __name__ == "__main__":
    main()
