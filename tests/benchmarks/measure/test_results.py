"""Saved results: one form for suites and programs, which pytest-benchmark itself reads, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure.results import Race, find_results, read_results, write_results
from benchmarks.measure.timing import compare_laps

ROOT = Path(__file__).parents[3]
SUITE = """
from benchmarks.measure.timing import race

def bench_two_ways(benchmark):
    peers = {"peer": lambda: sum(range(3000))}
    race(benchmark, lambda: sum(range(1000)), peers, rounds=3, errors={"broken": "no kernel"}, useful_flops=1000.0)
"""


def test_what_is_written_is_read(tmp_path):
    laps = {"ours": [2.0, 1.0, 3.0], "peer": [6.0, 5.0, 4.0]}
    races = [
        Race(
            "attention",
            "D 64",
            {"head_dim": 64},
            compare_laps(laps) | {"flex": {"error": "no kernel"}},
            {"useful_flops": 1e9},
            laps["ours"],
        ),
        Race("attention", "D 8", {}, {"ours": {"error": "out of memory"}}, laps=[]),
    ]
    write_results(tmp_path / "results.json", races)
    results = read_results(tmp_path / "results.json")
    assert results.races == races
    assert results.races[0].ways["peer"] == {
        "median_seconds": 5.0, "p20_seconds": 4.4, "p80_seconds": pytest.approx(5.6), "shortest_seconds": 4.0, "ratio_to_ours": 2.5,
    }  # fmt: skip
    assert results.machine["torch"] == torch.__version__ and {"commit", "triton", "gpu", "cpu_model"} <= set(results.machine)


def test_pytest_benchmark_reads_them(tmp_path):
    for number in (1, 2):
        write_results(tmp_path / f"000{number}_run.json", [Race("attention", "D 64", {}, {"ours": {}}, laps=[1.0, 2.0, 3.0 * number])])
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, sorted(tmp_path.glob("*.json")))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("attention[D 64]") == 2


def test_a_suite_saves_the_same_form(tmp_path):
    for name in ("pytest.ini", "conftest.py"):
        (tmp_path / name).write_text((ROOT / "benchmarks" / name).read_text())
    (tmp_path / "packing.py").write_text(SUITE)
    out = tmp_path / "suite.json"

    def run(*options: str) -> str:
        command = [sys.executable, "-m", "pytest", str(tmp_path / "packing.py"), f"--benchmark-json={out}", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "broken did not run: no kernel" in run()
    (race,) = find_results([out])[0].races
    assert (race.suite, race.ours, race.extra) == ("packing", "ours", {"useful_flops": 1000.0})
    assert race.ways["broken"] == {"error": "no kernel"} and race.ways["peer"]["ratio_to_ours"] > 1 and len(race.laps) == 3
    assert "1 skipped" in run("--seconds", "0")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"absent\.json does not exist"):
        find_results([tmp_path / "absent.json"])
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    assert find_results([tmp_path]) == []
    with pytest.raises(SystemExit, match=r"notes\.json holds no results"):
        find_results([tmp_path / "notes.json"])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SystemExit, match=r"broken\.json is no JSON"):
        find_results([tmp_path / "broken.json"])
