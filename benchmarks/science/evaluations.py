"""Evaluations and probes of models as rows of a CSV: `python -m benchmarks.science.evaluations
NAME=RUN/evaluation.json NAME=RUN/probes/TARGET.json --csv FILE`

Each task becomes a race whose ways are the methods, with their squared and absolute errors, and so does each
signal of the tasks `SIGNALS_OF`; each probed label becomes a race whose ways are the methods, with their
metrics. The machine of the rows is this one, though errors do not depend on it.
"""

import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.environment import describe_machine
from benchmarks.measure.options import make_parser
from benchmarks.measure.results import Race, Results, write_csv

SIGNALS_OF = ("random_80", "signal_imputation_1")
NUMBERS = ("mse", "mae", "num_minutes", "rmse_in_unit", "mae_in_unit")


def races_of(name: str, evaluation: dict[str, Any]) -> Iterator[Race]:
    """Of an evaluation.json: by task, and of some tasks by signal."""
    for task, methods in evaluation["generative"].items():
        signals = next(iter(methods.values()))["per_signal"] if task in SIGNALS_OF else ()
        for signal in ("", *signals):
            found = {
                method: errors["per_signal"][signal] if signal else errors
                for method, errors in methods.items()
            }
            params = {"model": name, "task": task} | ({"signal": signal} if signal else {})
            case = ", ".join(filter(None, (name, task, signal)))
            yield Race(
                "evaluation", case, params, {method: numbers_of(each) for method, each in found.items()}
            )


def probe_race(name: str, probe: dict[str, Any]) -> Race:
    """Of a file of probes/: metrics with intervals, and the model's minus each method's as METRIC_minus."""
    ways = {}
    for method, metrics in probe["methods"].items():
        numbers: dict[str, Any] = {}
        differences = probe["aim_minus"].get(method, {})
        for metric, score in [*metrics.items(), *((f"{m}_minus", score) for m, score in differences.items())]:
            if score["mean"] is not None:
                ends = {f"{metric}_low": score["low"], f"{metric}_high": score["high"]}
                numbers |= {metric: score["mean"]} | ends
        ways[method] = numbers
    params = {name: probe[name] for name in ("target", "kind", "level", "num_people", "num_labelled")}
    pooling = probe["settings"]["pooling"]
    return Race("probe", f"{name}, {probe['target']}", {"model": name, "pooling": pooling, **params}, ways)


def numbers_of(errors: dict[str, Any]) -> dict[str, Any]:
    """What a row holds."""
    numbers = {name: errors[name] for name in NUMBERS if errors.get(name) is not None}
    low_and_high = errors.get("mse_interval") or ()
    return numbers | dict(zip(("mse_low", "mse_high"), low_and_high, strict=False))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("evaluations", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--csv", type=Path, required=True, help="benchmarks/results/DATE-MACHINE.csv")
    args = parser.parse_args(arguments)
    machine = describe_machine() | {"date": datetime.date.today().isoformat()}
    runs = []
    for text in args.evaluations:
        name, _, file = text.partition("=")
        if not Path(file).is_file():
            parser.error(f"{text}: {file or 'nothing'} is no file; write NAME=RUN/evaluation.json")
        evaluation = json.loads(Path(file).read_bytes())
        if "generative" in evaluation:
            races = list(races_of(name, evaluation))
            runs.append(Results(Path(file), f"evaluation_{name}", machine, races))
        else:
            run = f"probe_{name}_{evaluation['target']}"
            runs.append(Results(Path(file), run, machine, [probe_race(name, evaluation)]))
    write_csv(args.csv, runs)
    print(f"{args.csv}: {len(runs)} evaluations and probes, {sum(len(run.races) for run in runs)} races")


if __name__ == "__main__":
    main()
