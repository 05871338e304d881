"""All results on one page. `python -m benchmarks.report RESULT [RESULT ...] --out report.html`, files of JSON or folders of them

Reads what pytest-benchmark and the programs attention, attention_gpu, train_step and time_to_quality wrote. Each comparison becomes a map:
a row per case, a column per peer, a cell with the peer's time over ours (above 1, blue: ours is faster; below, red: the peer is). Of a case
that several files measured on the same machine the median counts. Peers that did not run are listed with their errors.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import time_to_quality_report, train_step_plot
from benchmarks.ratio_map import draw_ratio_map
from benchmarks.tables import grouped
from lsm2.report.html import document, figure, section, table


@dataclass(frozen=True)
class Ratio:
    """A peer's time over ours in one case; None and a note where the peer did not run."""

    question: str
    machine: str
    case: str
    peer: str
    ratio: float | None
    note: str = ""


def read_attention(report: dict[str, Any], machine: str) -> Iterator[Ratio]:
    """Of benchmarks.attention."""
    for line in report["lines"]:
        peers = ((peer, seconds / line["seconds"]) for peer, seconds in line["peers"].items())
        yield from (Ratio("Attention", machine, _attention_case(line["case"], line["level"]), peer, ratio) for peer, ratio in peers)
    for line in report["peers"]:
        if line["peer"] != "ours":
            yield Ratio("Attention, other libraries", machine, _attention_case(line["case"]), line["peer"], line["ratio"], line["note"])


def _attention_case(case: dict[str, Any], level: str = "") -> str:
    where = [f"D {case['head_dim']}", case["dtype"], case["direction"], case["pattern"], f"{case['threads']} threads", level]
    return ", ".join(part for part in where if part)


def read_attention_gpu(report: dict[str, Any], machine: str) -> Iterator[Ratio]:
    """Of benchmarks.attention_gpu."""
    for result in report["results"]:
        if result["way"] != "ours":
            case = f"D {result['head_dim']}, {result['direction']}, {result['pattern']}"
            yield Ratio("Attention", machine, case, result["way"], result["ratio"], result["note"])


def read_train_step(report: dict[str, Any], machine: str) -> Iterator[Ratio]:
    """Of benchmarks.train_step."""
    for result in train_step_plot.read_results(report):
        if result.way != "ours_cross":
            yield Ratio("Training step", machine, result.case.title, result.way, result.ratio, result.note)


def read_races(report: dict[str, Any], machine: str) -> Iterator[Ratio]:
    """Of pytest-benchmark."""
    for benchmark in report["benchmarks"]:
        suite = Path(benchmark["fullname"].split("::")[0]).stem
        for peer, info in benchmark["extra_info"].items():
            if isinstance(info, dict) and "ratio_to_ours" in info:
                yield Ratio(f"Suite {suite}", machine, benchmark["name"], peer, info["ratio_to_ours"])


def reader_of(report: dict[str, Any]) -> Callable[[dict[str, Any], str], Iterator[Ratio]] | None:
    """Which program wrote this; None for one without ratios."""
    if "benchmarks" in report:
        return read_races
    if "lines" in report and "peers" in report:
        return read_attention
    first = next(iter(report.get("results", ())), None)
    if isinstance(first, dict) and "way" in first:
        return read_train_step if "case" in first else read_attention_gpu
    return None


def name_of(report: dict[str, Any]) -> str:
    """The machine, as far as the file says."""
    machine = report.get("machine") or report.get("machine_info") or {}
    if "machine_name" in report or not isinstance(machine, dict):
        return str(report.get("machine_name") or machine)
    return f"{machine.get('gpu') or machine.get('cpu_model', 'unknown machine')}, torch {machine.get('torch')}"


def find_reports(paths: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """By file; raises SystemExit for a path that is not there or a named file that holds no JSON object."""
    reports = {}
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path} does not exist; name files of results or folders of them")
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            try:
                report = json.loads(file.read_bytes())
            except ValueError as error:
                raise SystemExit(f"{file} is no JSON ({error})") from None
            if isinstance(report, dict):
                reports[file] = report
    return reports


def map_section(question: str, machine: str, ratios: Sequence[Ratio]) -> str:
    """One comparison: the picture, the numbers, what did not run."""
    cells: dict[tuple[str, str], float] = {}
    for key, group in grouped(ratios, lambda ratio: (ratio.case, ratio.peer)):
        measured = [ratio.ratio for ratio in group if ratio.ratio is not None]
        if measured:
            cells[key] = statistics.median(measured)
    cases, peers = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    failures = dict.fromkeys(f"{ratio.peer}, {ratio.case}: {ratio.note}" for ratio in ratios if ratio.ratio is None and ratio.note)
    parts = [f'<p class="soft">{escape(machine)}</p>']
    if cells:
        picture = io.BytesIO()
        draw_ratio_map(picture, cases, peers, cells)
        lost = sum(ratio < 1 for ratio in cells.values())
        caption = f"Time of each peer over ours: {len(cells) - lost} of {len(cells)} above 1 (ours is faster), {lost} below"
        rows = [
            ([case, *(f"{cells[case, peer]:.2f}" if (case, peer) in cells else "-" for peer in peers)], [""] * (1 + len(peers)))
            for case in cases
        ]
        parts += [figure(caption, picture.getvalue()), f"<details><summary>Numbers</summary>{table(['case', *peers], rows)}</details>"]
    if failures:
        parts.append(
            "<details><summary>Did not run</summary>" + "".join(f"<p>{escape(failure)}</p>" for failure in failures) + "</details>"
        )
    return section(question, "\n".join(parts))


def curve_sections(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Training steps against missing fraction and window, and errors against time, for each machine and store."""
    steps = [report for report in reports if reader_of(report) is read_train_step]
    for machine, group in grouped(steps, name_of):
        results = {(result.case, result.way): result for report in group for result in train_step_plot.read_results(report)}
        for preset, of_preset in grouped(results.values(), lambda result: result.case.preset):
            if len({result.case for result in of_preset}) > 1:
                picture = io.BytesIO()
                train_step_plot.draw(picture, of_preset, machine)
                yield section(f"Training step: {preset}", figure("Milliseconds per window", picture.getvalue()))
    trainings = [report for report in reports if "runs" in report]
    for (machine, store), group in grouped(trainings, lambda report: (name_of(report), report["store"])):
        runs = [time_to_quality_report.Run(**run) for report in group for run in report["runs"]]
        picture = io.BytesIO()
        time_to_quality_report.draw(picture, runs, f"{store}, {group[0]['preset']}. {machine}")
        yield section(
            f"Time to quality: {store}", figure("Error of held-out people's hidden minutes; means over seeds", picture.getvalue())
        )


def render(reports: dict[Path, dict[str, Any]]) -> str:
    """The page."""
    ratios = [ratio for report in reports.values() if (read := reader_of(report)) for ratio in read(report, name_of(report))]
    sections = [map_section(question, machine, group) for (question, machine), group in grouped(ratios, lambda r: (r.question, r.machine))]
    rows = [
        ([file.name, name_of(report), str((report.get("machine") or {}).get("commit") or "-")[:12]], ["", "", ""])
        for file, report in reports.items()
        if reader_of(report) or "runs" in report
    ]
    files = section("Files", table(["file", "machine", "commit"], rows))
    return document(
        "lsm2-kernels: benchmarks", ["<h1>lsm2-kernels: benchmarks</h1>", *sections, *curve_sections(list(reports.values())), files]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    args = parser.parse_args()
    args.out.write_text(render(find_reports(args.results)))
    print(args.out)


if __name__ == "__main__":
    main()
