"""The tables of README.md and RESULTS.md, from the CSV of results/: `python -m benchmarks.pages` writes them
anew.

In a page a table stands between the comments `<!-- table: NAME -->` and `<!-- end of table -->`; a test tells
whether they are those of results/.
"""

import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.attention import page_tables as attention
from benchmarks.measure.tables import markdown
from benchmarks.science import page_tables as science
from benchmarks.step import page_tables as step
from benchmarks.triton.launch_model import schedule_table

PAGES = Path(__file__).parents[1] / "README.md", Path(__file__).parent / "RESULTS.md"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = attention.TABLES | step.TABLES | science.TABLES
TABLES |= {"schedule": schedule_table, "summary": lambda: summary()}


def summary() -> str:
    """Five rows of the other tables, for the front page."""

    def row(table: str, start: str) -> list[str]:
        (line,) = (line for line in TABLES[table]().splitlines() if line.startswith(f"| {start} |"))
        return [cell.strip() for cell in line.strip("|").split("|")]

    found = {dtype: row("attention_cpu", f"64, {dtype}, 2")[1:3] for dtype in ("float32", "bfloat16")}
    masked = " forward, ".join(row("masked_attention", "SDPA with a key mask")[3].split(" / "))
    against = "base, `cross` against"
    steps = [row("train_step_targets", f"{against} {way}")[1:] for way in ("the paper's way", "dense")]
    paper, dense = (sorted(ratios, key=lambda ratio: float(ratio[:-1])) for ratios in steps)
    memory = row("peak_memory", "base, 49 % missing")[1:]
    forward, backward = "attention, forward", "attention, forward + backward"
    means = [[cell.split(" ")[0].strip("*") for cell in cells] for cells in found.values()]
    rows = [
        (forward, "the better of torch's two SDPA ways", f"{means[0][0]} float32, {means[1][0]} bfloat16"),
        (backward, "the same", f"{means[0][1]} float32, {means[1][1]} bfloat16"),
        ("`masked_attention`, 50 % missing", "SDPA with a key mask", f"{masked} with backward"),
        (
            "a training step, 25M, 49 % missing",
            "the paper's way; a dense encoder",
            f"{paper[0]} to {paper[-1]}; {dense[0]} to {dense[-1]}",
        ),
        ("its peak memory", "the same", f"{memory[0]} MB a day against {memory[3]}; {memory[4]}"),
    ]
    return markdown(("on two cores of a CPU (Zen 4)", "against", "times as fast"), rows)


def fill(text: str) -> str:
    """The text with every table anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> None:
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
