"""Saved results: one form for suites and programs, which pytest-benchmark itself reads, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure.results import Race, find_results, main, read_csv, read_json, write_results
from benchmarks.measure.timing import compare_laps

ROOT = Path(__file__).parents[3]
SUITE = """
from benchmarks.measure.suite import leave_out, race

import pytest

@pytest.mark.benchmark(group="packing")
def bench_two_ways(benchmark):
    peers = {"peer": lambda: sum(range(3000))}
    errors = {"broken": "no kernel"}
    race(benchmark, lambda: sum(range(1000)), peers, rounds=3, errors=errors, useful_flops=1000.0)

@pytest.mark.benchmark(group="packing")
def bench_slow(benchmark):
    leave_out(benchmark, "too slow here", dtype="bfloat16")
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
    results = read_json(tmp_path / "results.json")
    assert results.races == races
    assert results.races[0].ways["peer"] == {
        "median_seconds": 5.0,
        "p20_seconds": 4.4,
        "p80_seconds": pytest.approx(5.6),
        "shortest_seconds": 4.0,
        "rounds": 3,
        "ratio_to_ours": 2.5,
    }
    assert f"torch {torch.__version__}" in results.machine["versions"]
    assert {"machine", "driver", "versions", "commit", "date"} <= set(results.machine)


def test_a_csv_holds_what_the_json_holds(tmp_path):
    laps = {"ours": [2.0, 1.0, 3.0], "peer": [6.0, 5.0, 4.0]}
    params = {"head_dim": 64, "missing": 0.49, "window": "day"}
    extra = {
        "dtype": "bfloat16",
        "useful_flops": 1.25e9,
        "ceilings": {"flops_per_second": 4e11},
        "curve": {"steps": [10.0, 20.0], "error": [0.5, 0.25]},
        "errors": {"random_80": {"aim": 0.5, "mean": 1.0}},
    }
    ways = compare_laps(laps) | {
        "flex": {"error": 'no kernel, "here"\nnor there'},
        "slow": {"note": "forward only"},
    }
    races = [
        Race("attention", "D 64, bfloat16", params, ways, extra, laps["ours"]),
        Race("attention", "D 8", {}, {"ours": {"error": "out of memory"}}),
    ]
    machine = {
        "machine": "a GPU",
        "driver": "580.1",
        "versions": "torch 2.13, triton 3.9",
        "commit": "0123456789ab",
    }
    for run in ("run1", "run2"):
        write_results(tmp_path / f"{run}.json", races, machine=machine)
    file = tmp_path / "day.csv"
    main([str(tmp_path / "run1.json"), str(tmp_path / "run2.json"), "--csv", str(file)])
    main([str(tmp_path / "run2.json"), "--csv", str(file)])
    first, second = read_csv(file)
    assert (first.run, second.run) == ("run1", "run2")
    assert (
        first.machine == machine | {"date": first.machine["date"]}
        and first.machine_name == "a GPU, torch 2.13"
    )
    for found, race in zip(first.races, races, strict=True):
        assert (found.suite, found.case, found.params) == (race.suite, race.case, race.params)
        assert found.extra == race.extra
        assert list(found.ways) == list(race.ways)
        assert all(
            found.ways[name] == pytest.approx(way) for name, way in race.ways.items() if "error" not in way
        )
    assert first.races[0].ways["flex"] == ways["flex"] and first.races[1].ways == races[1].ways
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"other\.csv is no CSV of benchmarks"):
        read_csv(tmp_path / "other.csv")


def test_pytest_benchmark_reads_them(tmp_path):
    for number in (1, 2):
        race = Race("attention", "D 64", {}, {"ours": {}}, laps=[1.0, 2.0, 3.0 * number])
        write_results(tmp_path / f"000{number}_run.json", [race])
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "compare",
        *map(str, sorted(tmp_path.glob("*.json"))),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("attention[D 64]") == 2


def test_a_suite_saves_the_same_form(tmp_path):
    for name in ("pytest.ini", "conftest.py"):
        (tmp_path / name).write_text((ROOT / "benchmarks" / name).read_text())
    (tmp_path / "bench_packing.py").write_text(SUITE)
    out = tmp_path / "suite.json"

    def run(*options: str) -> str:
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(tmp_path / "bench_packing.py"),
            f"--benchmark-json={out}",
            *options,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "broken did not run: no kernel" in run()
    race, slow = find_results([out])[0].races
    assert slow.case == "bench_slow-bfloat16" and slow.ways == {"ours": {"error": "too slow here"}}
    assert (race.suite, race.ours, race.extra) == ("packing", "ours", {"useful_flops": 1000.0})
    assert (
        race.ways["broken"] == {"error": "no kernel"}
        and race.ways["peer"]["ratio_to_ours"] > 1
        and len(race.laps) == 3
    )
    assert "2 skipped" in run("--seconds", "0")


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
