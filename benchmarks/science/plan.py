"""What would pre-training at scale take? `python -m benchmarks.science.plan --gpus N --people P [--measured
train_step.json] [--check]`

A step, on each of N GPUs with B days of its own, is modelled as

    compute     the largest share of the work of a step's days over the mean share, times B / (days/s measured
                by benchmarks.step.race)
    optimizer   weights x 44 bytes (read weight, gradient, two moments, average; write all but the gradient,
                and clip) / memory rate
    all-reduce  2 (N - 1) / N x weights x 4 bytes / link rate: after the backward pass, not beside it, as the
                trainer does it
    loader      B / (workers / time to read, normalise, mask and pack a day): beside all that, so it counts
                only where it is longer

Shares, tokens and the loader's time are measured here on simulated days, compute is what the file says, rates
of memory and link are options, assumed until somebody measures them. `--check` trains with 1, 2 and 4
processes on this machine and compares.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure.options import make_parser
from benchmarks.measure.results import find_results
from benchmarks.measure.tables import empty_table, show
from benchmarks.measure.timing import seconds
from benchmarks.step.memory import count_bytes
from lsm2 import LSM2, presets
from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.simulate.cohort import write_cohort
from lsm2.training.batches import StepBatches
from lsm2.training.order import Draw, Workload, balance
from lsm2.training.parallel import Ranks

RESULTS = Path(__file__).parents[1] / "results"
PEOPLE, DAYS_PER_PERSON = 60_440, 26.5
"""Of the paper: 1.6 million days, 40 million hours."""
OPTIMIZER_BYTES, STATE_BYTES = 44, 4 * 5 + 2
"""Per weight: moved in a step; held (weight, gradient, two moments, average, bfloat16 copy)."""
WAY, MISSING = "ours_cross", 0.49
CHECKED = 1, 2, 4
CHECK_STEPS, WARM_UP_STEPS = 24, 6


@dataclass(frozen=True)
class Measured:
    """What one GPU, or this CPU, reached."""

    machine: str
    days_per_second: float
    """Forward and backward."""
    peak_bytes_per_day: float

    @classmethod
    def read(cls, paths: Sequence[Path], preset: str) -> Measured:
        """From the first file of benchmarks.step.race that times the preset; raises SystemExit for none."""
        case = {"preset": preset, "window": "day", "missing": MISSING}
        for run in find_results(paths):
            for race in run.races:
                way = race.ways.get(WAY, {})
                if case.items() <= race.params.items() and {"days_per_second", "peak_bytes"} <= set(way):
                    machine = f"{run.machine_name} ({run.path.name})"
                    peak_bytes = way["peak_bytes"] / race.params["num_windows"]
                    return cls(machine, way["days_per_second"], peak_bytes)
        names = ", ".join(path.name for path in paths)
        wanted = f"{WAY}, {preset}, a day, {MISSING:.0%} missing"
        advice = "measure it with benchmarks.step.race --targets --json FILE"
        raise SystemExit(f"{names} has no time of {wanted}; {advice}")


@dataclass(frozen=True)
class Cohort:
    """What the days are like, from simulated ones."""

    store_bytes: float
    """Per day."""
    device_bytes: float
    """Per day."""
    loader_seconds: float
    """Per day and worker."""
    slowest_share: float
    """The largest rank's work over the mean."""

    @classmethod
    def measure(cls, store: DayStore, config: LSM2Config, gpus: int, days_per_gpu: int) -> Cohort:
        """On the days of a store, each taken as often as a step needs."""
        indices = list(range(len(store)))
        num_days = min(64, len(store))
        train = TrainConfig(batch_days=num_days, num_workers=0)
        normalization = Normalization.from_moments(store.signals, store.moments_of(store.subjects))
        ranks = Ranks(0, 1, torch.device("cpu"))
        batches = StepBatches(store, indices, normalization, config, train, ranks)
        laps = [seconds(lambda step=step: batches[step]) for step in range(3)]
        micro_batches = batches[0]
        assert isinstance(micro_batches, list)
        device_bytes = count_bytes(micro_batches[0]) / micro_batches[0].num_days
        days = np.random.default_rng(0).integers(len(store), size=gpus * days_per_gpu).tolist()
        day_ids = store.days["day_id"].to_pylist()
        # Another mask for each, though days repeat.
        draws = [Draw(epoch, day) for epoch, day in enumerate(days)]
        work = Workload(store, indices, config).multiply_adds(draws, 0, [day_ids[day] for day in days])
        shares = [
            sum(amount for amount, _ in part) for part in balance([(amount, 0) for amount in work], gpus)
        ]
        store_bytes = sum(file.stat().st_size for file in Path(store.path).rglob("*.arrow")) / len(store)
        return cls(store_bytes, device_bytes, min(laps) / num_days, max(shares) / statistics.mean(shares))


