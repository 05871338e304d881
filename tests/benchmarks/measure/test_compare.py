"""`python -m benchmarks.measure.compare`: regressions beyond noise and drift, and nothing else."""

from __future__ import annotations

import random

import pytest

from benchmarks.measure import compare, results
from benchmarks.measure.results import Race, write_results


def way_of(median, spread=0.01):
    return {
        "median_seconds": median,
        "p20_seconds": median * (1 - spread),
        "p80_seconds": median * (1 + spread),
    }


def write(path, spread=0.01, machine="a machine", **medians):
    """A file of results with one race of these ways."""
    ways = {way: way_of(median, spread) for way, median in medians.items()}
    race = Race("attention", "D 64", {}, ways, laps=[medians["ours"]])
    write_results(path, [race], machine={"machine": machine})
    return path


def verdict_of(before, after):
    before, after = compare.read_medians(before), compare.read_medians(after)
    return [compare.compare(before[name], after[name], name).verdict for name in before]


@pytest.mark.parametrize(
    ("after", "spread", "expected"),
    [
        ({"ours": 1.2, "sdpa": 3.0, "flex": 5.0}, 0.01, "REGRESSION"),
        ({"ours": 0.8, "sdpa": 3.0, "flex": 5.0}, 0.01, "gain"),
        ({"ours": 1.03, "sdpa": 3.0, "flex": 5.0}, 0.01, ""),
        ({"ours": 1.2, "sdpa": 3.0, "flex": 5.0}, 0.2, ""),
        ({"ours": 2.0, "sdpa": 6.0, "flex": 10.0}, 0.01, ""),
        ({"ours": 2.0, "sdpa": 3.0, "flex": 5.0}, 0.2, "REGRESSION"),
        ({"ours": 1.0, "sdpa": 1.5, "flex": 2.5}, 0.01, "REGRESSION"),
    ],
    ids=[
        "slower",
        "faster",
        "small",
        "within noise",
        "machine slower",
        "beyond noise",
        "kept while the machine sped up",
    ],
)
def test_verdicts(tmp_path, after, spread, expected):
    before = write(tmp_path / "before.json", spread, ours=1.0, sdpa=3.0, flex=5.0)
    assert verdict_of(before, write(tmp_path / "after.json", spread, **after)) == [expected]


def test_on_a_noisy_machine_only_what_stands_out_is_told():
    rng = random.Random(0)

    def run(slower: int | None = None) -> dict[str, dict[str, dict[str, float]]]:
        medians = {}
        for number in range(40):
            ours = rng.lognormvariate(0, 0.05) * (2.5 if number == slower else 1)
            seconds = {"ours": ours, "sdpa": rng.lognormvariate(1, 0.05)}
            medians[f"case {number}"] = {way: way_of(time) for way, time in seconds.items()}
        return medians

    assert [change.name for change in compare.compare_all(run(), run()) if change.verdict] == []
    changes = compare.compare_all(run(), run(slower=7))
    assert [(change.name, change.verdict) for change in changes if change.verdict] == [
        ("case 7", "REGRESSION")
    ]


def test_exit_status_and_table(tmp_path, capsys):
    before = write(tmp_path / "before.json", ours=1.0, sdpa=3.0)
    after = write(tmp_path / "after.json", ours=1.5, sdpa=3.0)
    for files, status in (((before, after), True), ((after, before), False)):
        with pytest.raises(SystemExit) as ended:
            compare.main([str(file) for file in files])
        assert ended.value.code == status
        assert ("REGRESSION" in capsys.readouterr().out) == status


def test_csv_and_json_of_one_run_are_compared(tmp_path, capsys):
    before = write(tmp_path / "run.json", ours=1.0, sdpa=3.0)
    results.main([str(before), "--csv", str(tmp_path / "run.csv")])
    with pytest.raises(SystemExit) as ended:
        compare.main([str(tmp_path / "run.csv"), str(write(tmp_path / "after.json", ours=1.5, sdpa=3.0))])
    assert ended.value.code == 1 and "1 regressions" in capsys.readouterr().out


def test_results_of_different_machines_are_refused(tmp_path, capsys):
    files = [write(tmp_path / f"{name}.json", machine=name, ours=1.0) for name in ("Zen 3", "Zen 4")]
    with pytest.raises(SystemExit):
        compare.main([str(file) for file in files])
    assert "different machines: Zen 3; Zen 4" in capsys.readouterr().err


def test_a_peer_that_did_not_run_does_not_count(tmp_path):
    ways = {"ours": way_of(1.0), "flex": {"error": "no kernel"}}
    races = [
        Race("attention", "D 64", {}, ways, laps=[1.0]),
        Race("attention", "D 8", {}, {"flex": ways["flex"]}),
    ]
    write_results(tmp_path / "one.json", races)
    assert list(compare.read_medians(tmp_path / "one.json")) == ["attention: D 64"]
    assert verdict_of(tmp_path / "one.json", tmp_path / "one.json") == [""]
