"""`python -m benchmarks.report`: every kind of file of results on one page, with what ours loses and what did not run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import report

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def test_committed_results_make_one_self_contained_page(tmp_path, monkeypatch, capsys):
    out = tmp_path / "report.html"
    monkeypatch.setattr("sys.argv", ["report", str(RESULTS), "--out", str(out)])
    report.main()
    page = out.read_text()
    assert capsys.readouterr().out.strip() == str(out)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert {"Attention", "Training step", "Files"} <= set(headings)
    assert page.count("data:image/png;base64,") >= 3
    assert "AMD EPYC" in page
    assert not re.search(r"(src|href)=.?https?:", page) and "<script" not in page


def test_losses_and_failures_are_shown(tmp_path):
    extra = {"ours": {"median_seconds": 2.0}, "winner": {"ratio_to_ours": 0.5}, "loser": {"ratio_to_ours": 3.0}}
    suite = {"benchmarks": [{"fullname": "benchmarks/packing.py::bench_pack", "name": "bench_pack", "extra_info": extra}]}
    case = {"threads": 2, "dtype": "float32", "head_dim": 64, "direction": "forward", "pattern": "aim"}
    failed = {"case": case, "peer": "flex", "seconds": None, "ratio": None, "note": "RuntimeError: <no kernel>"}
    machine = {"cpu_model": "some processor", "torch": "2.13", "gpu": None}
    attention = {"machine": machine, "lines": [], "peers": [failed]}
    for name, content in {"suite": suite | {"machine_info": machine}, "attention": attention}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = report.render(report.find_reports([tmp_path]))
    assert "1 of 2 above 1 (ours is faster), 1 below" in page
    assert "flex, D 64, float32, forward, aim, 2 threads: RuntimeError: &lt;no kernel&gt;" in page
    assert "some processor, torch 2.13" in page


def test_of_several_runs_the_median_counts(tmp_path):
    for number, ratio in enumerate((1.0, 9.0, 2.0)):
        extra = {"peer": {"ratio_to_ours": ratio}}
        suite = {"benchmarks": [{"fullname": "packing.py::bench", "name": "bench", "extra_info": extra}], "machine_info": {}}
        (tmp_path / f"run{number}.json").write_text(json.dumps(suite))
    assert "<td>2.00</td>" in report.render(report.find_reports([tmp_path]))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"absent\.json does not exist"):
        report.find_reports([tmp_path / "absent.json"])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SystemExit, match=r"broken\.json is no JSON"):
        report.find_reports([tmp_path / "broken.json"])
