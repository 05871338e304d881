"""All results on one page. `python -m benchmarks.measure.report RESULT [RESULT ...] --out report.html`, files of JSON or folders of them

Reads what the suites and the programs saved (results.py). Each comparison becomes a map: a row per case, a column per peer, a cell with
the peer's time over ours (above 1, blue: ours is faster; below, red: the peer is). Of a case that several files measured on the same
machine the median counts. Peers that did not run are listed with their errors. `--readme` writes the tables of README.md and RESULTS.md
anew instead (readme_tables.py).
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import pages as readme_tables
from benchmarks.measure.figures import draw_axes, draw_rooflines
from benchmarks.measure.ratio_map import draw_ratio_map
from benchmarks.measure.results import Race, Results, find_results
from benchmarks.measure.tables import grouped
from benchmarks.science import time_to_quality_report
from benchmarks.step import figure as train_step_plot
from benchmarks.step.tables import results_of
from lsm2.report.html import document, figure, section, table
from lsm2.report.plots import draw_loss

QUESTIONS = {
    "attention": "Attention",
    "attention_gpu": "Attention",
    "attention_peers": "Attention, other libraries",
    "attention_shapes": "Attention by length, batch, heads and head dim",
    "masked_attention": "masked_attention against SDPA with a mask",
    "train_step": "Training step",
    "memory": "Peak memory of a training step",
    "packing": "Packing and unpacking (copy and clone are floors)",
    "loader": "Loader (dense_only is a floor)",
}


def merge(races: Sequence[Race]) -> dict[str, dict[str, dict[str, Any]]]:
    """By case, by way: what was found, of several runs medians; of a peer that did not run its error."""
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    for case, group in grouped(races, lambda race: race.case):
        ways: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(name for race in group for name in race.ways):
            found = [race.ways[name] for race in group if name in race.ways]
            ran = [way for way in found if way.get("ratio_to_ours") is not None]
            numbers = {key for way in ran for key, value in way.items() if isinstance(value, float)}
            median = {key: statistics.median(way[key] for way in ran if key in way) for key in numbers}
            ways[name] = median if ran else {"error": next((way["error"] for way in found if way.get("error")), "")}
        merged[case] = ways
    return merged


def map_section(suite: str, machine: str, races: Sequence[Race]) -> str:
    """One comparison: the picture, the numbers, what did not run."""
    ours = races[0].ours
    merged = merge(races)
    cells = {
        (case, name): way["ratio_to_ours"]
        for case, ways in merged.items()
        for name, way in ways.items()
        if name != ours and "ratio_to_ours" in way
    }
    failures = [f"{name}, {case}: {way['error']}" for case, ways in merged.items() for name, way in ways.items() if way.get("error")]
    parts = [f'<p class="soft">{escape(machine)}</p>']
    if cells:
        cases, peers = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
        picture = io.BytesIO()
        draw_ratio_map(picture, cases, peers, cells)
        lost = sum(ratio < 1 for ratio in cells.values())
        what, better = ("Peak bytes", "smaller") if suite == "memory" else ("Time", "faster")
        caption = f"{what} of each way over {ours}: {len(cells) - lost} of {len(cells)} above 1 ({ours} is {better}), {lost} below"
        columns = [ours, *peers]
        rows = [([case, *(_show(merged[case].get(name, {})) for name in columns)], [""] * (1 + len(columns))) for case in cases]
        parts += [figure(caption, picture.getvalue()), f"<details><summary>Numbers</summary>{table(['case', *columns], rows)}</details>"]
    if failures:
        lines = "".join(f"<p>{escape(failure)}</p>" for failure in failures)
        parts.append(f"<details><summary>Did not run</summary>{lines}</details>")
    return section(QUESTIONS.get(suite, suite), "\n".join(parts))


def _show(way: dict[str, Any]) -> str:
    """Milliseconds, or megabytes a day, and the ratio to ours."""
    if "ratio_to_ours" not in way:
        return "-"
    number = f"{way['peak_bytes_per_day'] / 1e6:.0f} MB" if "peak_bytes_per_day" in way else f"{1e3 * way['median_seconds']:.4g} ms"
    return f"{number} ({way['ratio_to_ours']:.2f}x)"


def speed_sections(files: Sequence[Results]) -> Iterator[str]:
    """Of each machine the rooflines, and speed against each axis."""
    for machine, group in grouped(files, lambda file: file.machine_name):
        races = [race for file in group for race in file.races]
        rooflines = [figure(f"{dtype}. {machine}", picture) for dtype, picture in draw_rooflines(races)]
        if rooflines:
            yield section("Roofline: attention under the machine's ceilings", "\n".join(rooflines))
        axes = [figure(f"Speed by {axis}, bfloat16. {machine}", picture) for axis, picture in draw_axes(races)]
        if axes:
            yield section("Speed of attention, one thing changing at a time", "\n".join(axes))


def training_sections(files: Sequence[Results]) -> Iterator[str]:
    """Training steps against missing fraction and window, losses of runs, and errors against time, for each machine and store."""
    for machine, group in grouped(files, lambda file: file.machine_name):
        results = {(result.case, result.way): result for file in group for result in results_of(file.races)}
        for preset, of_preset in grouped(results.values(), lambda result: result.case.preset):
            if len({(result.case.window, result.case.missing) for result in of_preset}) > 1:
                picture = io.BytesIO()
                train_step_plot.draw(picture, of_preset, machine)
                yield section(f"Training step: {preset}", figure("Milliseconds per window", picture.getvalue()))
    for file in files:
        for race in (race for race in file.races if race.suite == "training_run"):
            picture = io.BytesIO()
            draw_loss(picture, race.extra["metrics"])
            speed = f"{race.case}: {race.extra['days_per_second']:.4g} days/s, {race.extra['loader_wait']:.1%} of it waiting for data"
            yield section("Training run", figure(f"{speed}. {file.machine_name}", picture.getvalue()))
    for title, runs in time_to_quality_report.runs_of(files).items():
        picture = io.BytesIO()
        time_to_quality_report.draw(picture, runs, title)
        caption = "Error of held-out people's hidden minutes; means over seeds"
        yield section(f"Time to quality: {title.split(',')[0]}", figure(caption, picture.getvalue()))


def render(files: Sequence[Results]) -> str:
    """The page."""
    shown = [(file, race) for file in files for race in file.races if len(race.ways) > 1 and race.suite != "tile_sweep"]
    races = [(race.suite, file.machine_name, race) for file, race in shown]
    sections = [
        map_section(suite, machine, [race for _, _, race in group]) for (suite, machine), group in grouped(races, lambda item: item[:2])
    ]
    rows = [([file.path.name, file.machine_name, str(file.machine.get("commit") or "-")[:12]], ["", "", ""]) for file in files]
    parts = [*sections, *speed_sections(files), *training_sections(files), section("Files", table(["file", "machine", "commit"], rows))]
    return document("lsm2-kernels: benchmarks", ["<h1>lsm2-kernels: benchmarks</h1>", *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", nargs="*", type=Path, default=[Path(__file__).parents[1] / "results"], help="default: benchmarks/results"
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--readme", action="store_true", help="write the tables of README.md and RESULTS.md anew from results/")
    args = parser.parse_args()
    if args.readme:
        readme_tables.update()
        return
    args.out.write_text(render(find_results(args.results)))
    print(args.out)


if __name__ == "__main__":
    main()
