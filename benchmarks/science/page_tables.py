"""Tables of what models learn in README.md and RESULTS.md; see benchmarks/pages.py."""

from collections.abc import Sequence
from typing import Any

from benchmarks.measure.results import find_results
from benchmarks.measure.saved_rows import RESULTS, read_rows
from benchmarks.measure.tables import grouped, markdown
from benchmarks.science.time_to_quality_report import (
    REFERENCE,
    Comparison,
    Run,
    compare_with_reference,
    mean_and_spread,
    races_of,
)
from lsm2.evaluate import methods
from lsm2.evaluate.probes import metrics
from lsm2.evaluate.probes.methods import PROBE_METHODS

METHODS = {name: method.marked_label for name, method in methods.METHODS.items()}
VARIANTS = {
    REFERENCE: "reference: its error",
    "plain_init": "key weights independent of query weights",
    "tied_1": "`--tied-qk-init 1` instead of 2",
    "queries_1/4": "`--query-share 0.25`",
    "queries_1/16": "`--query-share 0.0625`",
    "visible_cap": "`--max-visible`: 256, or a quarter of the window",
    "visible_cap_queries_1/4": "`--max-visible` and `--query-share 0.25`",
    "one_kind_a_batch": "one kind of mask for all days of a batch",
    "random_mostly": "random masks for 80 % of the days",
    "joint": "`--decoder joint`",
    "full": "`--decoder full`",
    "paper": "the paper's decoder, initialisation and positions",
}
PLANTED = ("age", "sex", "bmi", "resting_heart_rate", "hypertension", "anxiety")
DEMO_TASKS = {
    "random_80": "80 % of tokens",
    "temporal_interpolation_60": "60 minutes",
    "temporal_extrapolation_60": "next 60 minutes",
    "temporal_extrapolation_180": "next 180 minutes",
    "signal_imputation_2": "2 signals, all day",
}


def comparisons(store: str) -> dict[str, Comparison]:
    """Of the recipes on one store."""
    files = [run for run in find_results(RESULTS) if run.run.startswith(f"time_to_quality_{store}")]
    (races,) = races_of(files).values()
    return compare_with_reference([Run.from_race(race) for race in races])


def time_to_quality() -> str:
    """A row per recipe, two stores side by side."""
    stores = {name: comparisons(name) for name in ("simulated", "covid_fitbit")}
    rows = [
        (title, *(cell for found in stores.values() for cell in _recipe_cells(variant, found.get(variant))))
        for variant, title in VARIANTS.items()
    ]
    return markdown(
        ("", *(title for name in stores for title in (f"{name}: ms a step", "error", "sooner"))), rows
    )


