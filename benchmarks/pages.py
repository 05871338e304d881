"""The tables of README.md and RESULTS.md, from results/: `python -m benchmarks.measure.report --readme` writes them anew, a test tells if they are.

In a page a table stands between the comments `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attention.patterns import PATTERNS
from benchmarks.attention.problem import DIRECTIONS
from benchmarks.measure.results import Race, find_results
from benchmarks.measure.tables import grouped
from benchmarks.science.time_to_quality_report import REFERENCE, Comparison, compare_with_reference, mean_and_spread, runs_of
from benchmarks.step.tables import TARGETS, Result, results_of
from benchmarks.triton.launch_model import Machine, compare_schedules, list_batches

PAGES = Path(__file__).parents[1] / "README.md", Path(__file__).parent / "RESULTS.md"
RESULTS = Path(__file__).parent / "results" / "2026-11-23-AMD-EPYC-2-cores"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
METHODS = {
    "aim": "AIM",
    "mean": "mean",
    "nearest": "nearest",
    "linear": "linear",
    "last": "last",
    "person_time_of_day": "person's time of day",
    "same_minute": "same minute",
}
LIBRARIES = {
    "zentorch_split": "zentorch, per sequence",
    "vllm": "vLLM CPU",
    "openvino_split": "OpenVINO, per sequence",
    "openvino_padded": "OpenVINO, padded",
    "onnxruntime_split": "ONNX Runtime, per sequence",
    "onnxruntime_padded": "ONNX Runtime, padded",
    "torch_flex": "torch FlexAttention",
    "jax_padded": "JAX, padded",
    "torch_nested": "torch jagged nested tensors",
}
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
DEMO_TASKS = {
    "random_80": "80 % of tokens",
    "temporal_interpolation_60": "60 minutes",
    "temporal_extrapolation_60": "next 60 minutes",
    "temporal_extrapolation_180": "next 180 minutes",
    "signal_imputation_2": "2 signals, all day",
}
WAYS = {
    "ours_cross": "ours `cross`",
    "ours_joint": "ours `joint`",
    "ours_full": "ours `full`",
    "padded": "padded, `full`",
    "paper": "paper's way, `full`",
    "dense": "dense, `full`",
}


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["|".join(f" {cell} " if cell else " " for cell in cells) for cells in (header, *rows)]
    lines.insert(1, "|".join(["---"] * len(header)))
    return "".join(f"|{line}|\n" for line in lines)


def races_in(pattern: str) -> list[Race]:
    """Of the files whose names match."""
    paths = sorted(RESULTS.glob(pattern))
    if not paths:
        raise SystemExit(f"{RESULTS} has no {pattern}")
    return [race for file in find_results(paths) for race in file.races]


def attention_cpu() -> str:
    """How many times faster ours is than the better of torch's two ways."""
    races = [race for file in ("attention_D*.json", "attention_1thread.json") for race in races_in(file) if race.suite == "attention"]
    shapes = grouped(races, lambda race: (race.params["head_dim"], race.params["dtype"], race.params["threads"]))
    rows = []
    for (head_dim, dtype, threads), group in sorted(shapes, key=lambda item: (-item[0][2], item[0][0], item[0][1] != "float32")):
        both = [of_direction(group, direction) for direction in DIRECTIONS]
        rates, floors = (" / ".join(f"{numbers[place]:.0f}" for numbers in both) for place in (1, 2))
        rows.append((f"{head_dim}, {dtype}, {threads}", *(numbers[0] for numbers in both), rates, floors))
    return markdown(
        ("head dim, dtype, threads", *(name.replace("+", " + ") for name in DIRECTIONS), "useful GFLOP/s", "% of the floor"), rows
    )


def of_direction(races: Sequence[Race], direction: str) -> tuple[str, float, float]:
    """Mean ratio and those of the patterns, mean useful GFLOP/s, mean percent of the floor; of several runs the median."""
    ratios, rates, floors = [], [], []
    for pattern in PATTERNS:
        group = [race for race in races if (race.params["direction"], race.params["pattern"]) == (direction, pattern)]
        ratios.append(statistics.median(min(_ratios(race).values()) for race in group))
        rates.append(statistics.median(race.extra["useful_flops"] / race.ways["ours"]["shortest_seconds"] / 1e9 for race in group))
        floors.append(statistics.median(100 * _floor_seconds(race) / race.ways["ours"]["shortest_seconds"] for race in group))
    text = f"**{statistics.geometric_mean(ratios):.2f}x** ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    return text, statistics.geometric_mean(rates), statistics.geometric_mean(floors)