@dataclass(frozen=True)
class Plan:
    """Seconds of each part of a step, and what follows."""

    gpus: int
    days_per_gpu: int
    weights: int
    measured: Measured
    cohort: Cohort
    memory_rate: float
    link_rate: float
    workers: int

    @property
    def parts(self) -> dict[str, float]:
        """Seconds a step; the loader works beside the others."""
        return {
            "compute": self.cohort.slowest_share * self.days_per_gpu / self.measured.days_per_second,
            "optimizer": OPTIMIZER_BYTES * self.weights / self.memory_rate,
            "all-reduce": 2 * (self.gpus - 1) / self.gpus * 4 * self.weights / self.link_rate,
            "loader": self.days_per_gpu * self.cohort.loader_seconds / self.workers,
        }

    @property
    def step_seconds(self) -> float:
        """The loader, or all the others."""
        parts = self.parts
        return max(parts.pop("loader"), sum(parts.values()))

    @property
    def days_per_second(self) -> float:
        """Of all GPUs together."""
        return self.gpus * self.days_per_gpu / self.step_seconds

    def lines(self, people: int) -> list[tuple[str, str]]:
        """What is predicted, and its number."""
        days = people * DAYS_PER_PERSON
        per_gpu = self.days_per_second / self.gpus
        memory = STATE_BYTES * self.weights + self.days_per_gpu * self.measured.peak_bytes_per_day
        return [
            *((f"{part}, a step", f"{time:.3g} s") for part, time in self.parts.items()),
            (f"step of {self.gpus} x {self.days_per_gpu} days", f"{self.step_seconds:.3g} s"),
            ("slowest GPU's work over the mean", f"{self.cohort.slowest_share:.3f}"),
            ("days/s", f"{self.days_per_second:,.0f}"),
            (
                f"epoch of {days:,.0f} days ({24 * days / 1e6:.1f} million hours)",
                _duration(days / self.days_per_second),
            ),
            ("memory of a GPU", f"{memory / 1e9:.3g} GB"),
            ("store", f"{days * self.cohort.store_bytes / 1e9:,.0f} GB"),
            ("read from the store", f"{self.days_per_second * self.cohort.store_bytes / 1e6:,.3g} MB/s"),
            ("copied to each GPU", f"{per_gpu * self.cohort.device_bytes / 1e6:,.3g} MB/s"),
            ("loader's workers needed for each GPU", f"{per_gpu * self.cohort.loader_seconds:.2g}"),
        ]


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def check(store: DayStore, folder: Path, days_per_rank: int) -> list[tuple[int, float, float]]:
    """Processes, days/s predicted from one process, days/s measured; tiny, one thread a process."""
    measured = {ranks: _train(store, folder / f"ranks{ranks}", ranks, days_per_rank) for ranks in CHECKED}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    result = []
    for ranks in CHECKED:
        share = Cohort.measure(store, presets.tiny(), ranks, days_per_rank).slowest_share
        at_once = min(ranks, cores)
        result.append((ranks, at_once * measured[1] / (share if at_once == ranks else 1.0), measured[ranks]))
    return result


def _train(store: DayStore, out: Path, ranks: int, days_per_rank: int) -> float:
    """Days per second of a short run, by the median step."""
    torchrun = (
        f"-m torch.distributed.run --standalone --nproc-per-node {ranks} -m lsm2 pretrain tiny --device cpu"
    )
    options = f"--device cpu --steps {CHECK_STEPS} --batch-days {ranks * days_per_rank} --num-workers 0"
    command = [sys.executable, *torchrun.split(), *options.split(), "--data", store.path, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"training with {ranks} processes failed:\n{done.stderr[-2000:]}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["days_per_second"] for line in lines[WARM_UP_STEPS:])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"of {DAYS_PER_PERSON} days each")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="base")
    parser.add_argument("--days-per-gpu", type=int, default=64, help="in a step")
    parser.add_argument(
        "--measured", type=Path, help="results of benchmarks.step.race; default: the newest, of a GPU first"
    )
    parser.add_argument("--memory-tb-s", type=float, default=3.0, help="of a GPU's memory")
    parser.add_argument("--link-gb-s", type=float, default=50.0, help="of all-reduce, as nccl-tests name it")
    parser.add_argument("--workers", type=int, default=8, help="of the loader, for each GPU")
    parser.add_argument("--check", action="store_true", help="compare with 1, 2 and 4 processes here")
    args = parser.parse_args(arguments)
    config: LSM2Config = getattr(presets, args.preset)()
    saved = sorted(RESULTS.glob("*.csv"), key=lambda path: ("NVIDIA" in path.name, path.name), reverse=True)
    measured = Measured.read(saved if args.measured is None else [args.measured], args.preset)
    with tempfile.TemporaryDirectory() as folder:
        store = write_cohort(Path(folder) / "cohort", people=32, days_per_person=4, seed=0)
        cohort = Cohort.measure(store, config, args.gpus, args.days_per_gpu)
        weights = sum(weight.numel() for weight in LSM2(config).parameters())
        rates = args.memory_tb_s * 1e12, args.link_gb_s * 1e9
        plan = Plan(args.gpus, args.days_per_gpu, weights, measured, cohort, *rates, args.workers)
        table = empty_table((f"{args.preset}, {args.gpus} devices",), ("predicted",))
        for name, number in plan.lines(args.people):
            table.add_row(name, number)
        source = f"compute as measured on {measured.machine}"
        show([f"{source}; memory and link rates are assumed", table])
        if args.check:
            table = empty_table(("processes",), ("days/s predicted", "measured", "measured / predicted"))
            for ranks, predicted, found in check(store, Path(folder), days_per_rank=4):
                table.add_row(str(ranks), f"{predicted:.2f}", f"{found:.2f}", f"{found / predicted:.2f}")
            show([table])


if __name__ == "__main__":
    main()
