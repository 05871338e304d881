"""The loop of programs that take turns: save after each, end in time, report what failed or was left out."""

import argparse
import contextlib
import gc
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from benchmarks.measure.agreement import describe_error
from benchmarks.measure.environment import describe_machine
from benchmarks.measure.results import Race, write_results

Turn = TypeVar("Turn")


def take_turns(
    turns: list[Turn],
    take: Callable[[Turn, list[Race]], Iterable[Race]],
    title: Callable[[Turn], str],
    args: argparse.Namespace,
) -> list[Race]:
    """Take turns until time is up, save after each, and print what failed and what was left out.

    `take` gets a turn and all earlier races. A way of a later turn joins the race of its case with its ratio
    to ours there; ours stays that of the first. A program calls `end` after its report.
    """
    start = time.monotonic()
    races: dict[str, Race] = {}
    failures: list[str] = []
    left = list(turns)
    machine = describe_machine() | {"dry_run": args.dry_run}  # once: it starts other programs
    with contextlib.suppress(KeyboardInterrupt):  # it ends the measurement, not the report
        while left and time.monotonic() - start < args.seconds:
            try:
                for found in take(left[0], list(races.values())):
                    ways = races.setdefault(found.case, found).ways
                    ways.update({name: way for name, way in found.ways.items() if name not in ways})
            except Exception as error:
                failures.append(f"failed: {title(left[0])}: {describe_error(error)}")
            print(f"{time.monotonic() - start:6.1f} s  {title(left.pop(0))}", flush=True)
            gc.collect()
            if args.json is not None:
                write_results(args.json, races.values(), machine=machine | {"failures": failures})
    if args.dry_run:
        print("a dry run: no number below says anything about speed")
    print(*failures, *(f"left out for want of time: {title(turn)}" for turn in left), sep="\n")
    args.failures = failures
    return list(races.values())


def end(args: argparse.Namespace) -> None:
    """Exit with 1 where a turn failed."""
    if args.failures:
        raise SystemExit(1)