def attention_runs() -> str:
    """The means of three runs at head dim 64."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        for direction in DIRECTIONS:
            runs = []
            for run in (1, 2, 3):
                races = races_in(f"attention_D64_run{run}.json")
                cases = [race for race in races if (race.params["dtype"], race.params["direction"]) == (dtype, direction)]
                runs.append(statistics.geometric_mean(min(_ratios(race).values()) for race in cases))
            rows.append((f"{dtype}, {direction.replace('+', ' + ')}", *(f"{mean:.2f}x" for mean in runs)))
    return markdown(("head dim 64, 2 threads: mean", "run 1", "run 2", "run 3"), rows)


def masked_attention() -> str:
    """A row per peer, a column per missing fraction, forward / forward and backward."""
    races = [race for race in races_in("suites.json") if race.suite == "masked_attention"]
    fractions = list(dict.fromkeys(race.params["missing"] for race in races))
    found = {(race.params["missing"], race.params["direction"]): race for race in races}
    rows = []
    for peer, title in (("sdpa_mask", "SDPA with a key mask"), ("sdpa_gather", "SDPA on the kept rows, picked and put back")):
        ratios = [[_ratios(found[missing, direction])[peer] for direction in DIRECTIONS] for missing in fractions]
        rows.append((title, *(" / ".join(f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x" for ratio in pair) for pair in ratios)))
    return markdown(("time over ours, forward / forward + backward", *(f"{missing} % missing" for missing in fractions)), rows)


def _ratios(race: Race) -> dict[str, float]:
    return {name: way["ratio_to_ours"] for name, way in race.ways.items() if name != race.ours and "ratio_to_ours" in way}


def _floor_seconds(race: Race) -> float:
    rates = race.extra["ceilings"]
    return race.extra["useful_flops"] / rates["flops_per_second"] + race.extra["useful_exponentials"] / rates["exponentials_per_second"]


def attention_libraries() -> str:
    """Their time over ours, by direction and dtype, on three patterns."""
    races = [race for race in races_in("attention_all_peers.json") if race.suite == "attention_peers"]
    columns = [(direction, dtype) for direction in DIRECTIONS for dtype in ("float32", "bfloat16")]
    rows = []
    for name, title in LIBRARIES.items():
        cells = [title]
        for column in columns:
            ratios = [_ratios(race).get(name) for race in races if (race.params["direction"], race.params["dtype"]) == column]
            cells.append(", ".join(f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x" for ratio in ratios if ratio) or "-")
        rows.append(cells)
    return markdown(("", *(f"{direction.replace('+', ' + ')}, {dtype}" for direction, dtype in columns)), rows)


def train_step() -> str:
    """Milliseconds of a step on two days, by preset and missing fraction."""
    results = [result for file in ("train_step_missing.json", "train_step_base.json") for result in results_of(races_in(file))]
    rows = []
    for case, group in grouped(results, lambda result: result.case):
        ms = {result.way: result.ms for result in group}
        rows.append((f"{case.preset}, {100 * case.missing:.0f} %", *(f"{ms[way]:.0f}" if ms.get(way) else "-" for way in WAYS)))
    return markdown(("preset, missing", *WAYS.values()), rows)


def train_step_targets() -> str:
    """Ratios of three runs."""
    runs = [_by_preset_and_way(results_of(races_in(f"train_step_targets_run{run}.json"))) for run in (1, 2, 3)]
    names = {"paper": "the paper's way", "dense": "dense"}
    rows = []
    for target in TARGETS:
        ratios = [(run[target.preset, target.peer].ms or 0) / (run[target.preset, target.ours].ms or 1) for run in runs]
        title = f"{target.preset}, `{target.ours.removeprefix('ours_')}` against {names[target.peer]}"
        rows.append((title, *(f"{ratio:.1f}x" for ratio in ratios)))
    return markdown(("preset, ours against", "run 1", "run 2", "run 3"), rows)


def _by_preset_and_way(results: Sequence[Result]) -> dict[tuple[str, str], Result]:
    return {(result.case.preset, result.way): result for result in results}


def peak_memory() -> str:
    """Megabytes a day."""
    results = [result for result in results_of(races_in("train_step_targets_run1.json")) if result.case.preset == "base"]
    peaks = {result.way: (result.peak_bytes or 0) / result.case.num_windows / 1e6 for result in results}
    ways = {way: title.removeprefix("ours ").removesuffix(", `full`") for way, title in WAYS.items() if way in peaks}
    row = (f"base, {100 * results[0].case.missing:.0f} % missing", *(f"{peaks[way]:.0f}" for way in ways))
    return markdown(("peak memory of a step, MB a day", *ways.values()), [row])


def comparisons(store: str) -> dict[str, Comparison]:
    """Of the recipes on one store."""
    ((_, runs),) = runs_of(find_results(sorted(RESULTS.glob(f"time_to_quality_{store}*.json")))).items()
    return compare_with_reference(runs)


def time_to_quality() -> str:
    """A row per recipe, two stores side by side."""
    stores = {name: comparisons(name) for name in ("simulated", "covid_fitbit")}
    rows = [
        (title, *(cell for found in stores.values() for cell in _recipe_cells(variant, found.get(variant))))
        for variant, title in VARIANTS.items()
    ]
    return markdown(("", *(title for name in stores for title in (f"{name}: ms a step", "error", "sooner"))), rows)


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
            cells.append(f"{found.error:.3f}" * (variant == REFERENCE) or errors)
            cells[-1] += f", probe {found.probe:.2f}"
        rows.append(cells)
    return markdown(("decoder", *stores), rows)


def schedule() -> str:
    """Shares of a perfectly even split, simulated."""
    columns = {"ours": "ours", "longest_first": "longest sequence first", "grid_max": "grid over the longest sequence"}
    titles = {
        ("aim", 512): "512 days of 150 to 1500 tokens",
        ("short", 4096): "4096 sequences of 20 to 256",
        ("short and one of 3744", 4096): "the same and one of 3744",
        ("aim", 32): "32 days of 150 to 1500",
    }
    batches = {(pattern, len(lengths)): lengths for pattern, lengths in list_batches()}
    rows = []
    for case, title in titles.items():
        lines = compare_schedules(case[0], batches[case], Machine())
        shares = {name: [f"{100 * line.share_of_perfect:.0f} %" for line in lines if line.schedule == name] for name in columns}
        rows.append((title, *(", ".join(shares[name]) for name in columns)))
    return markdown(("", *columns.values()), rows)


def read_evaluation(name: str) -> dict[str, dict[str, dict[str, Any]]]:
    """By task, by method, of a run's evaluation.json."""
    return json.loads((RESULTS / f"evaluation_{name}.json").read_bytes())["generative"]


