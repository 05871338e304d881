"""All results on one page. `python -m benchmarks.measure.report RESULT [RESULT ...] --out report.html`

Reads CSV of benchmarks/results and JSON of suites and programs, files or folders of them. The page opens with
one answer for each machine, then has a section for each suite: a map with a row a case and a column a peer,
whose cells are the peer's time over ours (above 1, blue: ours is faster; below, red: the peer is), the
numbers, and what did not run. Of a case that several runs on one machine measured the median counts.
"""

import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.measure.figures import (
    draw_curves,
    draw_panels,
    draw_ratio_map,
    draw_rooflines,
    panels_by_parameter,
)
from benchmarks.measure.options import make_parser
from benchmarks.measure.results import Race, Results, find_results
from benchmarks.measure.tables import best_ratio, grouped
from lsm2.report.html import document, figure, section, table

TITLES = {
    "attention": "Attention",
    "attention_peers": "Attention, other libraries",
    "attention_shapes": "Attention by length, batch, heads and head dim",
    "masked_attention": "masked_attention against SDPA with a mask",
    "train_step": "Training step",
    "memory": "Peak memory of a training step",
    "packing": "Packing and unpacking (copy and clone are floors)",
    "loader": "Loader (dense_only is a floor)",
}
FLOORS = ("copy", "clone", "dense_only")
"""Ways that do less than the job: no peers."""
ANSWERED = ("attention", "attention_peers", "attention_shapes", "masked_attention", "train_step")
"""Suites that the answer at the top is about."""
MOST_SHOWN, MOST_NAMED = 12, 3
RESULTS = Path(__file__).parents[1] / "results"


def merge(races: Sequence[Race]) -> list[Race]:
    """One race for each case of a suite: of several runs the medians; of a way that never ran its error."""
    merged = []
    for (suite, case), group in grouped(races, lambda race: (race.suite, race.case)):
        ways: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(name for race in group for name in race.ways):
            found = [race.ways[name] for race in group if name in race.ways]
            ran = [way for way in found if not way.get("error")]
            numbers = {key for way in ran for key, value in way.items() if isinstance(value, (int, float))}
            median = {key: statistics.median(way[key] for way in ran if key in way) for key in numbers}
            error = next((way["error"] for way in found if way.get("error")), "")
            kept = {key: value for key, value in found[0].items() if key in ("note", "estimated_ms")}
            ways[name] = kept | (median if ran or not error else {"error": error})
        merged.append(Race(suite, case, group[0].params, ways, group[0].extra))
    return merged


def answer(machine: str, races: Sequence[Race]) -> str:
    """How many times faster ours is than the best other way, over which cases, and where it is slower."""
    sentences = []
    for kind, suites in (
        ("attention", ANSWERED[:-1]),
        ("a training step with the default decoder", ANSWERED[-1:]),
    ):
        best = [
            (*found, race) for race in races if race.suite in suites and (found := best_ratio(race, FLOORS))
        ]
        if not best:
            continue
        ratios = [ratio for ratio, _, _ in best]
        mean, slower = statistics.geometric_mean(ratios), sorted(item[:2] for item in best if item[0] < 1)
        named = {(ratio, way): race.case for ratio, way, race in best}
        losses = [f"{named[item]} ({item[0]:.2f} of our time by {item[1]})" for item in slower[:MOST_NAMED]]
        more = f", and {len(slower) - MOST_NAMED} more" if len(slower) > MOST_NAMED else ""
        loses = f"slower in {len(slower)}: {'; '.join(losses)}{more}" if slower else "slower in none"
        spread = f"{min(ratios):.2f} to {max(ratios):.3g} times; {loses}"
        sentences.append(
            f"{kind} is {mean:.2f} times as fast as the best other way over {len(best)} cases ({spread})"
        )
    if not sentences:
        return ""
    left_out = [way["error"] for race in races if (way := race.ways.get(race.ours, {})).get("error")]
    missing = f" {len(left_out)} cases were not run: {left_out[0]}." if left_out else ""
    text = f"On {machine}, {', and '.join(sentences)}.{missing}"
    return f'<div class="headline"><p>{escape(text)}</p></div>'


