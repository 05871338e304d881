"""`python -m benchmarks.compare`: regressions beyond noise and drift, and nothing else."""

from __future__ import annotations

import json

import pytest

from benchmarks import compare


def write(path, spread=0.01, **medians):
    """A file of pytest-benchmark with one race of these ways."""
    ways = {
        way: {"median_seconds": median, "p20_seconds": median * (1 - spread), "p80_seconds": median * (1 + spread)}
        for way, median in medians.items()
    }
    stats = {"median": medians["ours"], "q1": medians["ours"], "q3": medians["ours"]}
    path.write_text(json.dumps({"benchmarks": [{"fullname": "attention.py::bench", "stats": stats, "extra_info": ways}]}))
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
    ids=["slower", "faster", "small", "within noise", "machine slower", "beyond noise", "kept while the machine sped up"],
)
def test_verdicts(tmp_path, after, spread, expected):
    before = write(tmp_path / "before.json", spread, ours=1.0, sdpa=3.0, flex=5.0)
    assert verdict_of(before, write(tmp_path / "after.json", spread, **after)) == [expected]


def test_exit_status_and_table(tmp_path, capsys, monkeypatch):
    files = [str(write(tmp_path / "before.json", ours=1.0, sdpa=3.0)), str(write(tmp_path / "after.json", ours=1.5, sdpa=3.0))]
    for order, status in ((files, True), (files[::-1], False)):
        monkeypatch.setattr("sys.argv", ["compare", *order])
        with pytest.raises(SystemExit) as ended:
            compare.main()
        assert ended.value.code == status
        assert ("REGRESSION" in capsys.readouterr().out) == status


def test_a_file_that_holds_no_results_is_named(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"notes\.json: no results of pytest-benchmark"):
        compare.read_medians(tmp_path / "notes.json")