def error_row(title: str, errors: dict[str, float], methods: Iterable[str] = METHODS) -> tuple[str, ...]:
    """One cell for each method, the lowest bold."""
    lowest = min(errors.values())
    return (title, *(f"**{errors[method]:.2f}**" if errors[method] == lowest else f"{errors[method]:.2f}" for method in methods))


def demo() -> str:
    """Squared errors of some tasks; of AIM also after longer training."""
    columns = {"aim": "AIM", "aim_longer": "AIM, 7000 steps"} | {method: title for method, title in METHODS.items() if method != "aim"}
    tasks, longer = read_evaluation("demo"), read_evaluation("demo_7000_steps")
    rows = []
    for task, title in DEMO_TASKS.items():
        errors = {method: found["mse"] for method, found in tasks[task].items()} | {"aim_longer": longer[task]["aim"]["mse"]}
        rows.append(error_row(title, errors, columns))
    return markdown(("hidden", *columns.values()), rows)


def real_data(name: str) -> str:
    """Squared errors of all tasks, and of every signal in random_80."""
    tasks = read_evaluation(name)
    rows = [error_row(task, {method: found["mse"] for method, found in methods.items()}) for task, methods in tasks.items()]
    for task in ("random_80", *(["signal_imputation_1"] if name == "covid_fitbit" else [])):
        signals = tasks[task]["aim"]["per_signal"]
        for signal in signals:
            errors = {method: found["per_signal"][signal]["mse"] for method, found in tasks[task].items()}
            rows.append(error_row(f"{task}: {signal}", errors))
    return markdown((name, *METHODS.values()), rows)


TABLES: dict[str, Callable[[], str]] = {
    "attention_cpu": attention_cpu,
    "attention_runs": attention_runs,
    "attention_libraries": attention_libraries,
    "masked_attention": masked_attention,
    "train_step": train_step,
    "train_step_targets": train_step_targets,
    "peak_memory": peak_memory,
    "time_to_quality": time_to_quality,
    "decoders": decoders,
    "schedule": schedule,
    "demo": demo,
    "nurse_e4": lambda: real_data("nurse_e4"),
    "covid_fitbit": lambda: real_data("covid_fitbit"),
}


def fill(text: str) -> str:
    """The text with every table anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def update() -> None:
    """Write the pages."""
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
