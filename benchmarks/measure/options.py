"""Options of programs."""

import argparse
import math
from pathlib import Path


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """With the module's text as help."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_run_options(parser: argparse.ArgumentParser, seconds: float = math.inf) -> None:
    """What every program that takes turns understands."""
    parser.add_argument("--seconds", type=float, default=seconds, help="no turn is begun after so long")
    parser.add_argument("--json", type=Path, help="file for all numbers, written anew after every turn")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU: shows that it runs")