def suite_section(suite: str, machine: str, races: Sequence[Race]) -> str:
    """One comparison: what it comes to, the picture, the numbers, what did not run; long ones folded."""
    ours, races = races[0].ours, merge(races)
    cells = {(race.case, name): ratio for race in races for name, ratio in race.ratios.items()}
    parts = [f'<p class="soft">{escape(machine)}</p>']
    if cells:
        cases, peers = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
        lost = sum(ratio < 1 for ratio in cells.values())
        what, better = ("Peak bytes", "smaller") if suite == "memory" else ("Time", "faster")
        caption = (
            f"{what} of each way over {ours}: {len(cells) - lost} of {len(cells)} above 1"
            f" ({ours} is {better}), {lost} below"
        )
        picture = figure("Blue: ours is better; red: the other way is", draw_ratio_map(cases, peers, cells))
        by_peer = {peer: [ratio for (_, name), ratio in cells.items() if name == peer] for peer in peers}
        means = [f"{peer} {statistics.geometric_mean(ratios):.2f}x" for peer, ratios in by_peer.items()]
        parts.append(f"<p>{escape(caption)}. Geometric means: {escape(', '.join(means))}.</p>")
        parts.append(picture if len(cases) <= MOST_SHOWN else fold(f"Map of {len(cases)} cases", picture))
        by_case = {race.case: race.ways for race in races}
        rows = [[case, *(_show(by_case[case].get(name, {})) for name in (ours, *peers))] for case in cases]
        numbers = table(["case", ours, *peers], [(row, [""] * len(row)) for row in rows])
        parts.append(fold("Numbers", numbers))
    failures = [
        f"{name}, {race.case}: {way['error']}"
        for race in races
        for name, way in race.ways.items()
        if way.get("error")
    ]
    if failures:
        parts.append(
            fold(f"Did not run: {len(failures)}", "".join(f"<p>{escape(line)}</p>" for line in failures))
        )
    return section(TITLES.get(suite, suite), "\n".join(parts))


def fold(summary: str, content: str) -> str:
    """Shown on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _show(way: dict[str, Any]) -> str:
    """Milliseconds, or megabytes a day, and the ratio to ours."""
    if way.get("ratio_to_ours") is None:
        return "-"
    in_bytes = "peak_bytes_per_day" in way
    number = (
        f"{way['peak_bytes_per_day'] / 1e6:.0f} MB" if in_bytes else f"{1e3 * way['median_seconds']:.4g} ms"
    )
    return f"{number} ({way['ratio_to_ours']:.2f}x)"


def figure_sections(machine: str, races: Sequence[Race]) -> Iterator[str]:
    """Rooflines, ways against each parameter, and curves of training."""
    rooflines = [figure(f"{dtype}. {machine}", picture) for dtype, picture in draw_rooflines(races)]
    if rooflines:
        yield section("Roofline: attention under the machine's ceilings", "\n".join(rooflines))
    drawn = [
        figure(f"Speed by {axis}. {machine}", draw_panels(panels))
        for axis, panels in panels_by_parameter(races)
    ]
    if drawn:
        yield section("Speed, one thing changing at a time", "\n".join(drawn))
    trained = [race for race in races if "curve" in race.extra]
    for (suite, store), group in grouped(trained, lambda race: (race.suite, race.params.get("store", ""))):
        name = next(name for name in ("error", "loss") if name in group[0].extra["curve"])
        picture = draw_curves(group, name, [x for x in ("seconds", "days") if x in group[0].extra["curve"]])
        caption = f"{', '.join(filter(None, (store, name)))}; means over seeds. {machine}"
        yield section(suite.replace("_", " ").capitalize(), figure(caption, picture))


def render(runs: Sequence[Results]) -> str:
    """The page."""
    by_machine = [
        (machine, [race for run in group for race in run.races])
        for machine, group in grouped(runs, lambda run: run.machine_name)
    ]
    parts = ["<h1>lsm2-kernels: benchmarks</h1>"]
    parts += [answer(machine, merge(races)) for machine, races in by_machine]
    for machine, races in by_machine:
        compared = [
            race for race in races if race.ratios or any("error" in way for way in race.ways.values())
        ]
        shown = [race for race in compared if race.suite != "tile_sweep"]
        parts += [
            suite_section(suite, machine, group) for suite, group in grouped(shown, lambda race: race.suite)
        ]
    for machine, races in by_machine:
        parts += figure_sections(machine, merge(races))
    rows = [
        ([run.run, run.machine_name, str(run.machine.get("commit") or "-")[:12]], [""] * 3) for run in runs
    ]
    parts.append(section("Runs", table(["run", "machine", "commit"], rows)))
    return document("lsm2-kernels: benchmarks", parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=[RESULTS], help="default: all saved")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    args = parser.parse_args(arguments)
    args.out.write_text(render(find_results(args.results)))
    print(args.out)


if __name__ == "__main__":
    main()