def _recipe_cells(variant: str, found: Comparison | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    error = f"{found.error:.3f}" if variant == REFERENCE else mean_and_spread(found.after_time)
    return f"{1e3 * found.step_seconds:.0f}", error, f"{found.sooner:.1f}x" if found.sooner else "never"


def decoders() -> str:
    """A row per decoder, all four stores."""
    stores = {name: comparisons(name) for name in ("simulated", "covid_fitbit", "nurse_e4", "t1d_uom")}
    rows = []
    for variant, title in ((REFERENCE, "`cross`"), ("joint", "`joint`"), ("full", "`full`")):
        cells = [title]
        for found in (store[variant] for store in stores.values()):
            errors = f"{mean_and_spread(found.after_time, 2)}, {mean_and_spread(found.after_days, 2)}"
            text = f"{found.error:.3f}" if variant == REFERENCE else errors
            cells.append(f"{text}, probe {found.probe:.2f}")
        rows.append(cells)
    return markdown(("decoder", *stores), rows)


def evaluation(name: str) -> dict[tuple[str, str], dict[str, float]]:
    """By task and signal ("" for all), by method, the squared error."""
    frame = read_rows("evaluation", f"evaluation_{name}")
    signals = frame["param.signal"].fillna("") if "param.signal" in frame else [""] * len(frame)
    rows = zip(frame["param.task"], signals, frame.way, frame.mse, strict=True)
    cells = grouped(rows, lambda row: (row[0], row[1]))
    return {key: {method: float(error) for _, _, method, error in group} for key, group in cells}


def error_table(name: str, rows: dict[str, dict[str, float]]) -> str:
    """A row for each title, a column for each method that was measured; the lowest error of a row is bold."""
    methods = [method for method in METHODS if any(method in errors for errors in rows.values())]
    cells = [(title, *(_error_cell(errors, method) for method in methods)) for title, errors in rows.items()]
    return markdown((name, *(METHODS[method] for method in methods)), cells)


def _error_cell(errors: dict[str, float], method: str) -> str:
    if method not in errors:
        return "-"
    is_lowest = errors[method] == min(errors.values())
    return f"**{errors[method]:.2f}**" if is_lowest else f"{errors[method]:.2f}"


def demo() -> str:
    """Squared errors of some tasks."""
    errors = evaluation("demo")
    return error_table("hidden", {title: errors[task, ""] for task, title in DEMO_TASKS.items()})


def real_data(name: str, tasks_by_signal: Sequence[str]) -> str:
    """Squared errors of all tasks, and of every signal in some."""
    found = evaluation(name)
    rows = {task: errors for (task, signal), errors in found.items() if not signal}
    for wanted in tasks_by_signal:
        signals = {signal: errors for (task, signal), errors in found.items() if task == wanted and signal}
        rows |= {f"{wanted}: {signal}": errors for signal, errors in signals.items()}
    return error_table(name, rows)


def probes(model: str, targets: Sequence[str]) -> str:
    """Methods by labels: the first metric of each with its interval, the best bold; then differences."""
    columns = {}
    for target in targets:
        frame = read_rows("probe", f"probe_{model}_{target}")
        metric = metrics.METRICS[frame["param.kind"].iloc[0]][0]
        columns[target] = metric, frame.set_index("way")
    names = [name for name in PROBE_METHODS if any(name in frame.index for _, frame in columns.values())]
    header = [
        f"{target} ({metrics.LABELS[metric]}, {int(frame['param.num_people'].iloc[0])} people)"
        for target, (metric, frame) in columns.items()
    ]
    rows = []
    for name in names:
        cells = []
        for metric, frame in columns.values():
            best = name in frame.index and frame.loc[name, metric] == frame[metric].max()
            text = _interval_cell(frame, name, metric)
            cells.append(f"**{text}**" if best else text)
        rows.append((PROBE_METHODS[name].label, *cells))
    for name in ("random_init", "summary_boosting", "covariates"):
        if name in names:
            cells = [
                _interval_cell(frame, name, f"{metric}_minus", "+") for metric, frame in columns.values()
            ]
            rows.append((f"AIM minus {PROBE_METHODS[name].label}", *cells))
    return markdown((model, *header), rows)


def _interval_cell(frame: Any, name: str, metric: str, sign: str = "") -> str:
    if name not in frame.index:
        return "-"
    mean, low, high = (float(frame.loc[name, f"{metric}{end}"]) for end in ("", "_low", "_high"))
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


TABLES = {
    "time_to_quality": time_to_quality,
    "decoders": decoders,
    "demo": demo,
    "probes_demo": lambda: probes("demo", PLANTED),
    "probes_nhanes": lambda: probes("nhanes", ["age_years", "bmi", "sex", "hypertension_told"]),
    "probes_intervals": lambda: "\n\n".join(
        (probes("mmash", ["activity", "anxiety_trait", "daily_stress"]), probes("nurse_e4", ["stress_level"]))
    ),
    "nurse_e4": lambda: real_data("nurse_e4", ["random_80"]),
    "covid_fitbit": lambda: real_data("covid_fitbit", ["random_80", "signal_imputation_1"]),
}
