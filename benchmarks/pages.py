"""The tables of README.md and RESULTS.md, from the CSV of results/: `python -m benchmarks.pages` writes them
anew.

In a page a table stands between the comments `<!-- table: NAME -->` and `<!-- end of table -->`; a test tells
whether they are those of results/.
"""

import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.attention import page_tables as attention
from benchmarks.science import page_tables as science
from benchmarks.step import page_tables as step
from benchmarks.triton.launch_model import schedule_table

PAGES = Path(__file__).parents[1] / "README.md", Path(__file__).parent / "RESULTS.md"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = attention.TABLES | step.TABLES | science.TABLES
TABLES |= {"schedule": schedule_table}


def fill(text: str) -> str:
    """The text with every table anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> None:
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
