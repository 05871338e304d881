"""Tables of attention in README.md and RESULTS.md; see benchmarks/pages.py."""

from statistics import geometric_mean

import pandas as pd

from benchmarks.attention.patterns import PATTERNS
from benchmarks.attention.problem import DIRECTIONS, OURS
from benchmarks.measure.saved_rows import read_rows
from benchmarks.measure.tables import markdown

DIRECTION_TITLES = {direction: direction.replace("+", " + ") for direction in DIRECTIONS}
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
MASKED = {"sdpa_mask": "SDPA with a key mask", "sdpa_gather": "SDPA on the kept rows, picked and put back"}


def of_ours(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ours, each with the ratio of the best peer of its race."""
    peers = frame[frame.way != OURS].groupby(["run", "case"], sort=False).ratio_to_ours.min()
    return frame[frame.way == OURS].join(peers.rename("best_ratio"), on=["run", "case"])


def attention_cpu() -> str:
    """How many times faster ours is than the better of torch's two ways; medians of runs."""
    runs = [f"attention_D64_run{run}" for run in (1, 2, 3)]
    ours = of_ours(read_rows("attention", "attention_D32_D128", "attention_1thread", *runs))
    seconds = ours.shortest_seconds
    floor = ours["race.useful_flops"] / ours["race.ceilings.flops_per_second"]
    floor += ours["race.useful_exponentials"] / ours["race.ceilings.exponentials_per_second"]
    ours = ours.assign(gflops=ours["race.useful_flops"] / seconds / 1e9, floor=100 * floor / seconds)
    shape = ["param.threads", "param.dtype", "param.head_dim", "param.direction", "param.pattern"]
    cases = ours.groupby(shape)[["best_ratio", "gflops", "floor"]].median()
    rows = []
    shapes = [(2, head_dim) for head_dim in (32, 64, 128)] + [(1, 64)]
    for threads, head_dim, dtype in [
        (*shape, dtype) for shape in shapes for dtype in ("float32", "bfloat16")
    ]:
        both = [
            cases.loc[threads, dtype, head_dim, direction].loc[list(PATTERNS["cpu"])]
            for direction in DIRECTIONS
        ]
        cells = []
        for found in both:
            each = ", ".join(f"{ratio:.2f}" for ratio in found.best_ratio)
            cells.append(f"**{geometric_mean(found.best_ratio):.2f}x** ({each})")
        means = [
            " / ".join(f"{geometric_mean(found[name]):.0f}" for found in both) for name in ("gflops", "floor")
        ]
        rows.append((f"{head_dim}, {dtype}, {threads}", *cells, *means))
    header = ("head dim, dtype, threads", *DIRECTION_TITLES.values(), "useful GFLOP/s", "% of the floor")
    return markdown(header, rows)


def attention_runs() -> str:
    """The means of three runs at head dim 64."""
    runs = [f"attention_D64_run{run}" for run in (1, 2, 3)]
    ours = of_ours(read_rows("attention", *runs))
    means = ours.groupby(["param.dtype", "param.direction", "run"]).best_ratio.agg(geometric_mean)
    rows = [
        (f"{dtype}, {DIRECTION_TITLES[direction]}", *(f"{means[dtype, direction, run]:.2f}x" for run in runs))
        for dtype in ("float32", "bfloat16")
        for direction in DIRECTIONS
    ]
    return markdown(("head dim 64, 2 threads: mean", "run 1", "run 2", "run 3"), rows)


def masked_attention() -> str:
    """A row per peer, a column per missing fraction, forward / forward and backward."""
    frame = read_rows("masked_attention", "suites")
    ratios = frame.set_index(["way", "param.missing", "param.direction"]).ratio_to_ours
    fractions = [int(missing) for missing in frame["param.missing"].unique()]
    rows = []
    for peer, title in MASKED.items():
        pairs = [[ratios[peer, missing, direction] for direction in DIRECTIONS] for missing in fractions]
        rows.append(
            (title, *(" / ".join(f"{x:.1f}x" if x < 100 else f"{x:.0f}x" for x in pair) for pair in pairs))
        )
    heading = "time over ours, forward / forward + backward"
    return markdown((heading, *(f"{missing} % missing" for missing in fractions)), rows)


def attention_libraries() -> str:
    """Their time over ours, by direction and dtype, on three patterns."""
    frame = read_rows("attention_peers", "attention_all_peers").dropna(subset="ratio_to_ours")
    columns = [(direction, dtype) for direction in DIRECTIONS for dtype in ("float32", "bfloat16")]
    by_cell = frame.groupby(["way", "param.direction", "param.dtype"], sort=False).ratio_to_ours.agg(list)
    rows = []
    for name, title in LIBRARIES.items():
        found = [by_cell.get((name, *column), []) for column in columns]
        texts = [", ".join(f"{x:.2f}x" if x < 10 else f"{x:.0f}x" for x in ratios) or "-" for ratios in found]
        rows.append((title, *texts))
    header = (f"{DIRECTION_TITLES[direction]}, {dtype}" for direction, dtype in columns)
    return markdown(("", *header), rows)


TABLES = {
    "attention_cpu": attention_cpu,
    "attention_runs": attention_runs,
    "attention_libraries": attention_libraries,
    "masked_attention": masked_attention,
}
